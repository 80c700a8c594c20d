"""What is special about the episodic module of dynamic memory networks; the contract is in test_contract_*.py."""

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory

D = 5


def build(**config):
    torch.manual_seed(0)
    sizes = {"in_dim": D, "out_dim": 4, "slots": 3, "width": 6, "passes": 2}
    return make_memory("dmn_episodic", **{**sizes, **config}).double()


def by_hand(memory, x, resets):
    c = memory.config
    outputs, held = [], []
    for t, token in enumerate(x):
        if t == 0 or resets[t]:
            held = []
        q = m = memory.query(token)
        for _ in range(c.passes):
            e = torch.zeros_like(q)
            for entry in held[-c.slots :]:
                fact = memory.embed(entry)
                alike = torch.cat([fact * q, fact * m, (fact - q).abs(), (fact - m).abs()])
                g = memory.gate(alike).sigmoid()
                e = g * memory.episode(fact.unsqueeze(0), e.unsqueeze(0))[0] + (1 - g) * e
            m = memory.update(e.unsqueeze(0), m.unsqueeze(0))[0]
        outputs.append(memory.readout(torch.cat([m, q])))
        held.append(token)
    return torch.stack(outputs)


@pytest.mark.parametrize("passes", [1, 3])
def test_equals_the_equations(passes):
    memory = build(passes=passes)
    x, resets = torch.randn(9, D, dtype=torch.float64), torch.tensor([0] * 5 + [1, 0, 1, 0]).bool()
    with torch.no_grad():
        y, _ = memory.sequence(x.unsqueeze(0), None, resets.unsqueeze(0))
        assert torch.allclose(y[0], by_hand(memory, x, resets), atol=1e-12)


def test_a_closed_gate_leaves_an_entry_out():
    memory = build()
    x, other = torch.randn(2, 1, 4, D, dtype=torch.float64)
    with torch.no_grad():
        assert not torch.allclose(*(memory.sequence(torch.cat([v, x], 1))[0][:, 4] for v in (x, other)))
        memory.gate[2].weight.zero_()
        memory.gate[2].bias.fill_(-1e3)
        assert torch.equal(*(memory.sequence(torch.cat([v, x], 1))[0][:, 4] for v in (x, other)))


def test_the_order_of_entries_counts():
    memory = build()
    x = torch.randn(1, 4, D, dtype=torch.float64)
    with torch.no_grad():
        assert not torch.allclose(memory.sequence(x)[0][:, 3], memory.sequence(x[:, [1, 0, 2, 3]])[0][:, 3])


@pytest.mark.parametrize("config", [{"slots": 0}, {"slots": 65}, {"passes": 0}, {"width": 0}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
