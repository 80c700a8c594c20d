"""What is special about cached segments; the contract itself is in test_contract_*.py."""

import pytest
import torch
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.chunk_core import reset_linear_attention, reset_linear_attention_at
from embodied_mem.memory.contract import make_memory

H, K, V, R = 2, 3, 4, 5


def build(**config):
    torch.manual_seed(0)
    sizes = {"heads": H, "key_dim": K, "value_dim": V, "router_dim": R, "segment": 4, "caches": 3, "conv": 1}
    memory = make_memory("memory_caching", **{"in_dim": 6, "out_dim": 5, **sizes, **config}).double()
    with torch.no_grad():
        memory.project.mul_(2)
    return memory


def by_hand(memory, x, resets):
    c, outputs = memory.config, []
    Ls, start = c.segment, torch.zeros(H, K, V, dtype=torch.float64)
    for t, token in enumerate(x):
        if t == 0 or resets[t]:
            S, cached, keys, began = start, [], [], t
        p = t - began
        if p % Ls == 0:
            segment = []
        pre, gate, gates = (token @ memory.project + memory.bias).split(memory.sizes)
        q, k, v = F.silu(pre).view(H, 2 * K + V).split((K, K, V), -1)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        write, forget, u, s = gates.split((H, H, R, R))
        fresh = p == 0 or (c.carry == "independent" and p % Ls == 0)
        S = start if fresh else (-F.softplus(forget)).exp().view(H, 1, 1) * S
        S = S + torch.einsum("h,hk,hv->hkv", write.sigmoid(), k, v - torch.einsum("hk,hkv->hv", k, S))
        segment.append(s)
        memories = [S, *cached[-c.caches :]]
        if c.mode == "residual":
            g = torch.ones(len(memories), dtype=torch.float64)
        else:
            held = keys[-c.caches :]
            scores = [u @ (sum(segment) / len(segment)) / R**0.5]
            scores += [u @ key / R**0.5 - 1e-6 * (len(held) - i) for i, key in enumerate(held)]
            if c.mode == "ssc":
                best = sorted(range(1, len(scores)), key=lambda i: -float(scores[i]))[: c.top_k]
                memories, scores = ([part[0], *(part[i] for i in best)] for part in (memories, scores))
            g = torch.stack(scores).softmax(0)
        if c.mode == "soup":
            o = torch.einsum("hk,hkv->hv", q, sum(w * held for w, held in zip(g, memories)))
        else:
            o = sum(w * torch.einsum("hk,hkv->hv", q, held) for w, held in zip(g, memories))
        o = o / o.norm(dim=-1, keepdim=True).clamp_min(1e-2) * V**0.5
        outputs.append(token @ memory.skip + (o.flatten() * F.silu(gate)) @ memory.out)
        if p % Ls == Ls - 1:
            cached.append(S)
            keys.append(sum(segment) / Ls)
    return torch.stack(outputs)


@pytest.mark.parametrize("mode", ["residual", "grm", "soup", "ssc"])
@pytest.mark.parametrize("carry", ["checkpoint", "independent"])
def test_equals_the_equations(mode, carry):
    memory = build(mode=mode, carry=carry, top_k=2)
    x = torch.randn(60, 6, dtype=torch.float64)
    resets = torch.rand(60, generator=torch.Generator().manual_seed(3)) < 0.04
    with torch.no_grad():
        want = by_hand(memory, x, resets)
        y, _ = memory.sequence(x.unsqueeze(0), None, resets.unsqueeze(0), chunk=8)
    assert torch.allclose(y[0], want, atol=1e-9)


def test_soup_of_linear_memories_is_the_gated_form():
    grm, soup = build(mode="grm"), build(mode="soup")
    x = torch.randn(2, 40, 6, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(grm.sequence(x)[0], soup.sequence(x)[0], atol=1e-12)


def test_selecting_all_caches_is_the_gated_form():
    grm, ssc = build(mode="grm"), build(mode="ssc", top_k=3)
    x = torch.randn(2, 40, 6, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(grm.sequence(x)[0], ssc.sequence(x)[0])


def test_caches_hold_the_state_at_the_end_of_each_segment():
    memory = build()
    x = torch.randn(1, 23, 6, dtype=torch.float64)
    with torch.no_grad():
        state = memory.sequence(x)[1]
        # segments 2, 3, 4 are the last three of five; segment j lies in slot j % 3
        for j in (2, 3, 4):
            want = memory.sequence(x[:, : 4 * (j + 1)])[1]["S"]
            assert torch.allclose(state["cache"][:, j % 3], want, atol=1e-12)


def test_caching_reads_what_the_core_has_overwritten():
    """The same key is written anew in every segment: the core holds the last value, the caches all of them."""
    memory = build(mode="grm", segment=1, caches=3)
    token = torch.randn(6, dtype=torch.float64)
    x = torch.randn(1, 4, 6, dtype=torch.float64)
    with torch.no_grad():
        state = memory.sequence(x)[1]
        cleared = {**state, "cache": torch.zeros_like(state["cache"])}
        y, _ = memory.step(token.unsqueeze(0), state)
        z, _ = memory.step(token.unsqueeze(0), cleared)
    assert (y - z).abs().max() > 1e-3


def test_states_at_chosen_tokens_equal_those_of_shorter_runs():
    torch.manual_seed(0)
    B, T = 2, 19
    q, k = F.normalize(torch.randn(2, B, T, H, K, dtype=torch.float64), dim=-1)
    v, gates = torch.randn(B, T, H, V, dtype=torch.float64), torch.rand(2, B, T, H, dtype=torch.float64)
    resets, S0 = torch.rand(B, T) < 0.15, torch.randn(B, H, K, V, dtype=torch.float64)
    at, start = torch.randint(T, (B, 5)), torch.randn(H, K, V, dtype=torch.float64)
    for beta in (None, gates[1]):
        for S_init in (None, start):
            _, _, found = reset_linear_attention_at(
                q, k, v, -gates[0], beta, at=at, reset=resets, S0=S0, S_init=S_init, chunk=5
            )
            for row in range(B):
                for j, t in enumerate(at[row].tolist()):
                    part = [z[row : row + 1, : t + 1] for z in (q, k, v, -gates[0])]
                    b = None if beta is None else beta[row : row + 1, : t + 1]
                    _, want = reset_linear_attention(
                        *part, b, reset=resets[row : row + 1, : t + 1], S0=S0[row : row + 1], S_init=S_init
                    )
                    assert torch.allclose(found[row, j], want[0], atol=1e-12)
    with pytest.raises(ValueError, match="decay per head"):
        reset_linear_attention_at(q, k, v, -torch.ones_like(k), at=at, reset=resets, S0=S0)


@pytest.mark.parametrize(
    "config", [{"caches": 0}, {"segment": 0}, {"mode": "mean"}, {"carry": "none"}, {"top_k": 0}, {"router_dim": 0}]
)
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
