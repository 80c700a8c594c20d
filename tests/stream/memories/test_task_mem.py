"""A writer that learns what questions are about: better than fixed rules, worse once they change, and better again."""

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.memory import make_stream_memory

SLOTS, FRAMES, KINDS = 10, 60, 8
CENTRES = np.eye(KINDS, dtype=np.float32)


def stream(seed):
    rng = np.random.default_rng([7, seed])
    kinds = rng.integers(0, KINDS, FRAMES)
    tokens = CENTRES[kinds][:, None] + 0.1 * rng.standard_normal((FRAMES, 2, KINDS))
    return kinds, tokens.astype(np.float32)


def play(memory, seed, asked):
    """Write one stream; return the share of ten questions about frames of the kinds ``asked`` that are held."""
    kinds, tokens = stream(seed)
    for number in range(FRAMES):
        memory.write(tokens[number], float(number))
    held = {int(t) for t in memory.read().times[:, 0].tolist()}
    right = [number in held for number in np.flatnonzero(np.isin(kinds, asked))]
    return sum(right) / min(len(right), SLOTS)


def train(asked, learned=None, episodes=150, first=0):
    memory = make_stream_memory("taskmem", slots=SLOTS)
    for episode in range(first, first + episodes):
        memory.reset()
        if learned is not None:
            memory.load_adapter(learned)
        memory.explore(episode)
        learned = memory.learn(play(memory, episode, asked))
    return learned


def score(asked, learned=None, name="taskmem", **config):
    scores = []
    for seed in range(10_000, 10_020):
        memory = make_stream_memory(name, slots=SLOTS, **config)
        if learned is not None:
            memory.load_adapter(learned)
        scores.append(play(memory, seed, asked))
    return float(np.mean(scores))


def test_it_learns_what_is_asked_and_learns_again_when_that_changes():
    fixed = max(score([0, 1], name=name) for name in ("last_k", "reservoir", "uniform"))
    first = train([0, 1])
    assert fixed < 0.3 and score([0, 1], first) > 2 * fixed
    assert score([4, 5], first) < fixed, "the questions changed"
    again = train([4, 5], first, episodes=300, first=1000)
    assert score([4, 5], again) > 2 * fixed


def test_untrained_it_is_last_k():
    kinds, tokens = stream(3)
    memory, last = make_stream_memory("taskmem", slots=SLOTS), make_stream_memory("last_k", slots=SLOTS)
    for number in range(FRAMES):
        for one in (memory, last):
            one.write(tokens[number], float(number))
    assert memory.read().times.tolist() == last.read().times.tolist()


def test_the_trace_is_the_gradient_of_the_log_chance_of_what_was_decided():
    memory = make_stream_memory("taskmem", slots=100)
    adapter = np.random.default_rng(0).standard_normal(KINDS + 2)
    tokens = stream(0)[1][:5]
    memory.load_adapter({"adapter": adapter, "baseline": np.array([0.0, 1.0])})
    memory.explore(2)
    for number, rows in enumerate(tokens):
        memory.write(rows, float(number))
    written = [float(t) in memory.read().times[:, 0].tolist() for t in range(5)]

    def log_chance(w):
        total, held = 0.0, []
        for rows, kept in zip(tokens, written):
            unit = rows.mean(0) / np.linalg.norm(rows.mean(0))
            value = w @ np.array([*unit, max((unit @ one for one in held), default=0.0), 1.0])
            total += -np.logaddexp(0, -value if kept else value)
            held += [unit] if kept else []
        return total

    steps = np.eye(len(adapter)) * 1e-5
    numeric = [(log_chance(adapter + step) - log_chance(adapter - step)) / 2e-5 for step in steps]
    assert 0 < sum(written) < 5
    np.testing.assert_allclose(memory.arrays["trace"], numeric, atol=1e-5)


def test_misuse_is_refused():
    memory = make_stream_memory("taskmem", slots=4)
    with pytest.raises(UsageError, match="expected explore"):
        memory.learn(1.0)
    memory.write(np.ones((1, 3), np.float32), 0.0)
    with pytest.raises(UsageError, match="before the first frame"):
        memory.explore(0)
    with pytest.raises(UsageError, match="before the first frame"):
        memory.load_adapter({"adapter": np.zeros(5), "baseline": np.zeros(2)})
    memory.reset()
    memory.load_adapter({"adapter": np.zeros(9), "baseline": np.zeros(2)})
    with pytest.raises(UsageError, match="width 7"):
        memory.write(np.ones((1, 3), np.float32), 0.0)
