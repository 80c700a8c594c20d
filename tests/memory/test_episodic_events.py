"""What is special about episodic events; the contract itself is in test_contract_*.py."""

import math

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory
from embodied_mem.memory.episodic_events import contiguous_events

D = 5


def build(**config):
    torch.manual_seed(0)
    sizes = {"in_dim": D, "out_dim": 4, "slots": 12, "width": 6, "similar": 2, "contiguous": 1, "window": 4}
    return make_memory("episodic_events", **{**sizes, "max_len": 5, **config}).double()


def dot(a, b):
    return sum(p * q for p, q in zip(a, b))


def boundaries(x, c):
    """Steps of one episode that open an event, number by number."""
    opens, surprises, mean, length = [], [], None, 0
    for token in x:
        if mean is None:
            opened = True
        else:
            surprise = 1 - dot(token, mean) / (math.hypot(*token) * math.hypot(*mean) + 1e-6)
            past = surprises[-c.window :]
            mu = sum(past) / max(len(past), 1)
            sigma = math.sqrt(sum((s - mu) ** 2 for s in past) / max(len(past), 1))
            above = len(past) > 1 and surprise > mu + c.gamma * sigma + 1e-4
            opened = (above and length >= c.min_len) or length >= c.max_len
            surprises.append(surprise)
        mean = token if opened else [(1 - c.smoothing) * m + c.smoothing * v for m, v in zip(mean, token)]
        length = 1 if opened else length + 1
        opens.append(opened)
    return opens


def one_read(memory, x, opens, t):
    """The output of step t of one episode."""
    c, H = memory.config, memory.config.heads
    d = c.width // H
    held = range(max(0, t - c.slots), t)
    number = [sum(opens[: s + 1]) for s in range(t + 1)]
    stored = memory.embed(x).tolist()
    q = memory.query(x[t])
    asked = [(q[i * d : (i + 1) * d] @ memory.key[i] / d**0.5).tolist() for i in range(H)]
    scores = {s: [dot(asked[i], stored[s]) for i in range(H)] for s in held}
    events = sorted({number[s] for s in held} - {number[t]})
    means = {e: [sum(scores[s]) for s in held if number[s] == e] for e in events}
    ranked = sorted(events, key=lambda e: -sum(means[e]) / len(means[e]))[: c.similar]
    near = []
    for e in ranked:
        for other in (e + 1, e - 1):
            if other in events and other not in ranked and other not in near:
                near.append(other)
    chosen = {number[t], *ranked, *near[: c.contiguous]}
    read = torch.zeros(H, d, dtype=torch.float64)
    for i in range(H):
        weights = {s: math.exp(scores[s][i] + memory.code[i, t - s - 1]) for s in held if number[s] in chosen}
        for s, w in weights.items():
            read[i] += (
                w / (1 + sum(weights.values())) * (torch.tensor(stored[s], dtype=torch.float64) @ memory.value[i])
            )
    return memory.skip(x[t]) + memory.out(read.flatten())


@pytest.mark.parametrize("contiguous", [0, 3])
@pytest.mark.parametrize("similar", [1, 2])
def test_equals_the_equations(similar, contiguous):
    memory = build(similar=similar, contiguous=contiguous)
    x = torch.randn(30, D, dtype=torch.float64)
    with torch.no_grad():
        y = memory.sequence(x.unsqueeze(0))[0][0]
        opens = boundaries(x.tolist(), memory.config)
        assert 4 < sum(opens) < 20
        want = torch.stack([one_read(memory, x, opens, t) for t in range(len(x))])
    assert torch.allclose(y, want, atol=1e-10)


def segmented(memory, x):
    seen = {key: value for key, value in memory.initial_state(len(x)).items() if key != "ring"}
    marks = []
    for t in range(x.shape[1]):
        opens, seen = memory.segment(x[:, t], seen)
        marks.append(opens)
    return torch.stack(marks, 1)


def test_change_points_of_a_piecewise_constant_stream_are_found():
    generator = torch.Generator().manual_seed(0)
    memory = make_memory("episodic_events", in_dim=32, out_dim=4, window=64, min_len=4, max_len=128).double()
    lengths = torch.randint(12, 40, (21,), generator=generator)
    levels = torch.randn(21, 32, dtype=torch.float64, generator=generator)
    x = levels.repeat_interleave(lengths, 0)
    x = x + 0.05 * torch.randn(x.shape, dtype=torch.float64, generator=generator)
    true = set(lengths.cumsum(0)[:-1].tolist())
    # surprises of constant stretches are tiny and their spread too: ask for four deviations
    memory.config = type(memory.config)(**{**vars(memory.config), "gamma": 4.0})
    found = set(segmented(memory, x.unsqueeze(0))[0].nonzero()[:, 0].tolist()) - {0}
    hit = sum(any(abs(f - t) <= 1 for f in found) for t in true)
    precise = sum(any(abs(f - t) <= 1 for t in true) for f in found)
    assert 2 * hit * precise / (hit * len(found) + precise * len(true)) >= 0.9


def test_events_obey_their_bounds():
    memory = build(min_len=3, max_len=5, gamma=0.0)
    opens = segmented(memory, torch.randn(4, 80, D, dtype=torch.float64))
    assert opens[:, 0].all()
    for row in opens:
        starts = row.nonzero()[:, 0]
        lengths = starts.diff()
        assert lengths.min() >= 3 and lengths.max() <= 5


def test_a_constant_stream_has_no_surprise():
    memory = build(max_len=50)
    opens = segmented(memory, torch.ones(1, 40, D, dtype=torch.float64))
    assert opens.sum().item() == 1


def test_neighbours_come_in_the_order_of_hits():
    # events count back from the present: the later neighbour of event 5 is 4
    hits, exists = torch.tensor([5, 9]), torch.ones(12, dtype=torch.bool)
    near, kept = contiguous_events(hits, hits > 0, exists, 4)
    assert near[kept].tolist() == [4, 6, 8, 10]
    near, kept = contiguous_events(torch.tensor([5, 6, 11]), torch.ones(3, dtype=torch.bool), exists, 9)
    assert near[kept].tolist() == [4, 7, 10]
    # a hit that does not count has no neighbours, and the present event (0) is none
    exists[0] = False
    near, kept = contiguous_events(torch.tensor([1, 5]), torch.tensor([True, False]), exists, 9)
    assert near[kept].tolist() == [2]


@pytest.mark.parametrize("config", [{"similar": 0}, {"max_len": 1}, {"contiguous": -1}, {"width": 5}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
