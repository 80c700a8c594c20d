"""Event memory: events tile the stream, boundaries are refined, hits bring their neighbours."""

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.memories.em_llm import contiguous

EVENTS = {"min_len": 4, "max_len": 50}


def test_neighbours_follow_the_order_of_the_hits():
    assert contiguous([5, 9], 4, 20) == [6, 4, 10, 8]
    assert contiguous([5, 6], 4, 20) == [4, 7]
    assert contiguous([0, 9], 3, 10) == [1, 8] and contiguous([3], 1, 10) == [4] and contiguous([3], 0, 10) == []


def test_events_tile_the_stream(stream, make):
    memory = make("em_llm", events=100, surprise=EVENTS)
    for index in range(len(stream)):
        stream.write(memory, index, index + 1)
        recent = [*memory.stores["last"], *memory.stores["open"]]
        events = memory.stores["events"]
        assert sum(e.weight for e in events) + len(recent) == index + 1
        lengths = [e.weight for e in events]
        assert not lengths or (min(lengths) >= 4 and max(lengths) <= 50)
    edges = [stream.scene[e.number] for e in events]
    assert edges == [0, 1, 2, 3][: len(edges)] or len(set(edges)) >= 4
    for before, after in zip(events, events[1:]):
        assert before.t1 < after.t0 and after.number == before.number + before.weight


def test_events_begin_where_scenes_do(stream, make):
    events = stream.write(make("em_llm", surprise={**EVENTS, "max_len": 64})).stores["events"]
    starts = np.flatnonzero(np.diff(stream.scene)) + 1
    assert [e.number for e in events[1:]] == starts[: len(events) - 1].tolist() and len(events) >= 4


def test_a_hit_brings_the_event_after_and_before_it(stream, make):
    memory = stream.write(make("em_llm", similar=1, contiguous=2, surprise={**EVENTS, "max_len": 64}))
    found = memory.read(5 * stream.centres[2])
    spans = sorted(set(map(tuple, found.times.tolist())))
    scenes = [stream.scene[np.searchsorted(stream.times, t0)] for t0, _ in spans]
    assert scenes == [1, 2, 3]


def test_old_events_merge_instead_of_leaving(stream, make):
    memory = stream.write(make("em_llm", events=2, represent=2, surprise={"min_len": 3, "max_len": 10}))
    events = memory.stores["events"]
    assert len(events) == 2 and events[0].t0 == stream.times[0]
    assert all(len(e.tokens) == 2 for e in events)
    assert sum(e.weight for e in events) + sum(len(memory.stores[k]) for k in ("last", "open")) == len(stream)


def test_more_representatives_than_frames_are_refused(make):
    with pytest.raises(UsageError, match="represent <= surprise.min_len = 3"):
        make("em_llm", surprise={"min_len": 3})
