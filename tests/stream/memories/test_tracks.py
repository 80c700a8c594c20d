"""Tracks: slow averages by the clock, gates, identities that survive absence."""

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.memories.tracks import TrackMemory, match_pairs

DRAW = np.random.default_rng(0)


def test_the_long_memory_is_its_closed_form():
    memory, outputs = TrackMemory(2.0, 9.0), DRAW.standard_normal((40, 6)).astype(np.float32)
    times = np.cumsum(DRAW.uniform(0.01, 0.3, 40))
    for t, o in zip(times, outputs):
        memory.update(float(t), [7], o[None])
    keep = np.exp(-np.diff(times) / 2.0)
    left = np.cumprod(keep[::-1])[::-1]  # what is left of what came before each later frame
    closed = left[0] * outputs[0] + sum(
        (1 - keep[i]) * (left[i + 1] if i + 1 < len(keep) else 1) * outputs[i + 1] for i in range(39)
    )
    assert np.abs(memory.tracks[7].long - closed).max() < 1e-6
    assert np.array_equal(memory.tracks[7].short, outputs[-1]) and memory.tracks[7].seen == 40


def test_detections_below_the_gate_change_nothing():
    memory, o = TrackMemory(2.0, 9.0, gate=0.5), DRAW.standard_normal((3, 2, 4)).astype(np.float32)
    memory.update(0.0, [1, 2], o[0])
    memory.update(0.1, [1, 2], o[1], np.array([0.9, 0.5]))
    assert np.array_equal(memory.tracks[2].long, o[0, 1]) and memory.tracks[2].last_s == 0.0
    assert not np.array_equal(memory.tracks[1].long, o[0, 0])


def test_a_track_returns_within_the_tolerance_and_not_after():
    for missed, back in ((30, True), (31, False)):
        memory, o = TrackMemory(1.0, tolerance_s=31 / 30), np.ones((1, 4), np.float32)
        memory.update(0.0, [5], o)
        for frame in range(1, missed + 1):
            memory.update(frame / 30, [], o[:0])
        memory.update((missed + 1) / 30, [], o[:0])
        assert (5 in memory.tracks) == back


def test_the_frame_rate_does_not_matter():
    ends = []
    for rate in (10, 30):
        memory = TrackMemory(1.0, 9.0)
        memory.update(0.0, [0], np.zeros((1, 1)))
        for frame in range(1, 2 * rate + 1):
            memory.update(frame / rate, [0], np.ones((1, 1)))
        ends.append(memory.tracks[0].long.item())
    assert ends[0] == pytest.approx(ends[1], rel=0.02) and ends[0] == pytest.approx(1 - np.exp(-2), rel=1e-5)


def test_pairs_do_not_depend_on_the_order_of_the_tracks():
    tokens, longs = DRAW.standard_normal((5, 8)), DRAW.standard_normal((7, 8))
    order = DRAW.permutation(7)
    found = match_pairs(tokens, longs[order], 0.1)
    assert {(token, int(order[track])) for token, track in found} == set(match_pairs(tokens, longs, 0.1)) and found
    assert match_pairs(tokens, longs[:0], 0.1) == []


def test_things_keep_their_identity_in_a_stream(make):
    things, memory = np.eye(8, dtype=np.float32)[:4], make("tracks", tolerance_s=5.0, tracks=4)
    for step in range(40):
        shown = things[[0, 1]] if step % 20 < 10 else things[[2, 1]]
        memory.write(shown + 0.05 * DRAW.standard_normal((2, 8)), 0.1 * step)
    spans = {e.number: (round(e.t0, 1), round(e.t1, 1), e.weight) for e in memory.stores["tracks"]}
    assert spans == {0: (0.0, 2.9, 20), 1: (0.0, 3.9, 40), 2: (1.0, 3.9, 20)}
    for step in range(40, 100):
        memory.write(np.tile(things[3], (2, 1)), 0.1 * step)
    assert 1 not in {e.number for e in memory.stores["tracks"]} and len(memory.stores["tracks"]) <= 4
    with pytest.raises(UsageError, match="horizon_s > 0"):
        make("tracks", horizon_s=0.0)
