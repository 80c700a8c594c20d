"""What is special about RetNet; the contract itself is in test_contract_*.py."""

import math

import pytest
import torch
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory
from embodied_mem.memory.ret_net import rotate


def build(**config):
    torch.manual_seed(0)
    base = {"in_dim": 6, "out_dim": 8, "heads": 2, "key_dim": 4, "value_dim": 3, "conv": 1}
    return make_memory("ret_net", **{**base, **config}).double()


def test_sequence_is_the_sum_over_the_episode_of_turned_products():
    memory = build()
    x, resets = torch.randn(2, 30, 6, dtype=torch.float64), torch.rand(2, 30) < 0.1
    with torch.no_grad():
        y = memory.sequence(x, None, resets, chunk=8)[0]
        pre, gate = (x @ memory.project + memory.bias).split((22, 6), -1)
        q, k, v = pre.view(2, 30, 2, 11).split((4, 4, 3), -1)
        # channels j and j + K/2 as one complex number: a turn is a product
        q, k = (torch.complex(z[..., :2], z[..., 2:]) for z in (q, k))
        speed = torch.tensor([1.0, 10000.0**-0.5], dtype=torch.float64)
        gamma = torch.log1p(-(2.0 ** -torch.arange(5, 7).double()))
        for row in range(2):
            began = 0
            for t in range(30):
                began = t if resets[row, t] else began
                o = torch.zeros(2, 3, dtype=torch.float64)
                for s in range(began, t + 1):
                    turn = torch.exp(1j * speed * (t - s))
                    weight = (q[row, t] * turn * k[row, s].conj()).real.sum(-1) * torch.exp(gamma * (t - s))
                    o += weight.unsqueeze(-1) * v[row, s]
                read = F.layer_norm(o, (3,)).flatten() * F.silu(gate[row, t])
                want = x[row, t] @ memory.skip + read @ memory.out
                # the decays are kept in float32
                assert torch.allclose(y[row, t], want, rtol=1e-5, atol=1e-6)


def test_only_the_difference_of_positions_counts():
    memory = build()
    x = torch.randn(1, 20, 6, dtype=torch.float64)
    with torch.no_grad():
        young = memory.initial_state(1)
        old = {**young, "clock": torch.tensor([10**9])}
        assert torch.allclose(memory.sequence(x, old)[0], memory.sequence(x, young)[0], rtol=1e-5, atol=1e-6)


def test_turns_are_exact_at_any_age_in_float32():
    x, age = torch.randn(1, 1, 8), torch.tensor([123_456_789])
    found = rotate(x, age, 10000.0)[0, 0, 0]
    angle = math.fmod(123_456_789, 2 * math.pi)
    assert abs(found - (x[0, 0, 0] * math.cos(angle) - x[0, 0, 4] * math.sin(angle))) < 1e-5


def test_clock_counts_from_the_start_of_the_episode():
    memory = build()
    resets = torch.zeros(2, 9, dtype=torch.bool)
    resets[0, 4] = True
    state = memory.sequence(torch.randn(2, 9, 6, dtype=torch.float64), None, resets)[1]
    assert state["clock"].tolist() == [5, 9]


def test_impossible_configs_are_refused():
    with pytest.raises(UsageError, match="expected an even key_dim"):
        build(key_dim=5)
    with pytest.raises(UsageError, match="expected rotary_base > 1"):
        build(rotary_base=1.0)
