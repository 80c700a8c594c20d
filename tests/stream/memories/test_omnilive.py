"""Clips: boundaries by change, the best clip for a question, fast snapshots."""

import time

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.memories.omnilive import overview, select


def clips(memory):
    return [*memory.stores["clips"], *([memory.stores["open"]] if memory.stores["open"] else [])]


def test_ten_scenes_are_ten_clips_and_a_still_one_is_cut_by_length(Scenes, make):
    stream = Scenes([9] * 10, tokens=2, width=32, noise=0.05)
    memory = stream.write(make("omnilive"))
    assert len(clips(memory)) == 10
    assert [clip.number for clip in memory.stores["clips"]] == list(range(0, 81, 9))
    still = make("omnilive")
    for index in range(100):
        still.write(np.ones((2, 4)), index)
    assert len(clips(still)) == 7 and all(clip.weight == 16 for clip in still.stores["clips"])


def test_the_best_clip_is_taken_and_recent_frames_where_none_fits(Scenes, make):
    stream = Scenes([9] * 6, tokens=2, width=32, noise=0.05)
    memory = stream.write(make("omnilive", select=1))
    found = memory.read(stream.centres[3])
    inside = stream.times[stream.scene == 3]
    assert found.times.unique(dim=0).tolist() == [[inside[0], inside[-1]]] and len(found.tokens) == 4
    unlike = np.linalg.svd(stream.centres)[2][-1]  # at right angles to every scene
    assert memory.read(unlike).times[:, 0].unique().tolist() == stream.times[-3:].tolist()
    summaries = np.array([[1, 0.9], [1, 0.0], [0, 1.0]])
    assert select(summaries, np.array([1.0, 0.0]), 3, 0.3) == [1, 0]
    assert (
        select(summaries, np.array([1.0, 0.0]), 1, 0.3) == [1] and select(summaries, np.array([1.0, 0.0]), 3, 1.0) == []
    )


def test_a_question_sees_the_moment_it_was_asked_in(stream, make):
    memory = stream.write(make("omnilive"), 0, 100)
    taken, before = memory.snapshot(), memory.read(stream.centres[5])
    stream.write(memory, 100)
    assert taken.read(stream.centres[5]).tokens.equal(before.tokens)
    assert not memory.read(stream.centres[5]).tokens.equal(before.tokens)


def test_snapshots_of_a_thousand_clips_are_fast(make):
    memory, draw = make("omnilive", clips=1000, min_len=1, max_len=1, slots=1), np.random.default_rng(0)
    for index, row in enumerate(draw.standard_normal((1001, 1, 8))):
        memory.write(row, index)
    spent = []
    for _ in range(100):
        began = time.process_time()
        memory.snapshot()
        spent.append(time.process_time() - began)
    assert len(memory.stores["clips"]) == 1000 and np.percentile(spent, 95) < 5e-3


def test_too_many_clips_merge_neighbours_and_keep_all_frames(stream, make):
    memory = stream.write(make("omnilive", clips=5))
    held = memory.stores["clips"]
    assert len(held) == 5 and sum(c.weight for c in held) + len(memory.stores["open"]) == len(stream)
    assert all(a.t1 < b.t0 for a, b in zip(held, held[1:]))
    with pytest.raises(UsageError, match="max_len >= min_len = 3"):
        make("omnilive", max_len=2)


def test_an_overview_mixes_clips_that_are_alike():
    summaries = np.array([[9.0, 0.0], [9.0, 0.1], [0.0, 9.0]])
    views = overview(summaries)
    assert np.allclose(views[0], views[1], atol=0.1) and np.allclose(views[2], [0, 9], atol=1e-3)
