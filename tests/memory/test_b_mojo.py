"""What is special about the innovation-selected bank; the contract itself is in test_contract_*.py."""

import pytest
import torch
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory

H, K, V, W, E = 2, 3, 4, 4, 3


def build(**config):
    torch.manual_seed(0)
    base = {"in_dim": 6, "out_dim": 5, "heads": H, "key_dim": K, "value_dim": V, "window": W, "bank": E, "conv": 1}
    memory = make_memory("b_mojo", **{**base, **config}).double()
    with torch.no_grad():
        memory.project.mul_(2)
    return memory


def by_hand(memory, x, resets):
    c, outputs, banks = memory.config, [], []
    pre, _, gates = (x @ memory.project + memory.bias).split(memory.sizes, -1)
    q, k, v = pre.view(len(x), H, 2 * K + V).split((K, K, V), -1)
    write, forget = gates.chunk(2, -1)
    slope = memory.slope_log.exp()
    for t in range(len(x)):
        if t == 0 or resets[t]:
            S, began, energy, eps, bank = torch.zeros(H, K, V, dtype=torch.float64), t, 0.0, {}, []
        decayed = (-F.softplus(forget[t])).exp().view(H, 1, 1) * S
        key = F.normalize(k[t], dim=-1)
        error = v[t] - torch.einsum("hk,hkv->hv", key, decayed)
        energy += v[t].square().sum()
        eps[t] = error.square().sum() / (energy / (t - began + 1) + 1e-6)
        S = decayed + torch.einsum("h,hk,hv->hkv", write[t].sigmoid(), key, error)
        if t - c.window >= began and c.bank:
            bank.append(t - c.window)
            bank = sorted(sorted(bank, key=lambda s: (-float(eps[s]), s))[: c.bank])
        banks.append(list(bank))
        f = torch.einsum("hk,hkv->hv", F.normalize(q[t], dim=-1), S)
        f = f / f.norm(dim=-1, keepdim=True).clamp_min(1e-2) * V**0.5
        seen = [*bank, *range(max(began, t - c.window + 1), t + 1)]
        scores = [(q[t] * k[s]).sum(-1) / K**0.5 - slope * min(t - s, c.window) for s in seen]
        scores.append((q[t] * torch.einsum("hv,hvk->hk", f, memory.summary_key)).sum(-1) / K**0.5)
        weights = torch.stack(scores).softmax(0).unsqueeze(-1)
        near = sum(w * item for w, item in zip(weights, [*(v[s] for s in seen), f]))
        outputs.append(x[t] @ memory.skip + near.flatten() @ memory.out)
    return torch.stack(outputs), banks, began


@pytest.mark.parametrize("config", [{}, {"bank": 0}, {"window": 1, "bank": 1}, {"bank": 40}])
def test_equals_the_equations(config):
    memory = build(**config)
    x = torch.randn(70, 6, dtype=torch.float64)
    resets = torch.rand(70, generator=torch.Generator().manual_seed(3)) < 0.05
    with torch.no_grad():
        want, banks, began = by_hand(memory, x, resets)
        y, state = memory.sequence(x.unsqueeze(0), None, resets.unsqueeze(0), chunk=8)
    assert torch.allclose(y[0], want, atol=1e-9)
    if memory.config.bank:
        held = [stamp - 1 + began for stamp in state["stamps"][0].tolist() if stamp]
        assert held == banks[-1]


def test_the_bank_keeps_the_surprise_and_lets_the_routine_go():
    """One odd token among equal ones: it is still in the bank when hundreds have passed."""
    memory = build(bank=2)
    torch.manual_seed(5)
    x = torch.randn(6, dtype=torch.float64).expand(1, 300, 6).clone()
    x[0, 40] = 5 * torch.randn(6, dtype=torch.float64)
    with torch.no_grad():
        state = memory.sequence(x)[1]
        assert 41 in state["stamps"][0].tolist()
        changed = x.clone()
        changed[0, 40] *= -1
        memory.summary_key.zero_()
        memory.slope_log.fill_(-20)
        moved = (memory.sequence(x)[0] - memory.sequence(changed)[0])[0, -1].abs().max()
    assert moved > 1e-4


def test_a_token_seen_before_is_expected():
    memory = build()
    x = torch.randn(1, 1, 6, dtype=torch.float64).expand(1, W, 6)
    with torch.no_grad():
        memory.bias[-2 * H : -H] = 4.0
        memory.bias[-H:] = -9.0
        eps = memory.sequence(x)[1]["eps"][0]
    # nothing was known of the first; the second is predicted from it
    assert torch.allclose(eps[0], torch.ones((), dtype=torch.float64), atol=1e-4) and (eps[1:] < 0.05).all()


@pytest.mark.parametrize("config", [{"window": 0}, {"bank": -1}, {"learned_init": True}, {"shortest_half_life": 0.0}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
