"""What is special about BASED; the contract itself is in test_contract_*.py."""

import pytest
import torch
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.based import taylor_features
from embodied_mem.memory.contract import make_memory

H, K, V, W = 2, 3, 4, 5


def build(**config):
    torch.manual_seed(0)
    base = {"in_dim": 6, "out_dim": 8, "heads": H, "key_dim": K, "value_dim": V, "window": W, "conv": 1}
    return make_memory("based", **{**base, **config}).double()


def projected(memory, x):
    """q, k, v of the Taylor part and of the window, (..., H, d) each."""
    pre = (x @ memory.project + memory.bias).view(*x.shape[:-1], 2, H, 2 * K + V)
    return [part.split((K, K, V), -1) for part in pre.unbind(-3)]


def test_features_expand_the_exponential_to_second_order():
    q, k = torch.randn(2, 50, 16, dtype=torch.float64)
    found = (taylor_features(q) * taylor_features(k)).sum(-1)
    u = (q * k).sum(-1) / 4
    assert taylor_features(q).shape[-1] == 1 + 16 + 256
    assert torch.allclose(found, 1 + u + u**2 / 2)
    # so the normaliser never crosses zero
    assert found.min() >= 0.5


@pytest.mark.parametrize("carried", [0, 3, 20])
def test_sequence_is_both_attentions_over_the_episode(carried):
    memory = build()
    T = 25
    x, resets = torch.randn(2, carried + T, 6, dtype=torch.float64), torch.rand(2, carried + T) < 0.08
    resets[:, 0] = True
    with torch.no_grad():
        state = memory.initial_state(2)
        for t in range(carried):
            _, state = memory.step(x[:, t], state, resets[:, t])
        y, after = memory.sequence(x[:, carried:], state, resets[:, carried:], chunk=8)
        (q, k, v), (near_q, near_k, near_v) = projected(memory, x)
        q, k = (K**0.5 * F.normalize(z, dim=-1) for z in (q, k))
        slope = memory.slope_log.exp()
        for row in range(2):
            began = 0
            for t in range(carried + T):
                began = t if resets[row, t] else began
                if t < carried:
                    continue
                past = slice(began, t + 1)
                u = torch.einsum("hk,shk->hs", q[row, t], k[row, past]) / K**0.5
                weight = 1 + u + u**2 / 2
                far = torch.einsum("hs,shv->hv", weight / weight.sum(1, keepdim=True), v[row, past])
                window = slice(max(began, t - W + 1), t + 1)
                age = torch.arange(t - window.start, -1, -1)
                score = torch.einsum("hk,shk->hs", near_q[row, t], near_k[row, window]) / K**0.5
                weight = (score - slope.unsqueeze(1) * age).softmax(-1)
                near = torch.einsum("hs,shv->hv", weight, near_v[row, window])
                want = x[row, t] @ memory.skip + torch.cat([far, near]).flatten() @ memory.out
                assert torch.allclose(y[row, t - carried], want, rtol=1e-9, atol=1e-11)
            assert after["fill"][row] == min(W, carried + T - began)


def test_what_leaves_the_window_is_held_by_the_fast_weights_only():
    memory = build()
    with torch.no_grad():
        memory.out[: H * V] = 0
        x = torch.randn(1, 12, 6, dtype=torch.float64)
        other = x.clone()
        other[:, 0] += 1
        same = (memory.sequence(x)[0] - memory.sequence(other)[0])[0].abs().amax(-1)
    assert (same[:W] > 1e-6).all() and not same[W:].any()


def test_long_vectors_keep_the_normaliser_positive_in_float32():
    memory = build(key_dim=16).float()
    with torch.no_grad():
        o, _ = memory.sequence(1e3 * torch.randn(4, 30, 6), None, torch.ones(4, 30, dtype=torch.bool))
        single, _ = memory.sequence(torch.randn(4, 30, 6), None, torch.ones(4, 30, dtype=torch.bool))
    # every episode is one token, whose read is its own value however long its key
    assert o.abs().max() < 1e5 * single.abs().max()


def test_empty_window_is_refused():
    with pytest.raises(UsageError, match="expected window >= 1, got 0"):
        build(window=0)
