import numpy as np
import pytest
import torch

from embodied_mem.policies.rllib.episodes import EpisodeTracker
from embodied_mem.policies.rllib.packed import PackedBatch, RowBatch, concat


def batch(rows, start=0, s=4):
    ids = np.arange(start, start + rows)
    columns = {
        "id": ids,
        "loss_mask": np.ones((rows, s), bool),
        "obs": {"vector": np.repeat(ids[:, None, None], s, 1).astype(np.float32)},
        "state_in": {"layer/h": ids[:, None].astype(np.float32)},
    }
    return PackedBatch(columns, rows * s)


def test_concat_keeps_rows_in_order_and_counts_steps():
    joined = concat([batch(3), batch(2, start=3)])
    assert joined.columns["id"].tolist() == [0, 1, 2, 3, 4]
    assert joined.columns["state_in"]["layer/h"][:, 0].tolist() == [0, 1, 2, 3, 4]
    assert joined.rows == 5 and len(joined) == joined.env_steps() == joined.agent_steps() == 20


def test_shards_are_equal_and_leave_out_what_does_not_divide():
    shards = batch(7).shards(3)
    assert [shard.rows for shard in shards] == [2, 2, 2]
    assert [shard.columns["id"].tolist() for shard in shards] == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(ValueError, match="at least 8 rows"):
        batch(7).shards(8)


def test_every_row_is_seen_once_per_epoch_in_a_new_order():
    rows = RowBatch.from_packed("p", batch(10), torch.device("cpu"))
    seen = [part.columns["id"].tolist() for part in rows.minibatches(4, 2, torch.Generator().manual_seed(0))]
    assert [len(part) for part in seen] == [4, 4, 2, 4, 4, 2]
    first, second = sum(seen[:3], []), sum(seen[3:], [])
    assert sorted(first) == sorted(second) == list(range(10)) and first != second


def test_minibatches_keep_columns_together():
    rows = RowBatch.from_packed("p", batch(6), torch.device("cpu"))
    for part in rows.minibatches(2, 1, torch.Generator().manual_seed(1)):
        ids = part.columns["id"].float()
        assert torch.equal(part.columns["obs"]["vector"][:, 2, 0], ids)
        assert torch.equal(part.columns["state_in"]["layer/h"][:, 0], ids)


def test_read_only_arrays_become_writable_tensors():
    columns = batch(2).columns
    columns["id"].setflags(write=False)
    rows = RowBatch.from_packed("p", PackedBatch(columns, 8), torch.device("cpu"))
    rows.columns["id"] += 1
    assert columns["id"].tolist() == [0, 1]


def test_repr_shows_shapes_not_values():
    assert "(3, 4, 1) float32" in repr(batch(3))


def test_tracker_equals_a_loop_over_envs():
    rng = np.random.default_rng(0)
    tracker = EpisodeTracker(5, window=1000)
    returns, lengths, successes = [], [], []
    running = [[0.0, 0] for _ in range(5)]
    dummy = np.zeros(5, bool)
    for _ in range(60):
        rewards = np.where(dummy, 0.0, rng.normal(size=5))
        done = (rng.random(5) < 0.2) & ~dummy
        success = rng.random(5) < 0.5
        tracker.step(rewards, done, done, ~dummy, {"success": success, "_success": done})
        for env in range(5):
            running[env][0] += rewards[env]
            running[env][1] += not dummy[env]
            if done[env]:
                returns.append(running[env][0])
                lengths.append(running[env][1])
                successes.append(success[env])
                running[env] = [0.0, 0]
        dummy = done
    count, recent = tracker.drain()
    assert count == len(returns)
    np.testing.assert_allclose(recent["return"], returns)
    np.testing.assert_allclose(recent["length"], lengths)
    np.testing.assert_allclose(recent["success"], successes)


def test_tracker_reports_the_recent_window():
    tracker = EpisodeTracker(1, window=2)
    for reward in (1.0, 2.0, 3.0):
        done = np.ones(1, bool)
        tracker.step(np.array([reward]), done, done, done, {})
    count, recent = tracker.drain()
    assert count == 3 and recent["return"].tolist() == [2.0, 3.0] and len(recent["success"]) == 0
