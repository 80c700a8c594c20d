"""gymnasium-robotics behind our contract: Fetch counts by its last step, a maze ends at its goal."""

import importlib.util

import gymnasium
import numpy as np
import pytest

from embodied_mem.envs.adapters.gym_robotics import TASKS
from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.evaluation import load_suite

needed = pytest.mark.skipif(
    importlib.util.find_spec("gymnasium_robotics") is None, reason="needs gymnasium-robotics (envs-mujoco)"
)


def begin(env, episodes):
    n = env.num_envs
    return env.reset(seed=1, options={"reset_mask": np.ones(n, bool), "episode": np.asarray(episodes)})[0]


def test_the_suite_plays_every_task():
    assert [task.kwargs["task"] for task in load_suite("gymnasium-robotics").tasks] == list(TASKS)


@needed
def test_horizons_are_the_packages():
    make_vec("GymRobotics-v0", 1).close()
    assert {name: gymnasium.spec(name).max_episode_steps for name in TASKS} == {
        name: horizon for name, (horizon, _) in TASKS.items()
    }


@needed
def test_fetch_counts_by_what_holds_at_the_last_step():
    env = make_vec("GymRobotics-v0", 2, task="FetchReach-v4", autoreset_mode="Disabled")
    seen = begin(env, [0, 1])
    assert env.observation_space.contains(seen) and seen["goal"].shape == (2, 3)
    reached = np.zeros(2, bool)
    for step in range(50):
        away = seen["goal"] - seen["vector"][:, :3]
        move = np.zeros((2, 4), np.float32)
        move[:, :3] = np.clip(away * 10, -1, 1)
        if step >= 40:
            move[1, :3] = 1.0
        seen, reward, terminated, truncated, info = env.step(move)
        reached |= reward == 0
        assert not terminated.any() and truncated.all() == (step == 49)
    assert reached.all() and info["success"].tolist() == [True, False], "row 1 left the goal again"
    env.close()


@needed
@pytest.mark.full
def test_every_task_steps_and_repeats():
    for name in TASKS:
        env = make_vec("GymRobotics-v0", 2, task=name, autoreset_mode="Disabled")
        one = begin(env, [3, 3])
        assert np.array_equal(one["vector"][0], one["vector"][1]) and np.array_equal(one["goal"][0], one["goal"][1])
        played = np.zeros(env.action_space.shape, np.float32)
        assert env.observation_space.contains(env.step(played)[0])
        env.close()


def test_an_unknown_task_is_refused():
    with pytest.raises(UsageError, match="did you mean 'FetchPush-v4'"):
        make_vec("GymRobotics-v0", 1, task="FetchPush-v3")
