"""Streams: every step of every episode once, in order, resets where episodes begin, chunks that end with them."""

import numpy as np
import pytest

from embodied_mem.demonstrations import Episode, EpisodeStreams
from embodied_mem.errors import UsageError


def episode(index, length):
    steps = np.arange(length, dtype=np.float32)
    state = np.stack([np.full(length, index, np.float32), steps], axis=1)
    frames = np.full((length, 2, 3, 3), index, np.uint8)
    return Episode(f"task {index}", state, {"rgb": frames}, state * 10, seed=0, success=True)


@pytest.mark.parametrize("rows, length", [(1, 4), (3, 5), (4, 1), (9, 50)])
def test_every_step_comes_once_and_in_order(rows, length):
    lengths = [7, 1, 4, 5, 12, 3, 5]
    episodes = [episode(i, count) for i, count in enumerate(lengths)]
    streams = EpisodeStreams(episodes, rows, length, chunk=3, seed=1)
    seen, now = [], [(-1, -1)] * rows
    for batch in streams:
        assert batch.state.shape == (rows, length, 2) and batch.images["rgb"].shape == (rows, length, 2, 3, 3)
        for row, at in np.argwhere(batch.valid):
            index, step = int(batch.episode[row, at]), int(batch.step[row, at])
            assert batch.reset[row, at] == (step == 0)
            assert step == 0 or now[row] == (index, step - 1), "a row goes on with its episode"
            assert step > 0 or now[row][0] < 0 or now[row][1] == lengths[now[row][0]] - 1, "to its end"
            assert tuple(batch.state[row, at]) == (index, step) and (batch.images["rgb"][row, at] == index).all()
            assert batch.instructions[row][at] == f"task {index}"
            ahead = np.minimum(step + np.arange(3), lengths[index] - 1)
            assert np.array_equal(batch.actions[row, at, :, 1], ahead * 10)
            assert np.array_equal(batch.inside[row, at], step + np.arange(3) < lengths[index])
            now[row] = (index, step)
            seen.append((index, step))
        assert not batch.state[~batch.valid].any() and (batch.episode[~batch.valid] == -1).all()
        assert not batch.reset[~batch.valid].any()
    assert sorted(seen) == [(i, step) for i, count in enumerate(lengths) for step in range(count)]


def test_every_epoch_has_its_own_order_and_a_seed_repeats_them():
    episodes = [episode(i, 2) for i in range(20)]

    def orders(seed):
        streams = EpisodeStreams(episodes, 1, 2, seed=seed)
        return [[int(batch.episode[0, 0]) for batch in streams] for _ in range(2)]

    first = orders(3)
    assert first == orders(3) and first[0] != first[1] and sorted(first[0]) == list(range(20))


def test_bad_streams_are_refused():
    with pytest.raises(UsageError, match="rows >= 1"):
        EpisodeStreams([episode(0, 2)], 0, 1)
    with pytest.raises(UsageError, match="at least one episode"):
        EpisodeStreams([], 1, 1)
    odd = Episode("", np.zeros((2, 5), np.float32), {}, np.zeros((2, 2)), seed=0, success=True)
    with pytest.raises(UsageError, match="episodes of one shape"):
        list(EpisodeStreams([episode(0, 2), odd], 1, 2))
