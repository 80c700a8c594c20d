"""What is special about linear attention; the contract itself is in test_contract_*.py."""

import pytest
import torch
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory


def build(**config):
    torch.manual_seed(0)
    base = {"in_dim": 6, "out_dim": 8, "heads": 2, "key_dim": 5, "value_dim": 3, "conv": 1}
    return make_memory("linear_attention", **{**base, **config}).double()


def projected(memory, x):
    """Queries, keys (n, H, K) and values (n, H, V) of one token."""
    return (x @ memory.project + memory.bias).view(len(x), 2, 13).split((5, 5, 3), -1)


@pytest.mark.parametrize("normalise", [True, False])
def test_sequence_is_the_equation_with_resets(normalise):
    memory = build(normalise=normalise, learned_init=True)
    with torch.no_grad():
        memory.S_init.normal_()
    x, resets = torch.randn(3, 40, 6, dtype=torch.float64), torch.rand(3, 40) < 0.1
    with torch.no_grad():
        y, state = memory.sequence(x, None, resets, chunk=16)
        S, z, outputs = memory.S_init.expand(3, -1, -1, -1), torch.ones(3, 2, 5, dtype=torch.float64), []
        for t in range(40):
            q, k, v = projected(memory, x[:, t])
            q, k = F.elu(q) + 1, F.elu(k) + 1
            opens = resets[:, t].view(3, 1, 1, 1)
            S = torch.where(opens, memory.S_init, S) + k.unsqueeze(-1) * v.unsqueeze(-2)
            z = torch.where(opens.squeeze(-1), 1, z) + k
            o = torch.einsum("nhk,nhkv->nhv", q, S)
            o = o / (q * z).sum(-1, keepdim=True) if normalise else o / 5**0.5
            outputs.append(x[:, t] @ memory.skip + o.flatten(1) @ memory.out)
    assert torch.allclose(y, torch.stack(outputs, 1), rtol=1e-10, atol=1e-12)
    assert torch.allclose(state["S"][..., :3], S, rtol=1e-10, atol=1e-12)
    if normalise:
        assert torch.allclose(state["S"][..., 3], z, rtol=1e-10, atol=1e-12)


def test_normalised_read_is_a_mean_of_the_values_of_the_episode():
    memory = build(heads=1, out_dim=3, in_dim=3)
    with torch.no_grad():
        memory.out.copy_(torch.eye(3))
        x = torch.randn(4, 30, 3, dtype=torch.float64)
        read = memory.sequence(x)[0] - x
        values = (x @ memory.project + memory.bias)[..., 10:]
    assert (read <= values.cummax(1).values + 1e-9).all()
    assert (read >= values.cummin(1).values - 1e-9).all()


def test_normaliser_that_could_cross_zero_is_refused():
    with pytest.raises(UsageError, match="expected a positive feature_map"):
        build(feature_map="identity")
    with pytest.raises(UsageError, match="expected feature_map in"):
        build(feature_map="softmax")


def test_features_that_are_all_zero_read_zero():
    memory = build(feature_map="relu")
    with torch.no_grad():
        memory.bias[:] = -1.0
        x = torch.zeros(1, 5, 6, dtype=torch.float64)
        assert torch.equal(memory.sequence(x)[0], torch.zeros(1, 5, 8, dtype=torch.float64))
