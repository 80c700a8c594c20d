"""What is special about the mixture of memories; the contract itself is in test_contract_*.py."""

import pytest
import torch
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory

H, K, V, M = 2, 3, 4, 3


def build(**config):
    torch.manual_seed(0)
    base = {"in_dim": 6, "out_dim": 5, "heads": H, "key_dim": K, "value_dim": V, "memories": M, "conv": 1}
    memory = make_memory("mom", **{**base, **config}).double()
    with torch.no_grad():
        memory.project.mul_(2)
    return memory


def parts(memory, x):
    """Everything a token's input decides: q (H, K), k and v of every memory, router logits, write strength, decay."""
    c = memory.config
    total = M + c.shared
    pre, gate, gates = (x @ memory.project + memory.bias).split(memory.sizes)
    q, rest = F.silu(pre).split((H * K, len(pre) - H * K))
    k, v = rest.view(-1, H, K + V).split((K, V), -1)
    if c.single_kv:
        k, v = k.expand(total, H, K), v.expand(total, H, V)
    logits, write, forget = gates.split((M, total * H, total * H))
    decay = (-F.softplus(forget)).exp().view(total, H)
    return (
        F.normalize(q.view(H, K), dim=-1),
        F.normalize(k, dim=-1),
        v,
        gate,
        logits,
        write.sigmoid().view(total, H),
        decay,
    )


def by_hand(memory, x, resets):
    c, outputs = memory.config, []
    total = M + c.shared
    for t, token in enumerate(x):
        if t == 0 or resets[t]:
            S = torch.zeros(total, H, K, V, dtype=torch.float64)
        q, k, v, gate, logits, b, a = parts(memory, token)
        chosen = sorted(range(M), key=lambda m: -float(logits[m]))[: c.top_k]
        p = logits.softmax(0)
        weight = {m: p[m] / sum(p[j] for j in chosen) for m in chosen}
        if c.shared:
            weight[M] = 1.0
        o = torch.zeros(H, V, dtype=torch.float64)
        for m, g in weight.items():
            for h in range(H):
                held = (a[m, h] if not (t == 0 or resets[t]) else 1) * S[m, h]
                S[m, h] = held + b[m, h] * torch.outer(k[m, h], v[m, h] - k[m, h] @ held)
                o[h] += g * (q[h] @ S[m, h])
        o = o / o.norm(dim=-1, keepdim=True).clamp_min(1e-2) * V**0.5
        outputs.append(token @ memory.skip + (o.flatten() * F.silu(gate)) @ memory.out)
    return torch.stack(outputs), S


@pytest.mark.parametrize("config", [{}, {"top_k": 1}, {"shared": False}, {"single_kv": True}, {"top_k": 3}])
def test_equals_the_equations(config):
    memory = build(**config)
    x = torch.randn(40, 6, dtype=torch.float64)
    resets = torch.rand(40, generator=torch.Generator().manual_seed(3)) < 0.06
    with torch.no_grad():
        y, state = memory.sequence(x.unsqueeze(0), None, resets.unsqueeze(0), chunk=8)
        want, S = by_hand(memory, x, resets)
    assert torch.allclose(y[0], want, atol=1e-9)
    assert torch.allclose(state["S"][0], S.flatten(0, 1), atol=1e-10)


def test_a_memory_that_is_not_routed_to_keeps_every_bit():
    memory = build(top_k=1)
    x = torch.randn(1, 30, 6, dtype=torch.float64)
    with torch.no_grad():
        state = memory.sequence(x)[1]
        for _ in range(5):
            token = torch.randn(1, 6, dtype=torch.float64)
            chosen = int(parts(memory, token[0])[4].argmax())
            _, new = memory.step(token, state)
            same = [(new["S"] == state["S"]).view(M + 1, -1)[m].all().item() for m in range(M)]
            assert same == [m != chosen for m in range(M)]
            state = new


def test_a_reset_clears_memories_that_are_not_routed_to():
    memory = build(top_k=1)
    with torch.no_grad():
        state = memory.sequence(torch.randn(1, 30, 6, dtype=torch.float64))[1]
        token = torch.randn(1, 6, dtype=torch.float64)
        _, new = memory.step(token, state, torch.tensor([True]))
        routed = int(parts(memory, token[0])[4].argmax())
    held = new["S"].view(M + 1, -1).any(1)
    assert held.tolist() == [m in (routed, M) for m in range(M + 1)]


def test_router_losses_count_real_tokens_and_are_lowest_when_even():
    memory = build(top_k=1).train()
    x, valid = torch.randn(2, 20, 6, dtype=torch.float64), torch.arange(20) < torch.tensor([[20], [7]])
    memory.sequence(x, valid=valid)
    found = memory.aux_losses()
    logits = torch.stack([parts(memory, token)[4] for token in x[valid]])
    share = F.one_hot(logits.argmax(-1), M).double().mean(0)
    balance = M * (share * logits.softmax(-1).mean(0)).sum()
    assert torch.allclose(found["balance"], 0.01 * balance) and balance > 1
    assert torch.allclose(found["router_z"], 1e-3 * logits.logsumexp(-1).square().mean())
    with torch.no_grad():
        memory.project[:, -(M + 2 * (M + 1) * H) :] = 0
    memory.sequence(x)
    # equal logits: the mean p is even
    assert torch.allclose(memory.aux_losses()["balance"], torch.tensor(0.01, dtype=torch.float64))


def test_parity_with_an_installed_gated_delta_rule_over_routed_tokens():
    """Every memory is the public naive recurrence over the tokens that were sent to it, and over no others."""
    naive = pytest.importorskip("fla.ops.gated_delta_rule.naive", reason="flash-linear-attention is not installed")
    memory = build()
    x = torch.randn(25, 6, dtype=torch.float64)
    with torch.no_grad():
        state = memory.sequence(x.unsqueeze(0))[1]["S"][0].view(M + 1, H, K, V)
        tokens = [parts(memory, token) for token in x]
        for m in range(M + 1):
            sent = [p for p in tokens if m == M or m in p[4].topk(2).indices]
            q, k, v, b, a = (
                torch.stack(item) for item in zip(*((p[0], p[1][m], p[2][m], p[5][m], p[6][m]) for p in sent))
            )
            batch = (item.unsqueeze(0).float() for item in (q, k, v, b, a.log()))
            _, S = naive.naive_recurrent_gated_delta_rule(*batch, output_final_state=True)
            assert torch.allclose(state[m].float(), S[0], atol=1e-5)


@pytest.mark.parametrize("config", [{"top_k": 0}, {"top_k": 4}, {"balance_coef": -1.0}, {"shortest_half_life": 0.0}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
