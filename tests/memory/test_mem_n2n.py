"""What is special about the end-to-end memory network; the contract itself is in test_contract_*.py."""

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory

D = 5


def build(**config):
    torch.manual_seed(0)
    sizes = {"in_dim": D, "out_dim": 4, "slots": 4, "width": 6, "hops": 3}
    return make_memory("mem_n2n", **{**sizes, **config}).double()


def by_hand(memory, x, resets):
    """Every entry is embedded, as the paper writes it."""
    c = memory.config
    outputs, held = [], []
    for t, token in enumerate(x):
        if t == 0 or resets[t]:
            held = []
        u = memory.query(token)
        entries = list(enumerate(held[-c.slots :][::-1]))
        for hop in range(c.hops):
            a, b = (hop, hop + 1) if c.tying == "adjacent" else (0, 1)
            scores = [u @ (memory.embed[a] @ e + memory.time[a, age]) for age, e in entries]
            if memory.attention == "softmax":
                total = 1 + sum(score.exp() for score in scores)
                weights = [score.exp() / total for score in scores]
            elif memory.attention == "linear":
                weights = scores
            else:
                weights = [float(score == max(scores)) for score in scores]
            o = torch.zeros_like(u)
            for w, (age, e) in zip(weights, entries):
                o = o + w * (memory.embed[b] @ e + memory.time[b, age])
            u = o + (u if c.tying == "adjacent" else memory.turn(u))
        outputs.append(memory.readout(u))
        held.append(token)
    return torch.stack(outputs)


@pytest.mark.parametrize("tying", ["adjacent", "layerwise"])
@pytest.mark.parametrize("attention", ["softmax", "linear", "hard"])
def test_equals_the_equations(tying, attention):
    memory = build(tying=tying, attention=attention)
    x, resets = torch.randn(12, D, dtype=torch.float64), torch.tensor([0] * 7 + [1, 0, 1, 0, 0]).bool()
    with torch.no_grad():
        y, _ = memory.sequence(x.unsqueeze(0), None, resets.unsqueeze(0))
        assert torch.allclose(y[0], by_hand(memory, x, resets), atol=1e-12)


def test_adjacent_hops_share_their_embeddings():
    assert build(hops=3).embed.shape[0] == 4
    assert build(hops=3, tying="layerwise").embed.shape[0] == 2


def test_the_softmax_is_restored_after_a_linear_start():
    started, plain = build(attention="linear"), build()
    x = torch.randn(2, 6, D, dtype=torch.float64)
    with torch.no_grad():
        assert not torch.allclose(started.sequence(x)[0], plain.sequence(x)[0])
        started.attention = "softmax"
        assert torch.equal(started.sequence(x)[0], plain.sequence(x)[0])


@pytest.mark.parametrize("attention", ["softmax", "linear", "hard"])
def test_an_empty_memory_adds_nothing(attention):
    memory = build(attention=attention)
    x = torch.randn(3, D, dtype=torch.float64)
    with torch.no_grad():
        y, _ = memory.step(x, memory.initial_state(3))
        assert torch.equal(y, memory.readout(memory.query(x)))


def test_the_state_is_the_inputs_themselves():
    memory = build()
    x = torch.randn(1, 6, D, dtype=torch.float64)
    state = memory.sequence(x)[1]
    # entry p lies in slot p % 4
    assert torch.equal(state["ring"][0], x[0, [4, 5, 2, 3]])


@pytest.mark.parametrize("config", [{"slots": 0}, {"hops": 0}, {"tying": "none"}, {"attention": "sigmoid"}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
