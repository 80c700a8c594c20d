"""What is special about the modern Hopfield memory; the contract itself is in test_contract_*.py."""

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory
from embodied_mem.memory.hopfield import energy, retrieve

D = 5


def build(**config):
    torch.manual_seed(0)
    sizes = {"in_dim": D, "out_dim": 4, "slots": 4, "heads": 2, "key_dim": 3, "value_dim": 2}
    return make_memory("hopfield", **{**sizes, **config}).double()


def unit(v):
    return v / v.norm().clamp(min=1e-3)


def by_hand(memory, x, resets):
    c = memory.config
    outputs, held = [], []
    for t, token in enumerate(x):
        if t == 0 or resets[t]:
            held = []
        reads = []
        for h in range(c.heads):
            part = slice(h * c.key_dim, (h + 1) * c.key_dim)
            xi = unit(memory.query(token)[part])
            read = torch.zeros(c.value_dim, dtype=torch.float64)
            entries = held[-c.slots :][::-1]
            for step in range(c.iterations):
                scores = [memory.log_beta[h].exp() * (unit(memory.key(e)[part]) @ xi) for e in entries]
                weights = [(score + memory.code[h, age]).exp() for age, score in enumerate(scores)]
                total = sum(weights) + (1.0 if c.outlier_efficient else 0.0)
                if entries and step + 1 < c.iterations:
                    xi = sum(w / total * unit(memory.key(e)[part]) for w, e in zip(weights, entries))
                elif entries:
                    values = [memory.value(e)[h * c.value_dim : (h + 1) * c.value_dim] for e in entries]
                    read = sum(w / total * v for w, v in zip(weights, values))
                else:
                    xi = torch.zeros_like(xi)
            reads.append(read)
        outputs.append(memory.out(torch.cat(reads)) + memory.skip(token))
        held.append(token)
    return torch.stack(outputs)


@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("outlier_efficient", [True, False])
def test_equals_the_equations(iterations, outlier_efficient):
    memory = build(iterations=iterations, outlier_efficient=outlier_efficient)
    x, resets = torch.randn(12, D, dtype=torch.float64), torch.tensor([0] * 7 + [1, 0, 1, 0, 0]).bool()
    with torch.no_grad():
        y, _ = memory.sequence(x.unsqueeze(0), None, resets.unsqueeze(0))
        assert torch.allclose(y[0], by_hand(memory, x, resets), atol=1e-12)


@pytest.mark.parametrize("null_slot", [True, False])
@pytest.mark.parametrize("beta", [0.5, 8.0])
def test_every_step_lowers_the_energy_and_steps_shrink(null_slot, beta):
    torch.manual_seed(1)
    patterns = torch.nn.functional.normalize(torch.randn(20, 6, 8, dtype=torch.float64), dim=-1)
    xi = torch.randn(20, 8, dtype=torch.float64)
    last = energy(xi, patterns, beta, null_slot)
    for _ in range(30):
        new = retrieve(xi, patterns, beta, null_slot)
        now = energy(new, patterns, beta, null_slot)
        assert (now <= last + 1e-12).all()
        moved, xi, last = (new - xi).norm(dim=-1), new, now
    assert moved.max() < 0.1


def test_a_noisy_pattern_is_completed_in_one_step():
    torch.manual_seed(2)
    patterns = torch.nn.functional.normalize(torch.randn(1, 10, 64, dtype=torch.float64), dim=-1)
    noisy = patterns[:, 3] + 0.05 * torch.randn(1, 64, dtype=torch.float64)
    assert torch.allclose(retrieve(noisy, patterns, 40.0), patterns[:, 3], atol=1e-3)


def test_a_pattern_of_logit_minus_ten_thousand_changes_nothing():
    patterns = torch.randn(1, 5, 4, dtype=torch.float64)
    xi = torch.randn(1, 4, dtype=torch.float64)
    far = -1e4 * xi / xi.square().sum()
    more = torch.cat([patterns, far.unsqueeze(1)], 1)
    assert torch.allclose(retrieve(xi, more, 1.0, True), retrieve(xi, patterns, 1.0, True), rtol=0, atol=1e-15)


@pytest.mark.parametrize("outlier_efficient", [True, False])
def test_an_empty_memory_reads_exactly_nothing(outlier_efficient):
    memory = build(outlier_efficient=outlier_efficient, iterations=2)
    x = torch.randn(3, D, dtype=torch.float64)
    with torch.no_grad():
        y, _ = memory.step(x, memory.initial_state(3))
        assert torch.equal(y, memory.out.bias + memory.skip(x))


@pytest.mark.parametrize("config", [{"slots": 0}, {"iterations": 0}, {"beta": 0.0}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
