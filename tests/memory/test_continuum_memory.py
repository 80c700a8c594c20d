"""What is special about the continuum memory; the contract itself is in test_contract_*.py."""

import pytest
import torch
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory

D, HIDDEN = 4, 6


def build(**config):
    torch.manual_seed(0)
    base = {"in_dim": 6, "out_dim": 5, "width": D, "hidden": HIDDEN, "periods": (1, 3, 7)}
    return make_memory("continuum_memory", **{**base, **config}).double()


def loss(W1, W2, k, v):
    return 0.5 * (v - F.silu(k @ W1) @ W2).square().sum()


def by_hand(memory, x, resets, soft):
    """One token at a time, with inner gradients by autograd."""
    c, outputs = memory.config, []
    for t, token in enumerate(x):
        q, k, v, gate, rates = memory.project(token).split(memory.sizes)
        q, v = F.normalize(q, dim=0), F.normalize(v, dim=0)
        if t == 0:
            levels = [None] * len(c.periods)
        for i, period in enumerate(c.periods):
            if t == 0 or resets[t] or (soft[t] and i in c.reset_levels):
                start = memory.levels[i]
                levels[i] = {"W": (start.W1, start.W2), "G": (0.0, 0.0), "seen": 0}
            level = levels[i]
            W1, W2 = (w.detach().requires_grad_() for w in level["W"])
            key = F.normalize(k, dim=0)
            g1, g2 = torch.autograd.grad(loss(W1, W2, key, v), (W1, W2))
            size = 1 + F.silu(key @ W1).square().sum() + W2.square().sum()
            eta = rates[i].sigmoid() / (period * size)
            level["G"] = (level["G"][0] + eta * g1, level["G"][1] + eta * g2)
            level["seen"] += 1
            q = q + F.silu(F.normalize(q, dim=0) @ W1) @ W2
            k = key + F.silu(key @ W1) @ W2
            if level["seen"] % period == 0:
                level["W"] = (W1 - level["G"][0], W2 - level["G"][1])
                level["G"] = (0.0, 0.0)
        read = F.normalize(q, dim=0) * D**0.5 * F.silu(gate)
        outputs.append((memory.skip(token) + memory.out(read)).detach())
    return torch.stack(outputs), levels


@pytest.mark.parametrize("rate", [0.0, 0.05])
def test_equals_the_equations(rate):
    memory = build(reset_levels=(0, 2))
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(50, 6, dtype=torch.float64)
    resets, soft = (torch.rand(50, generator=generator) < rate for _ in range(2))
    want, levels = by_hand(memory, x, resets, soft)
    with torch.no_grad():
        y, state = memory.sequence(x.unsqueeze(0), None, resets.unsqueeze(0), soft_resets=soft.unsqueeze(0))
    assert torch.allclose(y[0], want, atol=1e-10)
    for i, level in enumerate(levels):
        assert torch.allclose(state[f"level{i}/W1"][0], level["W"][0], atol=1e-11)
        assert torch.allclose(state[f"level{i}/W2"][0], level["W"][1], atol=1e-11)
        assert state[f"level{i}/clock"] == level["seen"]


def test_levels_change_at_their_own_pace():
    memory = build()
    with torch.no_grad():
        state = memory.initial_state(1)
        changes = []
        for _ in range(21):
            _, new = memory.step(torch.randn(1, 6, dtype=torch.float64), state)
            changes.append([not torch.equal(new[f"level{i}/W2"], state[f"level{i}/W2"]) for i in range(3)])
            state = new
    assert changes == [[True, (t + 1) % 3 == 0, (t + 1) % 7 == 0] for t in range(21)]


def test_soft_reset_keeps_the_slow_levels_and_a_reset_none():
    memory = build(reset_levels=(0,))
    x, now = torch.randn(1, 14, 6, dtype=torch.float64), torch.tensor([True])
    with torch.no_grad():
        state = memory.sequence(x)[1]
        _, soft = memory.step(x[:, 0], state, soft_reset=now)
        _, hard = memory.step(x[:, 0], state, now)
    assert torch.equal(soft["level2/W1"], state["level2/W1"]) and soft["level2/clock"] == 15
    assert soft["level0/clock"] == 1 and torch.equal(soft["level0/W1"], hard["level0/W1"])
    assert torch.equal(hard["level2/W1"][0], memory.levels[2].W1) and hard["level2/clock"] == 1


@pytest.mark.parametrize("alike", [False, True])
def test_an_update_lowers_the_loss_it_is_taken_for(alike):
    """Also with full steps and tokens that are all the same, where a plain sum would overshoot."""
    memory = build(periods=(8,), width=16, hidden=32)
    with torch.no_grad():
        memory.project.bias[-1] = 50.0
        x = torch.randn(20, 1 if alike else 8, 6, dtype=torch.float64).expand(20, 8, 6)
        before, after = memory.initial_state(20), memory.sequence(x)[1]
        _, k, v, *_ = memory.project(x).split(memory.sizes, -1)
        k, v = F.normalize(k, dim=-1), F.normalize(v, dim=-1)
        found = []
        for state in (before, after):
            predicted = F.silu(k @ state["level0/W1"]) @ state["level0/W2"]
            found.append((v - predicted).square().sum((1, 2)))
    assert (found[1] < (0.6 if alike else 0.97) * found[0]).all()


def test_stored_pairs_are_read_back():
    """16 random pairs, seen again and again: the value of a key comes back with less than a tenth of its square."""
    memory = build(periods=(1,), width=32, hidden=128, in_dim=64)
    with torch.no_grad():
        memory.project.weight.zero_()
        memory.project.weight[32:64, :32] = torch.eye(32)
        memory.project.weight[64:96, 32:] = torch.eye(32)
        memory.project.bias.zero_()
        memory.project.bias[-1] = 50.0
        pairs = torch.randn(1, 16, 64, dtype=torch.float64)
        state = memory.sequence(pairs.repeat(1, 60, 1))[1]
        k, v = (F.normalize(part, dim=-1) for part in pairs.chunk(2, -1))
        found = F.silu(k @ state["level0/W1"]) @ state["level0/W2"]
    assert (v - found).square().mean() < 0.1 * v.square().mean()


@pytest.mark.parametrize("config", [{"periods": ()}, {"periods": (1, 0)}, {"width": 0}, {"reset_levels": (3,)}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
