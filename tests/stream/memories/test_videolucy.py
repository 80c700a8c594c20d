"""Intervals at three depths: children tile their parent, the search finds a needle in a few steps."""

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.memories.videolucy import backtrack


def hour(memory, seconds=900, needle=433):
    """Noise at one frame per second with one needle."""
    draw = np.random.default_rng(0)
    query = np.eye(16, dtype=np.float32)[0]
    for t in range(seconds):
        row = 0.05 * draw.standard_normal(16) + np.eye(16)[1 + (t // 60) % 15]
        memory.write((row + 3 * query * (t == needle))[None], float(t))
    return query


def test_children_tile_their_parent(stream, make):
    memory = make("videolucy", spans=(12.0, 4.0, 1.0), nodes=1000)
    stream.write(memory)
    levels = [memory.stores[f"depth{d}"] for d in range(3)]
    assert all(sum(e.weight for e in level) == len(stream) for level in levels)
    for outer, inner in zip(levels, levels[1:]):
        for parent in outer:
            children = [e for e in inner if e.t0 >= parent.t0 and e.t1 <= parent.t1]
            assert (children[0].t0, children[-1].t1) == (parent.t0, parent.t1)
            assert sum(e.weight for e in children) == parent.weight
            mean = sum(e.weight * e.tokens for e in children) / parent.weight
            assert np.allclose(mean, parent.tokens, atol=1e-5)
    for level, span in zip(levels, (12.0, 4.0, 1.0)):
        assert all(e.t0 // span == e.t1 // span for e in level)


def test_a_needle_is_found_in_two_steps(make):
    memory = make("videolucy", nodes=2000, steps=2)
    query = hour(memory)
    best = memory.rank(memory.snapshot(), query, None)[0]
    assert (best.t0, best.t1) == (433, 433)
    memory = make("videolucy", nodes=2000, steps=1)
    hour(memory)
    best = memory.rank(memory.snapshot(), query, None)[0]
    assert (best.t0, best.t1) == (430, 439)


def test_a_node_is_opened_once_and_nothing_twice(make):
    memory = make("videolucy", nodes=2000)
    query = hour(memory, 300, 100)
    levels = [memory.snapshot().stores[f"depth{d}"] for d in range(3)]
    for steps in (0, 3, 40, 500):
        found = backtrack(list(levels), query, steps)
        assert sum(e.weight for e in found) == 300 and len({(e.t0, e.t1, e.weight) for e in found}) == len(found)
    assert len(found) == 300  # everything open


def test_where_fine_nodes_left_the_search_ends_at_their_parent(make):
    memory = make("videolucy", nodes=20, steps=5)
    query = hour(memory)
    assert all(len(nodes) <= 20 for nodes in memory.stores.values())
    found = memory.rank(memory.snapshot(), query, None)
    assert (420, 479) in {(e.t0, e.t1) for e in found} and len(found) > 15


def test_spans_are_multiples(make):
    for spans in ((60.0, 7.0), (10.0, 10.0), (), (5.0, -1.0)):
        with pytest.raises(UsageError, match="expected"):
            make("videolucy", spans=spans)
