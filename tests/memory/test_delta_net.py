"""What is special about DeltaNet; the contract itself is in test_contract_*.py."""

import pytest
import torch
from torch.nn import functional as F

from embodied_mem.memory.contract import make_memory

H, K, V = 2, 5, 3
WIDTH = H * (2 * K + V)


def build(name="delta_net", **config):
    torch.manual_seed(0)
    base = {"in_dim": 6, "out_dim": 8, "heads": H, "key_dim": K, "value_dim": V, "conv": 1}
    return make_memory(name, **{**base, **config}).double()


@pytest.mark.parametrize("neg_eigval", [False, True])
def test_sequence_is_the_equation_with_resets(neg_eigval):
    memory = build(learned_init=True, neg_eigval=neg_eigval)
    with torch.no_grad():
        memory.S_init.normal_()
    x, resets = torch.randn(3, 40, 6, dtype=torch.float64), torch.rand(3, 40) < 0.1
    with torch.no_grad():
        y, state = memory.sequence(x, None, resets, chunk=16)
        S, outputs = memory.S_init.expand(3, -1, -1, -1), []
        for t in range(40):
            pre, write = (x[:, t] @ memory.project + memory.bias).split((WIDTH, H), -1)
            q, k, v = F.silu(pre).view(3, H, 2 * K + V).split((K, K, V), -1)
            q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
            b = write.sigmoid() * (2 if neg_eigval else 1)
            S = torch.where(resets[:, t].view(3, 1, 1, 1), memory.S_init, S)
            error = v - torch.einsum("nhk,nhkv->nhv", k, S)
            S = S + torch.einsum("nh,nhk,nhv->nhkv", b, k, error)
            o = torch.einsum("nhk,nhkv->nhv", q, S)
            o = o / o.square().mean(-1, keepdim=True).sqrt()
            outputs.append(x[:, t] @ memory.skip + o.flatten(1) @ memory.out)
    assert torch.allclose(y, torch.stack(outputs, 1), rtol=1e-8, atol=1e-10)
    assert torch.allclose(state["S"], S, rtol=1e-9, atol=1e-11)


def test_it_is_the_gated_delta_rule_whose_heads_never_forget():
    memory, gated = build(), build("gated_delta", persistent_heads=H)
    with torch.no_grad():
        gated.project[:, :WIDTH] = memory.project[:, :WIDTH]
        gated.project[:, -2 * H : -H] = memory.project[:, WIDTH:]
        gated.bias[-2 * H : -H] = memory.bias[WIDTH:]
        x, resets = torch.randn(3, 30, 6, dtype=torch.float64), torch.rand(3, 30) < 0.1
        found, want = (each.sequence(x, None, resets)[1]["S"] for each in (memory, gated))
    assert torch.allclose(found, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("neg_eigval", [False, True])
def test_large_inputs_do_not_make_the_fast_weights_diverge(neg_eigval):
    """Keys of length 1 keep every eigenvalue of the erasure in [-1, 1]; without them this overflows."""
    memory = build(neg_eigval=neg_eigval).float()
    x = 100 * torch.randn(2, 400, 6)
    with torch.no_grad():
        values = F.silu(x @ memory.project + memory.bias)[..., :WIDTH].abs().max()
        S = memory.sequence(x)[1]["S"]
    assert S.isfinite().all() and S.abs().max() < 500 * values


def test_a_key_written_again_gives_its_latest_value():
    memory = build(heads=1, in_dim=5, out_dim=3)
    with torch.no_grad():
        memory.bias[-1] = 30.0
        memory.project[:, -1] = 0
        # values move, keys stay: the second write replaces the first
        memory.project[:, K : 2 * K] = 0
        memory.bias[K : 2 * K] = torch.randn(K)
        x = torch.randn(1, 2, 5, dtype=torch.float64)
        S = memory.sequence(x)[1]["S"][0, 0]
        pre = F.silu(x @ memory.project + memory.bias)
        key, value = F.normalize(pre[0, 1, K : 2 * K], dim=-1), pre[0, 1, 2 * K : 2 * K + V]
    assert torch.allclose(key @ S, value, rtol=1e-6)
