"""Kept likenesses give what computing all of them at every merge gives; entries gathered at once what each gives."""

from functools import partial

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.entry import Entry, gathered, joined, keys_of
from embodied_mem.stream.neighbours import Neighbours, cosines, matching_cosines, products


def entries(draw, sizes, width=5):
    rows = [draw.standard_normal((size, width)).astype(np.float32) for size in sizes]
    return [Entry(tokens, float(i), float(i), float(i), number=i) for i, tokens in enumerate(rows)]


@pytest.mark.parametrize("alike", [cosines, matching_cosines, products])
def test_a_merge_finds_the_most_alike_neighbours(alike):
    draw = np.random.default_rng(3)
    held, plain = [], []
    neighbours = Neighbours(alike, joined)
    for entry in entries(draw, [3] * 60):
        for items in (held, plain):
            items.append(entry)
        neighbours.known(held)
        neighbours.merge(held, 9)
        if len(plain) > 9:
            place = int(np.argmax(alike(plain)))
            plain[place : place + 2] = [joined(plain[place], plain[place + 1])]
        assert [(e.t0, e.t1) for e in held] == [(e.t0, e.t1) for e in plain]
    assert all(a.tokens.tobytes() == b.tokens.tobytes() for a, b in zip(held, plain))


def test_a_merge_computes_two_likenesses_and_a_new_entry_one():
    asked = []

    def counted(some):
        asked.append(len(some) - 1)
        return cosines(some)

    held = entries(np.random.default_rng(0), [2] * 40)
    neighbours = Neighbours(counted, partial(joined, weighted=False))
    neighbours.known(held)
    assert asked == [39]
    held += entries(np.random.default_rng(1), [2])
    neighbours.known(held)
    neighbours.merge(held, 30)
    assert len(held) == 30 and asked[1] == 1 and len(asked) == 2 + 11 and max(asked[2:]) <= 2


@pytest.mark.parametrize("sizes", [[1] * 7, [4] * 9, [3, 1, 8, 1, 2], [6]])
def test_keys_together_are_those_of_each(sizes):
    held = entries(np.random.default_rng(2), sizes, 129)
    keys = keys_of(held)
    assert keys.tobytes() == np.stack([e.key for e in held]).tobytes()
    assert np.allclose(keys, [e.tokens.mean(0) for e in held], atol=1e-6)
    rows, counts = gathered(held)
    assert counts == sizes and (rows == np.concatenate([e.tokens for e in held])).all()


def test_tokens_of_another_dtype_are_refused():
    with pytest.raises(UsageError, match="float32"):
        gathered([Entry(np.zeros((2, 3)), 0.0, 0.0, 0.0)])
