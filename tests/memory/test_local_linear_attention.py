"""What is special about local linear attention; the contract itself is in test_contract_*.py."""

import pytest
import torch

from embodied_mem.memory.contract import make_memory
from embodied_mem.memory.local_linear_attention import local_linear_read

K, V, M = 3, 4, 7


def drawn(M=M):
    torch.manual_seed(0)
    q, keys = torch.randn(2, 5, K, dtype=torch.float64), torch.randn(2, M, K, dtype=torch.float64)
    values = torch.randn(2, M, V, dtype=torch.float64)
    weights = (q @ keys.transpose(-1, -2)).softmax(-1)
    return q, keys, values, weights


@pytest.mark.parametrize("items", [2, M])
def test_a_read_is_weighted_ridge_regression_at_the_query(items):
    q, keys, values, weights = drawn(items)
    lam = torch.tensor(0.3, dtype=torch.float64).view(1, 1)
    found = local_linear_read(q, keys, values, weights, lam)
    for n in range(2):
        for i in range(5):
            root = weights[n, i].sqrt().unsqueeze(-1)
            # a constant, free, and slopes with a ridge, fitted to the values around the query
            design = torch.cat([torch.ones(items, 1, dtype=torch.float64), keys[n] - q[n, i]], -1) * root
            ridge = torch.cat([torch.zeros(K, 1), torch.eye(K)], -1).double() * lam.sqrt()
            target = torch.cat([values[n] * root, torch.zeros(K, V, dtype=torch.float64)])
            constant = torch.linalg.lstsq(torch.cat([design, ridge]), target).solution[0]
            assert torch.allclose(found[n, i], constant, rtol=1e-8, atol=1e-10)


def test_a_large_ridge_gives_softmax_attention():
    q, keys, values, weights = drawn()
    found = local_linear_read(q, keys, values, weights, torch.full((1, 1), 1e8, dtype=torch.float64))
    assert torch.allclose(found, weights @ values, atol=1e-5)


def test_no_weights_read_zero():
    q, keys, values, weights = drawn()
    assert not local_linear_read(q, keys, values, 0 * weights, torch.ones(1, 1, dtype=torch.float64)).any()


def test_a_linear_map_is_read_exactly_where_attention_averages():
    q, keys, _, weights = drawn(40)
    values = keys @ torch.randn(K, V, dtype=torch.float64)
    want = q @ torch.linalg.lstsq(keys[0], values[0]).solution
    found = local_linear_read(q, keys, values, weights, torch.full((1, 1), 1e-6, dtype=torch.float64))
    averaged = weights @ values
    assert (found - want).norm() < 1e-2 * (averaged - want).norm()


def test_bad_config():
    with pytest.raises(ValueError, match="expected beta > 0 and ridge > 0.01"):
        make_memory("local_linear_attention", ridge=0.0)
