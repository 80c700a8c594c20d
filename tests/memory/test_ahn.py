"""What is special about window attention with delayed writes; the contract itself is in test_contract_*.py."""

import pytest
import torch
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory

H, K, V, W, A = 2, 3, 4, 5, 2


def build(**config):
    torch.manual_seed(0)
    base = {"in_dim": 6, "out_dim": 5, "heads": H, "key_dim": K, "value_dim": V, "window": W, "sinks": A}
    memory = make_memory("ahn", **{**base, **config}).double()
    with torch.no_grad():
        memory.project.mul_(2)
    return memory


def projected(memory, x):
    pre, gate, gates = (x @ memory.project + memory.bias).split(memory.sizes, -1)
    q, k, v = pre.view(*x.shape[:-1], H, 2 * K + V).split((K, K, V), -1)
    write, forget = gates.chunk(2, -1)
    return q, k, v, gate.sigmoid(), (-F.softplus(forget)).exp(), write.sigmoid()


def by_hand(memory, x, resets):
    c, outputs = memory.config, []
    q, k, v, gate, decay, strength = projected(memory, x)
    slope = memory.slope_log.exp()
    for t in range(len(x)):
        if t == 0 or resets[t]:
            S, began = torch.zeros(H, K, V, dtype=torch.float64), t
        out = t - c.window
        if out - began >= c.sinks:
            key = F.normalize(k[out], dim=-1)
            held = decay[out].view(H, 1, 1) * S
            S = held + torch.einsum("h,hk,hv->hkv", strength[out], key, v[out] - torch.einsum("hk,hkv->hv", key, held))
        window = list(range(max(began, out + 1), t + 1))
        sinks = [s for s in range(began, min(began + c.sinks, t + 1)) if s not in window]
        scores = [(q[t] * k[s]).sum(-1) / K**0.5 - slope * (c.window if s in sinks else t - s) for s in sinks + window]
        weights = torch.stack(scores).softmax(0)
        near = sum(w.unsqueeze(1) * v[s] for w, s in zip(weights, sinks + window))
        far = torch.einsum("hk,hkv->hv", F.normalize(q[t], dim=-1), S)
        far = far / far.norm(dim=-1, keepdim=True).clamp_min(1e-2) * V**0.5 * gate[t].unsqueeze(1)
        outputs.append(x[t] @ memory.skip + torch.cat([near, far]).flatten() @ memory.out)
    return torch.stack(outputs), S


@pytest.mark.parametrize("config", [{}, {"sinks": 0}, {"window": 1}, {"sinks": 7}])
def test_equals_the_equations(config):
    memory = build(**config)
    x = torch.randn(80, 6, dtype=torch.float64)
    resets = torch.rand(80, generator=torch.Generator().manual_seed(3)) < 0.04
    with torch.no_grad():
        want, S = by_hand(memory, x, resets)
        y, state = memory.sequence(x.unsqueeze(0), None, resets.unsqueeze(0), chunk=8)
    assert torch.allclose(y[0], want, atol=1e-9)
    assert torch.allclose(state["S"][0], S, atol=1e-10)


def test_an_episode_within_the_window_is_plain_attention():
    memory = build(window=20)
    x = torch.randn(1, 20 + A, 6, dtype=torch.float64)
    with torch.no_grad():
        y, state = memory.sequence(x)
        assert not state["S"].any()
        q, k, v, *_ = projected(memory, x[0])
        age = torch.arange(20).unsqueeze(1) - torch.arange(20)
        scores = torch.einsum("qhk,shk->hqs", q[:20], k[:20]) / K**0.5 - memory.slope_log.exp().view(-1, 1, 1) * age
        weights = scores.masked_fill(age < 0, -torch.inf).softmax(-1)
        near = torch.einsum("hqs,shv->qhv", weights, v[:20]).flatten(1)
        want = x[0, :20] @ memory.skip + near @ memory.out[: H * V]
        assert torch.allclose(y[0, :20], want, atol=1e-12)
        assert memory.sequence(torch.cat([x, x[:, :1]], 1))[1]["S"].any()


def test_what_left_the_window_is_read_from_the_fast_weights_only():
    memory = build(sinks=0)
    x = torch.randn(1, 30, 6, dtype=torch.float64)
    changed = x.clone()
    changed[:, 3] += 1
    with torch.no_grad():
        moved = [(memory.sequence(x)[0] - memory.sequence(changed)[0])[0].abs().amax(-1) > 1e-12]
        memory.out[H * V :] = 0
        moved.append((memory.sequence(x)[0] - memory.sequence(changed)[0])[0].abs().amax(-1) > 1e-12)
    assert moved[0][3:].all()
    assert moved[1].tolist() == [3 <= t < 3 + W for t in range(30)]


def test_sinks_stay_readable_at_any_distance():
    memory = build()
    with torch.no_grad():
        memory.out[H * V :] = 0
        x = torch.randn(1, 200, 6, dtype=torch.float64)
        memory.slope_log.fill_(-20)
        for token, seen in ((0, True), (A - 1, True), (A, False)):
            changed = x.clone()
            changed[:, token] += 1
            assert ((memory.sequence(x)[0] - memory.sequence(changed)[0])[0, -1].abs().max() > 1e-9) == seen


@pytest.mark.parametrize("config", [{"window": 0}, {"sinks": -1}, {"learned_init": True}, {"shortest_half_life": 0.0}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
