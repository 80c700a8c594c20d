"""Film memory: merges between neighbours, counts and intervals, views of an earlier moment."""

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.entry import Entry, joined
from embodied_mem.stream.memories.movie_chat import merge_neighbours


def entries(tokens):
    return [Entry(rows.astype(np.float32), float(i), float(i), float(i), number=i) for i, rows in enumerate(tokens)]


def naive(items, target):
    """All similarities again after every merge."""
    items = list(items)
    while len(items) > target:
        scores = []
        for a, b in zip(items, items[1:]):
            unit = [e.tokens / (np.linalg.norm(e.tokens, axis=1, keepdims=True)) for e in (a, b)]
            scores.append((unit[0] * unit[1]).sum(1).mean())
        place = int(np.argmax(scores))
        items[place : place + 2] = [joined(items[place], items[place + 1])]
    return items


def test_pairs_of_duplicates_become_the_distinct_frames():
    distinct = np.random.default_rng(0).standard_normal((9, 4, 8))
    found = merge_neighbours(entries(np.repeat(distinct, 2, axis=0)), 9)
    assert np.allclose([e.tokens for e in found], distinct, atol=1e-6)
    assert [e.weight for e in found] == [2] * 9
    assert [(e.t0, e.t1) for e in found] == [(2 * i, 2 * i + 1) for i in range(9)]


@pytest.mark.parametrize("seed", range(100))
def test_incremental_merging_equals_the_naive_one(seed):
    items = entries(np.random.default_rng(seed).standard_normal((12, 2, 3)))
    ours, theirs = merge_neighbours(items, 4), naive(items, 4)
    assert [(e.t0, e.t1) for e in ours] == [(e.t0, e.t1) for e in theirs]
    assert np.allclose([e.tokens for e in ours], [e.tokens for e in theirs], atol=1e-6)


def test_counts_and_intervals_cover_the_stream(stream, make):
    memory = make("movie_chat", short_len=6, merge_to=2, long_len=8)
    for index in range(len(stream)):
        stream.write(memory, index, index + 1)
        held = memory.snapshot().entries
        assert sum(e.weight for e in held) == index + 1
        assert held[0].t0 == stream.times[0] and held[-1].t1 == stream.times[index]
        assert all(a.t1 < b.t0 for a, b in zip(held, held[1:])) and len(memory.stores["long"]) <= 8


def test_an_earlier_moment_knows_nothing_later(stream, make):
    taken = stream.write(make("movie_chat", short_len=6, long_len=8)).snapshot()
    for t in (stream.times[0] - 1, stream.times[70], stream.times[-1]):
        found = taken.before(t).read()
        assert (found.times <= t).all() and found.until_s == min(t, stream.times[-1])


def test_published_averages_forget_counts(make):
    plain, counted = (make("movie_chat", short_len=3, merge_to=1, long_len=9, weighted=w) for w in (False, True))
    for t, value in enumerate([1.0, 1.0, 4.0]):
        for memory in (plain, counted):
            memory.write(np.full((1, 1), value), t)
    assert plain.stores["long"][0].tokens.item() == 2.5 and counted.stores["long"][0].tokens.item() == 2.0


def test_unnormalised_products_let_long_vectors_attract(make):
    rows = np.array([[1.0, 0.0], [1.0, 0.01], [0.0, 9.0], [5.0, 9.0]])
    ours, published = (merge_neighbours(entries(rows[:, None]), 3, normalise=n) for n in (True, False))
    assert [e.weight for e in ours] == [2, 1, 1] and [e.weight for e in published] == [1, 1, 2]


def test_wrong_lengths_are_refused(make):
    with pytest.raises(UsageError, match="merge_to < short_len = 4"):
        make("movie_chat", short_len=4, merge_to=4)
