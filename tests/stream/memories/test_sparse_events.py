"""Events as codes: what is kept of a stretch, where it begins and ends, what becomes of it when there is no room."""

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.memories.sparse_events import EVENTS, SparseEventsConfig, coded, decoded, merged
from embodied_mem.stream.memory import make_stream_memory


def scenes(lengths, kinds, width=32, noise=0.0, seed=0):
    """Frames (N, 1, width): scene k shows numbers 3 k to 3 k + 2."""
    draw = np.random.default_rng(seed)
    rows = np.zeros((sum(lengths), width), np.float32)
    for row, kind in zip(rows, np.repeat(kinds, lengths)):
        row[3 * kind : 3 * kind + 3] = 1.0
    return (rows + noise * draw.random(rows.shape, np.float32))[:, None]


def written(frames, **config):
    memory = make_stream_memory("sparse_events", **config)
    for t, rows in enumerate(frames):
        memory.write(rows, float(t))
    return memory


def test_an_event_is_a_scene_with_its_exact_times():
    found = written(scenes([9, 7, 12, 5], [0, 1, 2, 0], noise=0.1)).read()
    assert found.times.tolist() == [[0.0, 8.0], [9.0, 15.0], [16.0, 27.0], [28.0, 32.0]]
    shown = found.tokens.numpy().argsort(1)[:, -3:]
    assert [sorted(row) for row in shown.tolist()] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 1, 2]]


def test_a_glance_aside_does_not_end_an_event_and_is_kept():
    frames = scenes([6, 1, 6], [0, 1, 0])
    one = written(frames, patience=2).read()
    assert one.times.tolist() == [[0.0, 12.0]]
    # p = 3: one frame of 13
    assert one.tokens[0, 3].item() == pytest.approx(13 ** (-1 / 3), abs=0.01)
    assert written(frames, patience=2, power=1.0).read().tokens[0, 3].item() == pytest.approx(1 / 13, abs=0.01)
    assert len(written(frames, patience=1).read().tokens) == 3


def test_codes_give_back_the_greatest_numbers_to_a_part_in_127():
    rows = np.random.default_rng(1).standard_normal((50, 40)).astype(np.float32)
    back = decoded(coded(rows, 40), 40)
    assert np.abs(back - rows).max(1) == pytest.approx(0, abs=float(np.abs(rows).max()) / 127)
    few = decoded(coded(rows, 6), 40)
    for row, kept in zip(rows, few):
        best = np.argsort(-np.abs(row))[:6]
        assert set(np.flatnonzero(kept)) <= set(best.tolist()) and (np.sign(kept[best]) == np.sign(row[best])).all()


def test_of_too_many_events_those_of_the_same_kind_become_one():
    lengths, kinds = [6] * 24, [k % 4 for k in range(24)]
    memory = written(scenes(lengths, kinds), events=8)
    found = memory.read()
    assert len(found.tokens) <= 9
    # nothing was mixed: every event still shows one scene
    assert ((found.tokens.numpy() > 0.5).sum(1) == 3).all()
    assert sum(memory.arrays["weights"]) + memory.arrays["open"][2] == 6 * 24
    assert found.times[:, 1].max() == 143.0 and found.times.min() == 0.0


def test_a_merge_averages_by_frames():
    rows = np.eye(4, dtype=np.float32)[[0, 0, 2]] * np.array([[1.0], [0.5], [1.0]], np.float32)
    events = {"times": np.array([[0.0, 3.0], [4.0, 5.0], [6.0, 9.0]]), "weights": np.array([3, 1, 4], np.float32)}
    config = SparseEventsConfig(events=2, parts=2, power=1.0)
    out = merged({**events, **coded(rows, 2)}, 4, config)
    assert set(out) == set(EVENTS) and out["weights"].tolist() == [4, 4]
    assert out["times"].tolist() == [[0.0, 5.0], [6.0, 9.0]]
    assert decoded(out, 4)[0] == pytest.approx([0.875, 0, 0, 0], abs=0.01)


def test_a_question_gets_the_events_that_show_what_is_asked():
    frames = scenes([8] * 30, [k % 5 for k in range(30)])
    memory, query = written(frames), np.zeros(32, np.float32)
    query[6] = 1.0
    found = memory.read(query, 6)
    assert found.times[:, 0].tolist() == [8.0 * k for k in range(30) if k % 5 == 2]
    assert memory.snapshot().before(100.0).read(query, 6).times.max() <= 100.0


def test_four_hundred_scenes_take_a_sixteenth_of_their_frames():
    frames = scenes([10] * 400, [k % 10 for k in range(400)], width=128)
    memory = written(frames, events=1000)
    assert len(memory.read().tokens) == 400 and memory.nbytes() < frames.nbytes / 16


def test_what_is_too_wide_is_refused():
    with pytest.raises(UsageError, match="width"):
        make_stream_memory("sparse_events").write(np.ones((1, 40_000), np.float32), 0.0)
    with pytest.raises(UsageError, match="power >= 1"):
        make_stream_memory("sparse_events", power=0.5)
