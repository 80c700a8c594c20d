"""What is special about ELM; the contract itself is in test_contract_*.py."""

import math

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory


def build(**config):
    torch.manual_seed(0)
    base = {"in_dim": 6, "out_dim": 8, "units": 5, "synapses_per_input": 2, "branches": 5, "hidden": 7}
    return make_memory("elm", **{**base, **config}).double()


def test_sequence_is_the_equation_with_resets():
    memory = build()
    x, resets = torch.randn(2, 40, 6, dtype=torch.float64), torch.rand(2, 40) < 0.1
    W, b = memory.from_branches.weight, memory.from_branches.bias
    tau = memory.times_log.exp()
    with torch.no_grad():
        y, state = memory.sequence(x, None, resets)
        s, m = torch.zeros(2, 12, dtype=torch.float64), torch.zeros(2, 5, dtype=torch.float64)
        outputs = []
        for t in range(40):
            opens = resets[:, t : t + 1]
            entering = torch.cat([x[:, t], x[:, t]], 1) * memory.synapse_weight
            s = torch.where(opens, 0, math.exp(-1 / 5) * s) + entering
            # twelve synapses in branches of three
            branches = torch.stack([s[:, i : i + 3].sum(1) for i in range(0, 12, 3)], 1)
            m = torch.where(opens, 0, torch.exp(-1 / tau) * m)
            hidden = torch.relu(branches @ W.T + b + m @ memory.from_units.weight.T)
            m = m + (1 - torch.exp(-5 / tau)) * torch.tanh(memory.update(hidden))
            outputs.append(memory.readout(m))
    assert torch.allclose(y, torch.stack(outputs, 1), rtol=1e-9, atol=1e-11)
    assert torch.allclose(state["s"], s, rtol=1e-10, atol=1e-12)
    assert torch.allclose(state["m"], m, rtol=1e-10, atol=1e-12)


def test_time_constants_start_spaced_in_the_logarithm():
    found = build(units=4).times_log.exp()
    assert torch.allclose(found, torch.tensor([1.0, 10.0, 100.0, 1000.0], dtype=torch.float64), rtol=1e-4)


def test_units_stay_bounded_however_long_they_are_driven():
    """A write is at most lam times what is forgotten, so no unit exceeds lam."""
    memory = build()
    with torch.no_grad():
        state = memory.sequence(10 * torch.ones(1, 6000, 6, dtype=torch.float64))[1]
    assert state["m"].abs().max() <= 5.0


def test_every_input_reaches_a_branch():
    memory = build(branches=100)
    assert memory.branches == 12 and memory.branch_size == 1
    memory = build(branches=5)
    assert memory.branches == 4 and memory.branch_size == 3


@pytest.mark.parametrize("config", [{"units": 0}, {"hidden": 0}, {"shortest": 0.0}, {"write": 0.0}, {"branches": 0}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
