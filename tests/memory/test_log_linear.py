"""What is special about log-linear attention; the contract itself is in test_contract_*.py."""

import pytest
import torch
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory
from embodied_mem.memory.log_linear import level_between

H, K, V, L = 2, 5, 3, 5
WIDTH = H * (2 * K + V)


def build(**config):
    torch.manual_seed(0)
    base = {"in_dim": 6, "out_dim": 8, "heads": H, "key_dim": K, "value_dim": V, "levels": L, "conv": 1}
    return make_memory("log_linear", **{**base, **config}).double()


def fenwick(steps, levels):
    """Level of every token at every step, by merging buckets at the lowest set bit."""
    held, table = {}, []
    for t in range(steps):
        if t:
            closed = min((t & -t).bit_length(), levels - 1)
            held = {s: max(level, closed) for s, level in held.items()}
        held[t] = 0
        table.append(dict(held))
    return table


def test_levels_are_those_of_the_tree():
    for t, held in enumerate(fenwick(100, 6)):
        past = torch.tensor(list(held))
        assert level_between(torch.tensor(t), past, 6).tolist() == list(held.values())


def test_buckets_double_in_size():
    sizes = torch.bincount(level_between(torch.tensor(63), torch.arange(64), 10))
    assert sizes.tolist() == [1, 1, 2, 4, 8, 16, 32]


def test_sequence_is_the_equation_with_episode_relative_buckets():
    memory = build()
    x, resets = torch.randn(2, 60, 6, dtype=torch.float64), torch.rand(2, 60) < 0.05
    tree = fenwick(60, L)
    with torch.no_grad():
        y, state = memory.sequence(x, None, resets, chunk=16)
        pre, gate, gates = (x @ memory.project + memory.bias).split((WIDTH, H * V, H * (1 + L)), -1)
        q, k, v = F.silu(pre).view(2, 60, H, 2 * K + V).split((K, K, V), -1)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        log_decay = -F.softplus(gates[..., :H])
        weight = F.softplus(gates[..., H:]).view(2, 60, H, L)
        for row in range(2):
            began = 0
            for t in range(60):
                began = t if resets[row, t] else began
                levels = torch.zeros(L, H, K, V, dtype=torch.float64)
                for s in range(began, t + 1):
                    decay = log_decay[row, s + 1 : t + 1].sum(0).exp()
                    written = torch.einsum("h,hk,hv->hkv", decay, k[row, s], v[row, s])
                    levels[tree[t - began][s - began]] += written
                o = torch.einsum("hl,hk,lhkv->hv", weight[row, t], q[row, t], levels)
                # a short read is scaled by a constant
                o = o / o.norm(dim=-1, keepdim=True).clamp_min(1e-2) * V**0.5
                want = x[row, t] @ memory.skip + (o.flatten() * F.silu(gate[row, t])) @ memory.out
                assert torch.allclose(y[row, t], want, rtol=1e-8, atol=1e-10)
            assert torch.allclose(state["S"][row], levels, rtol=1e-9, atol=1e-11)
            assert state["clock"][row] == 60 - began


def test_equal_weights_make_it_plain_decayed_attention():
    """With every level read alike the buckets sum to the fast weights of linear attention."""
    memory = build()
    with torch.no_grad():
        memory.project[:, -H * L :] = 0
        x = torch.randn(1, 40, 6, dtype=torch.float64)
        state = memory.sequence(x)[1]
        pre, _, gates = (x @ memory.project + memory.bias).split((WIDTH, H * V, H * (1 + L)), -1)
        _, k, v = F.silu(pre).view(40, H, 2 * K + V).split((K, K, V), -1)
        left = -F.softplus(gates[0, :, :H])
        left = (left.sum(0) - left.cumsum(0)).exp()
        want = torch.einsum("th,thk,thv->hkv", left, F.normalize(k, dim=-1), v)
    assert torch.allclose(state["S"][0].sum(0), want, rtol=1e-8, atol=1e-10)
    assert torch.allclose(F.softplus(memory.bias[-H * L :]), torch.ones(H * L, dtype=torch.float64), rtol=1e-5)


def test_impossible_configs_are_refused():
    with pytest.raises(UsageError, match="expected levels >= 2, got 1"):
        build(levels=1)
    with pytest.raises(UsageError, match="expected learned_init=False"):
        build(learned_init=True)
