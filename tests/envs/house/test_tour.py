"""House-Tour: the route, the log against the world, objects that change place unseen."""

import json

import numpy as np
import pytest

from embodied_mem.envs.house.tasks.route import camera_poses
from embodied_mem.envs.house.tasks.tour import BatchedTour, Tour
from embodied_mem.errors import UsageError
from embodied_mem.geometry.camera import wrap_angle


def watch(env):
    """Play to the end of every tour; return, per step, what `world.visible` says of every box (T, N, B)."""
    n, seen = env.num_envs, []
    while True:
        boxes = env.world.arrays.box_pose.shape[1]
        view = np.zeros((n, boxes), bool)
        for row in range(n):
            count = env.world.plan(row).num_boxes
            view[row, :count] = env.world.visible(np.full(count, row), np.arange(count), env.level.sight)
        seen.append(view)
        _, _, terminated, truncated, info = env.step(np.zeros(n, np.int64))
        if (terminated | truncated).all():
            return np.array(seen), info


@pytest.fixture(scope="module")
def toured():
    env = BatchedTour(3, level=1, houses=3, autoreset_mode="DISABLED", width=16, height=16)
    env.reset(seed=4)
    lengths = env.length.copy()
    seen, info = watch(env)
    return env, seen, lengths, info


def test_the_log_tells_what_was_in_view(toured):
    env, seen, lengths, _ = toured
    for row in range(3):
        log = env.log(row)
        assert json.loads(json.dumps(log)) == log
        assert len(log["steps"]) == lengths[row]
        trays = np.flatnonzero(env.world.plan(row).box_flags & 16)
        for step in range(min(len(seen), lengths[row]) - 1):
            expected = set(np.flatnonzero(seen[step, row]).tolist()) - set(trays.tolist())
            assert set(log["steps"][step]["seen"]) == expected
        for item in log["objects"]:
            when = [step["step"] for step in log["steps"] if item["id"] in step["seen"]]
            assert item["steps_seen"] == len(when)
            assert (item["first_seen"], item["last_seen"]) == ((when[0], when[-1]) if when else (-1, -1))


def test_every_room_is_visited_twice_by_steps_an_agent_could_make(toured):
    env, _, lengths, _ = toured
    for row in range(3):
        log = env.log(row)
        assert {step["room"] for step in log["steps"]} == set(range(len(log["rooms"])))
        place = np.array([step["xz"] for step in log["steps"]])
        yaw = np.radians([step["yaw"] for step in log["steps"]])
        moved = np.hypot(*np.diff(place, axis=0).T)
        turned = np.abs(wrap_angle(np.diff(yaw)))
        assert moved.max() <= 0.25 + 2e-3 and turned.max() <= np.radians(30.1)
        assert ((moved < 2e-3) | (turned < 1e-3)).all(), "the camera turns or moves"
        grid = env.world.free_grid(int(env.world.arrays.plan[row]))
        cells = grid.cells_of(place)
        assert grid.free[cells[:, 0], cells[:, 1]].mean() > 0.95


def test_objects_move_out_of_view_and_the_log_says_where(toured):
    env, _, _, info = toured
    moves = [(row, move) for row in range(3) for move in env.log(row)["moves"]]
    assert moves
    for row, move in moves:
        log = env.log(row)
        before = log["steps"][move["step"] - 1]
        assert move["id"] not in log["steps"][move["step"]]["seen"] and move["from"] != move["to"]
        assert before["step"] == move["step"] - 1
        item = next(entry for entry in log["objects"] if entry["id"] == move["id"])
        last = [other for other in log["moves"] if other["id"] == move["id"]][-1]
        assert item["xz"] == last["to"] and item["on"] == last["on"]


def test_tours_depend_on_the_episode_alone():
    first, second = (BatchedTour(2, level=1, houses=3, autoreset_mode="DISABLED") for _ in range(2))
    first.reset(seed=0, options={"episode": np.array([3, 4])})
    second.reset(seed=0, options={"episode": np.array([4, 3])})
    for _ in range(40):
        a = first.step(np.zeros(2, np.int64))[0]
        b = second.step(np.zeros(2, np.int64))[0]
        assert all(np.array_equal(a[name], b[name][::-1]) for name in a)
    assert first.log(0) == second.log(1)


def test_the_single_view_has_the_log():
    env = Tour(level=0, houses=1)
    env.reset(seed=0)
    ended, steps = False, 0
    while not ended:
        _, _, ended, _, info = env.step(0)
        steps += 1
    assert info["success"] is True and len(env.log()["steps"]) == steps + 1
    assert info["boxes_seen"] == sum(item["steps_seen"] > 0 for item in env.log()["objects"])


def test_camera_turns_before_it_walks():
    poses = camera_poses(np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), yaw=0.0, step=0.25, turn=30.0)
    assert len(poses) == 4 + 3 + 4
    assert np.allclose(poses[3], [0, 1, 0]) and np.allclose(poses[6], [0, 1, 90]) and np.allclose(poses[-1], [1, 1, 90])


@pytest.mark.parametrize("option", [{"stops": 0}, {"passes": 0}, {"moves": -1}, {"max_steps": 1}])
def test_bad_levels_are_refused(option):
    with pytest.raises(UsageError, match=next(iter(option))):
        BatchedTour(1, **option)
