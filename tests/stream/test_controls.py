"""The controls keep exactly what their names say."""

import numpy as np
import pytest
import torch

from embodied_mem import registry
from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory
from embodied_mem.stream.memories.from_memory import from_memory


def kept(memory):
    return [entry.number for entry in memory.snapshot().entries]


def test_what_is_kept(stream, make):
    assert kept(stream.write(make("last_k", slots=5), 0, 50)) == [45, 46, 47, 48, 49]
    assert kept(stream.write(make("full_history"), 0, 50)) == list(range(50))
    assert kept(stream.write(make("none"), 0, 50)) == []


def test_uniform_is_even_and_at_least_half_full(stream, make):
    memory = make("uniform", slots=8)
    for count in range(1, 200):
        stream.write(memory, count - 1, count)
        numbers = kept(memory)
        assert len(set(np.diff(numbers))) <= 1 and numbers[0] == 0 and len(numbers) <= 8
        assert len(numbers) >= min(count, 4) and count - numbers[-1] <= max(1, np.diff(numbers).max(initial=1))


def test_every_frame_is_as_likely_in_the_reservoir(make):
    hits, rows = np.zeros(40), np.ones((1, 1), np.float32)
    for seed in range(150):
        memory = make("reservoir", slots=10, seed=seed)
        for index in range(40):
            memory.write(rows, index)
        assert len(kept(memory)) == 10 and kept(memory) == sorted(kept(memory))
        hits[kept(memory)] += 1
    # 150 draws at 1/4: standard deviation 5.3
    assert abs(hits[:20].mean() - 37.5) < 2 and np.abs(hits - 37.5).max() < 4 * 5.3


def test_the_most_similar_come_first(stream, make):
    memory = stream.write(make("full_history"))
    found = memory.read(stream.centres[3], budget=3 * 8)
    inside = stream.times[stream.scene == 3]
    assert len(found.times.unique(dim=0)) == 8 and ((found.times >= inside[0]) & (found.times <= inside[-1])).all()


def test_an_overview_covers_the_whole_stream(stream, make):
    times = stream.write(make("full_history")).read(None, 3 * 5).times[::3, 0].numpy()
    assert len(times) == 5 and times[0] == stream.times[0] and times[-1] == stream.times[-1]
    assert np.abs(np.diff(np.searchsorted(stream.times, times)) - 49.75).max() <= 1


def test_a_wrapped_memory_is_its_step_form(stream):
    torch.manual_seed(0)
    module = make_memory("gru", in_dim=8, out_dim=5)
    memory = stream.write(from_memory("gru", module), 0, 30)
    state = module.initial_state(1)
    with torch.no_grad():
        for index in range(30):
            y, state = module.step(torch.from_numpy(stream.tokens[index].mean(0))[None], state)
        asked, _ = module.step(torch.from_numpy(stream.centres[0])[None], state)
    assert torch.equal(memory.read().tokens, y) and torch.equal(memory.read(stream.centres[0]).tokens, asked)
    assert from_memory("gru", module).bound_bytes(3, 8) == module.bytes_per_env() + 4 * 5 + 8
    with pytest.raises(UsageError, match="width 8"):
        from_memory("gru", module).write(np.ones((2, 7)), 0)


def test_memories_that_read_more_than_features_are_refused(monkeypatch):
    monkeypatch.setattr(registry.get("memory", "gru"), "needs", frozenset({"depth"}))
    with pytest.raises(UsageError, match="needs depth, a stream has features only"):
        from_memory("gru")


def test_bytes_for_another_width_can_be_asked_in_the_middle_of_a_stream(stream):
    asked, quiet = from_memory("gru"), from_memory("gru")
    stream.write(asked, 0, 5)
    assert asked.bound_bytes(16, 512) > asked.bound_bytes(16, 8)
    assert stream.write(asked, 5, 9).read().tokens.equal(stream.write(quiet, 0, 9).read().tokens)


def test_a_state_without_an_array_changes_nothing(stream, make):
    memory = stream.write(make("uniform", slots=4), 0, 30)
    state, before = memory.state_dict(), kept(memory)
    del state["array/stride"]
    with pytest.raises(UsageError, match="'stride'"):
        memory.load_state_dict(state)
    assert kept(memory) == before and kept(stream.write(memory, 30, 60)) == kept(
        stream.write(make("uniform", slots=4), 0, 60)
    )
