"""Memory-aware batches: no row mixes episodes unnoticed, streams cover everything, chunks end with their episode."""

import dataclasses

import numpy as np
import pytest
import torch

from embodied_mem.demonstrations import Episode
from embodied_mem.errors import UsageError
from embodied_mem.policies.imitation.batches import BatchConfig, Batches, check_order

LENGTHS = (3, 7, 5, 4, 6)


def episodes():
    """State (episode, time); action: 10 episode + time."""
    found = []
    for k, length in enumerate(LENGTHS):
        state = np.stack([np.full(length, k), np.arange(length)], 1).astype(np.float32)
        found.append(Episode(f"task {k}", state, {}, 10 * state[:, :1] + state[:, 1:], seed=0, success=True))
    return found


def build(mode, rows=3, window=4, chunk=3, seed=0):
    return Batches(episodes(), BatchConfig(mode, rows, window), chunk, seed, text=8)


@pytest.mark.parametrize("mode", ["episode", "group", "stream"])
def test_every_frame_is_the_one_it_says(mode):
    batches = build(mode)
    for update in range(20):
        batch = batches.batch(update)
        state = torch.stack([batch.episode, batch.time], -1).float()
        assert torch.equal(batch.obs["vector"][batch.valid], state[batch.valid])
        ahead = batch.time[..., None] + torch.arange(3)
        inside = (ahead < torch.tensor(LENGTHS)[batch.episode][..., None]) & batch.valid[..., None]
        assert torch.equal(batch.weight.bool(), inside)
        wanted = 10 * batch.episode[..., None] + ahead
        assert torch.equal(batch.chunks[..., 0][inside], wanted[inside].float())
        check_order(batch)


def test_an_episode_row_is_the_whole_episode():
    batch = build("episode", rows=5).batch(0)
    assert sorted(batch.episode[:, 0].tolist()) == [0, 1, 2, 3, 4]
    assert batch.valid.sum(1).tolist() == [LENGTHS[k] for k in batch.episode[:, 0]]
    assert batch.resets[:, 0].all() and not batch.resets[:, 1:].any()


def test_a_group_is_a_window_of_one_episode():
    batches = build("group")
    firsts = set()
    for update in range(60):
        batch = batches.batch(update)
        assert batch.valid.shape[1] <= 4 and batch.resets[:, 0].all()
        assert (batch.episode == batch.episode[:, :1]).all()
        firsts |= {(int(e), int(t)) for e, t in zip(batch.episode[:, 0], batch.time[:, 0])}
    assert {time for episode, time in firsts if episode == 1} == {0, 1, 2, 3}


def test_streams_go_on_from_update_to_update_and_cover_all_frames():
    batches, last = build("stream", rows=2), None
    total, seen = sum(LENGTHS), [[], []]
    for update in range(13):
        batch = batches.batch(update)
        last = check_order(batch, last)
        assert batch.valid.all() and torch.equal(batch.resets, batch.time == 0)
        for row in range(2):
            seen[row] += list(zip(batch.episode[row].tolist(), batch.time[row].tolist()))
    everything = sorted((k, t) for k, length in enumerate(LENGTHS) for t in range(length))
    for row in range(2):
        assert sorted(seen[row][:total]) == sorted(seen[row][total : 2 * total]) == everything
    assert seen[0][:total] != seen[1][:total]


def test_frames_out_of_order_are_refused():
    batches = build("stream", rows=2)
    first, third = batches.batch(0), batches.batch(2)
    with pytest.raises(UsageError, match="out of order in row"):
        check_order(third, check_order(first))
    swapped = third._replace(time=third.time.flip(1), resets=torch.zeros_like(third.resets))
    with pytest.raises(UsageError, match="out of order"):
        check_order(swapped)


@pytest.mark.parametrize("mode", ["episode", "group", "stream"])
def test_a_batch_depends_on_seed_and_update_alone(mode):
    one, other = build(mode), build(mode)
    for update in (7, 2):
        assert torch.equal(one.batch(update).chunks, other.batch(update).chunks)
    assert not torch.equal(one.batch(3).episode, build(mode, seed=1).batch(3).episode)


def test_instructions_are_those_of_the_episodes():
    batch = build("stream").batch(1)
    assert torch.equal(batch.obs["instruction"][..., 5], batch.episode.to(torch.uint8) + ord("0"))


def test_nothing_to_learn_from_is_refused():
    with pytest.raises(UsageError, match="at least one frame"):
        Batches([], BatchConfig(), 2, 0)
    with pytest.raises(UsageError, match="T >= 1"):
        dataclasses.replace(episodes()[0], state=np.zeros((0, 2), np.float32), actions=np.zeros((0, 1), np.float32))
