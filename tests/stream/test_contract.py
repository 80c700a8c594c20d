"""What every registered stream memory keeps to: bounded bytes, exact times, immutable snapshots, state, reset."""

import threading

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from embodied_mem import registry
from embodied_mem.errors import UsageError
from embodied_mem.stream.memory import make_stream_memory

NAMES = registry.names("stream_memory")
SMALL = {name: registry.meta("stream_memory", name).get("small", {}) for name in NAMES}
CASES = [*NAMES, "memory:gated_delta", "memory:episodic"]


def build(name):
    return make_stream_memory(name, **SMALL.get(name, {}))


def fingerprint(evidence):
    frames = [(frame.t_s, frame.rgb.tobytes()) for frame in evidence.frames]
    return evidence.tokens.numpy().tobytes(), evidence.times.numpy().tobytes(), frames, evidence.text, evidence.version


@pytest.fixture(params=CASES)
def name(request):
    return request.param


def test_bytes_stay_under_the_bound(name, stream):
    memory, sizes = build(name), []
    bound = memory.bound_bytes(*stream.tokens.shape[1:], frame=stream.frames[0].nbytes)
    for index in range(len(stream)):
        stream.write(memory, index, index + 1)
        sizes.append(memory.nbytes())
    if memory.bounded:
        assert max(sizes) <= bound
        assert max(sizes) == max(sizes[:150]) or max(sizes) <= 1.25 * max(sizes[:150])
    else:
        assert bound is None and sizes[-1] > 1.9 * sizes[len(sizes) // 2 - 1]


def test_times_and_key_frames_are_those_written(name, stream):
    memory = stream.write(build(name), 0, 150)
    written = {float(t): index for index, t in enumerate(stream.times)}
    for query in (None, stream.centres[2]):
        found = memory.read(query)
        assert all(t in written for t in found.times.flatten().tolist())
        assert (found.times[:, 0] <= found.times[:, 1]).all() and (found.times[:, 0].diff() >= 0).all()
        assert found.until_s == stream.times[149]
        for frame in found.frames:
            assert np.array_equal(frame.rgb, stream.frames[written[frame.t_s]])
        assert {span[1:] for span in found.text} == {tuple(row) for row in found.times.tolist()}


def test_a_snapshot_never_changes(name, stream):
    memory = stream.write(build(name), 0, 80)
    taken = memory.snapshot()

    def look():
        return [fingerprint(taken.read(query, budget)) for query in (None, stream.centres[1]) for budget in (None, 7)]

    before = look()
    for entry in taken.entries:
        with pytest.raises(ValueError, match="read-only"):
            entry.tokens[0, 0] = 1.0
    with pytest.raises(AttributeError):
        taken.version = 0
    stream.write(memory, 80, 200)
    memory.read(stream.centres[0])
    assert look() == before and taken.version == 80 and memory.snapshot().version == memory.version == 200
    memory.reset()
    assert look() == before


def test_reading_leaves_no_trace(name, stream):
    quiet, asked = stream.write(build(name), 0, 60), build(name)
    for index in range(60):
        stream.write(asked, index, index + 1)
        if index % 7 == 0:
            asked.read(stream.centres[index % 6], 5)
    assert fingerprint(quiet.read()) == fingerprint(asked.read())


def test_saved_and_loaded_it_goes_on_the_same(name, stream):
    memory = stream.write(build(name), 0, 120)
    state = load(save(memory.state_dict()))
    other = stream.write(build(name), 0, 9)
    other.load_state_dict(state)
    assert other.nbytes() == memory.nbytes() and other.version == 120
    assert fingerprint(other.read()) == fingerprint(memory.read())
    stream.write(memory, 120, 160)
    stream.write(other, 120, 160)
    for query in (None, stream.centres[3]):
        assert fingerprint(other.read(query)) == fingerprint(memory.read(query))
    state.pop("counts")
    kept = fingerprint(other.read())
    with pytest.raises(UsageError, match="counts"):
        other.load_state_dict(state)
    assert fingerprint(other.read()) == kept


def test_reset_leaves_nothing(name, stream, Scenes):
    memory = stream.write(build(name), 0, 90)
    memory.reset()
    assert memory.version == 0 and memory.read().tokens.numel() == 0 and memory.read().until_s == -float("inf")
    other = Scenes([30, 30], tokens=2, width=6, seed=5)
    assert fingerprint(other.write(memory).read()) == fingerprint(other.write(build(name)).read())


def test_the_budget_is_kept(name, stream):
    memory = stream.write(build(name), 0, 150)
    whole = memory.read().tokens.shape[0]
    for query in (None, stream.centres[4]):
        for budget in (1, 2, 7, 50):
            found = memory.read(query, budget)
            assert found.tokens.shape[0] <= budget and (found.tokens.shape[0] > 0) == (whole > 0)
            assert found.tokens.shape[0] == found.times.shape[0] and found.tokens.dtype == torch.float32
            assert torch.isfinite(found.tokens).all()


def test_what_is_wrong_is_refused_and_changes_nothing(name, stream):
    memory = stream.write(build(name), 0, 20)
    before, rows, now, image = fingerprint(memory.read()), stream.tokens[20], float(stream.times[20]), stream.frames[20]
    nan = rows.copy()
    nan[1, 2] = np.nan
    wrong = [(rows[0], now, image), (rows[:2], now, image), (nan, now, image), (rows, now - 60, image)]
    wrong += [(rows, float("nan"), image), (rows, now, image[:2]), (rows, now, image / 2), (rows[:, :5], now, None)]
    for arguments in wrong:
        with pytest.raises(UsageError, match="expected"):
            memory.write(*arguments)
    with pytest.raises(UsageError, match="bytes"):
        memory.write(rows, now, image, "x" * 1025)
    for query, budget in ((stream.centres[0][:3], None), (np.full(8, np.nan), None), (None, 0)):
        with pytest.raises(UsageError, match="expected"):
            memory.read(query, budget)
    assert fingerprint(memory.read()) == before and memory.version == 20


def test_tensors_and_frames_without_pictures_are_taken(name, stream):
    memory = build(name)
    for index in range(30):
        memory.write(torch.from_numpy(stream.tokens[index]).double().requires_grad_(), float(stream.times[index]))
    found = memory.read(torch.from_numpy(stream.centres[0]))
    assert not found.frames and not found.tokens.requires_grad


def test_readers_see_whole_writes(name, stream):
    memory, stop, torn = build(name), threading.Event(), []

    def look():
        while not stop.is_set():
            taken = memory.snapshot()
            if taken.entries and max(e.t1 for e in taken.entries) > taken.until_s:
                torn.append(taken.version)
            if fingerprint(taken.read()) != fingerprint(taken.read()):
                torn.append(taken.version)

    reader = threading.Thread(target=look)
    reader.start()
    stream.write(memory, 0, 60)
    stop.set()
    reader.join()
    assert not torn


def test_every_memory_is_listed_with_its_bytes():
    from embodied_mem.stream.memories.catalogue import describe

    rows = {name: describe(name) for name in NAMES}
    assert rows["none"]["bound_bytes"] == 0 and rows["full_history"]["bound_bytes"] is None
    assert all(row["about"] and row["family"] and row["source"] for row in rows.values())


def test_unknown_names_and_values_are_one_line():
    for name, config, reason in (
        ("uniforn", {}, "did you mean 'uniform'"),
        ("uniform", {"slot": 3}, "did you mean 'slots'"),
        ("uniform", {"slots": 0}, "slots >= 1"),
        ("memory:grue", {}, "gru"),
    ):
        with pytest.raises(UsageError, match=reason):
            make_stream_memory(name, **config)
