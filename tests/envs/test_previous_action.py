"""The previous action is the one played in the same episode, zero where an episode opens."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from gymnasium import spaces

from embodied_mem.envs.make import make_vec
from embodied_mem.envs.previous_action import ENTRY
from embodied_mem.errors import UsageError
from embodied_mem.evaluation.casting import with_options
from embodied_mem.evaluation.suite import Suite, Task
from embodied_mem.spaces import as_dict_obs, as_dict_space


def one_hot(actions: np.ndarray, n: int) -> np.ndarray:
    return np.eye(n, dtype=np.float32)[actions]


def test_training_mode_shows_the_action_and_zero_after_an_end():
    env = make_vec("RepeatFirst-v0", 4, previous_action=True)
    plain = make_vec("RepeatFirst-v0", 4)
    observed, _ = env.reset(seed=3)
    expected, _ = plain.reset(seed=3)
    n, rng = env.single_action_space.n, np.random.default_rng(0)
    assert not observed[ENTRY].any() and observed[ENTRY].shape == (4, n)
    done, ends = np.zeros(4, dtype=bool), 0
    for _ in range(120):
        actions = rng.integers(n, size=4)
        observed, reward, terminated, truncated, _ = env.step(actions)
        expected, reward_plain, *_ = plain.step(actions)
        np.testing.assert_array_equal(observed["vector"], one_hot_cards(plain, expected))
        np.testing.assert_array_equal(reward, reward_plain)
        np.testing.assert_array_equal(observed[ENTRY], np.where(done[:, None], 0, one_hot(actions, n)))
        assert env.observation_space.contains(observed)
        done = terminated | truncated
        ends += done.sum()
    assert ends >= 4


def one_hot_cards(env, observed):
    return as_dict_obs(env.single_observation_space, observed)["vector"]


def test_assigned_episodes_open_with_zero_and_leave_other_rows_alone():
    env = make_vec("RepeatFirst-v0", 3, autoreset_mode="DISABLED", previous_action=True)
    env.reset(seed=0, options={"episode": np.arange(3)})
    env.step(np.array([1, 2, 3]))
    mask = np.array([True, False, False])
    observed, _ = env.reset(options={"reset_mask": mask, "episode": np.array([9, 0, 0])})
    np.testing.assert_array_equal(observed[ENTRY], one_hot([0, 2, 3], 4) * ~mask[:, None])
    assert env.unwrapped.privileged()


@pytest.mark.parametrize(
    ("env_id", "width"),
    [("Pendulum-v1", 1), ("CartPole-v1", 2), ("House-ObjectNav-v0", None), ("Concentration-v0", 52)],
)
def test_any_environment(env_id, width):
    env = make_vec(env_id, 2, previous_action=True)
    observed, _ = env.reset(seed=0)
    assert env.observation_space.contains(observed)
    assert set(as_dict_space(env.single_observation_space).spaces) == set(observed)
    actions = env.action_space.sample()
    shown = env.step(actions)[0][ENTRY]
    assert width is None or shown.shape == (2, width)
    if isinstance(env.single_action_space, spaces.Discrete):
        np.testing.assert_array_equal(shown.argmax(1) + env.single_action_space.start, actions)
    else:
        np.testing.assert_array_equal(shown, actions)


def test_bad_input_is_refused():
    with pytest.raises(UsageError, match="SAME_STEP"):
        make_vec("RepeatFirst-v0", 1, autoreset_mode="SAME_STEP", previous_action=True)
    with pytest.raises(UsageError, match="true or false"):
        make_vec("RepeatFirst-v0", 1, previous_action="yes")


def test_evaluation_shows_it_to_agents_that_were_trained_with_it():
    suite = Suite("s", "", (Task("RepeatFirst-v0", "probe", kwargs={"difficulty": "easy"}),))
    for trained, expected in (({"previous_action": True}, True), ({}, None)):
        player = SimpleNamespace(about={"env_config": trained}, env_options={})
        (task,) = with_options(suite, [player], {}).tasks
        assert task.kwargs.get("previous_action") == expected
