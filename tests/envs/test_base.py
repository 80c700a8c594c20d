"""What the base owns, shown on the counter environment: autoreset, seeds, assigned episodes, bad input."""

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from embodied_mem.errors import UsageError


def play(env, steps, seed=0):
    """Return obs (T+1, N, 3), reward, terminated, truncated (T, N) and infos of constant play."""
    observed, _ = env.reset(seed=seed)
    seen, rewards, terminated, truncated, infos = [observed["vector"]], [], [], [], []
    for step in range(steps):
        actions = np.full(env.num_envs, step % 3 - 1)
        observed, reward, term, trunc, info = env.step(actions)
        seen.append(observed["vector"])
        rewards.append(reward)
        terminated.append(term)
        truncated.append(trunc)
        infos.append(info)
    return np.stack(seen), np.stack(rewards), np.stack(terminated), np.stack(truncated), infos


def test_next_step_returns_last_observation_then_first_of_the_next(counter_env):
    env = counter_env(4, autoreset_mode="NEXT_STEP")
    seen, rewards, terminated, truncated, infos = play(env, 40)
    done = terminated | truncated
    for t, row in zip(*np.nonzero(done[:-1])):
        assert seen[t + 1, row, 1] >= 2, "the final step shows the old episode"
        assert seen[t + 2, row, 1] == 0 and seen[t + 2, row, 0] == seen[t + 1, row, 0] + 1
        assert rewards[t + 1, row] == 0 and not done[t + 1, row]
    assert done.any()
    assert all(("success" in info) == bool(ended.any()) for info, ended in zip(infos, done))


def test_same_step_returns_first_observation_and_keeps_the_last_in_info(counter_env):
    env = counter_env(4, autoreset_mode="SAME_STEP")
    seen, rewards, terminated, truncated, infos = play(env, 40)
    done = terminated | truncated
    for t, row in zip(*np.nonzero(done)):
        assert seen[t + 1, row, 1] == 0
        last = infos[t]["final_obs"][row]["vector"]
        assert last[1] >= 2 and last[0] == seen[t + 1, row, 0] - 1
        assert infos[t]["_final_obs"][row] and infos[t]["final_info"]["_success"][row]
        assert rewards[t, row] != 0
    for t, row in zip(*np.nonzero(~done)):
        assert "final_obs" not in infos[t] or infos[t]["final_obs"][row] is None


def test_disabled_keeps_finished_rows_inert_until_they_are_reset(counter_env):
    env = counter_env(4, autoreset_mode="DISABLED")
    seen, rewards, terminated, truncated, infos = play(env, 12)
    done = terminated | truncated
    assert done[-1].all() and (done[1:] >= done[:-1]).all(), "flags stay"
    for row in range(4):
        first = int(np.argmax(done[:, row]))
        assert (rewards[first + 1 :, row] == 0).all()
        assert (seen[first + 1 :, row] == seen[first + 1, row]).all()
        assert sum(bool(info.get("_success", np.zeros(4, bool))[row]) for info in infos) == 1
    mask = np.array([False, True, False, False])
    observed, _ = env.reset(options={"reset_mask": mask})
    assert observed["vector"][1, 1] == 0 and (observed["vector"][~mask] == seen[-1][~mask]).all()
    _, reward, term, trunc, _ = env.step(np.ones(4, int))
    assert reward.tolist() == [0, 1.5, 0, 0] and (term | trunc).tolist() == [True, False, True, True]


def test_the_three_modes_play_the_same_episodes(counter_env):
    def episodes(mode):
        env = counter_env(1, autoreset_mode=mode)
        observed, _ = env.reset(seed=5)
        found, current = [], [observed["vector"][0].tolist()]
        while len(found) < 6:
            observed, _, term, trunc, info = env.step(np.array([1]))
            ended = bool(term[0] | trunc[0])
            last = info["final_obs"][0]["vector"] if ended and mode == "SAME_STEP" else observed["vector"][0]
            current.append(last.tolist())
            if ended:
                found.append(current)
                if mode == "NEXT_STEP":
                    observed = env.step(np.array([1]))[0]
                elif mode == "DISABLED":
                    observed = env.reset()[0]
                current = [observed["vector"][0].tolist()]
        return found

    assert episodes("NEXT_STEP") == episodes("SAME_STEP") == episodes("DISABLED")


def test_a_pending_autoreset_survives_the_reset_of_other_rows(counter_env):
    env = counter_env(2, autoreset_mode="NEXT_STEP")
    env.reset(seed=0)
    while True:
        observed, _, term, trunc, _ = env.step(np.zeros(2, int))
        done = term | trunc
        if done.sum() == 1:
            break
    env.reset(options={"reset_mask": ~done})
    observed = env.step(np.zeros(2, int))[0]["vector"]
    assert observed[done, 1] == 0 and observed[~done, 1] == 1


def test_seeds_number_rows_and_a_list_names_them(counter_env):
    together, _ = counter_env(3).reset(seed=10)
    named, _ = counter_env(3).reset(seed=[10, 11, 12])
    alone, _ = counter_env(1).reset(seed=12)
    assert (together["vector"] == named["vector"]).all() and (together["vector"][2] == alone["vector"][0]).all()


def test_reset_without_seed_goes_on_and_the_first_one_is_random(counter_env):
    env = counter_env(2)
    draws = [env.reset()[0]["vector"][:, 2].tolist() for _ in range(3)]
    assert len({tuple(draw) for draw in draws}) == 3
    assert draws[0] != counter_env(2).reset()[0]["vector"][:, 2].tolist()
    env.reset(seed=4)
    later = env.reset()[0]["vector"]
    assert later[:, 0].tolist() == [1, 1]
    env.reset(seed=4)
    assert (env.reset()[0]["vector"] == later).all()


def test_huge_seeds_work(counter_env):
    first = counter_env(2).reset(seed=2**64 - 1)[0]["vector"]
    assert (first == counter_env(2).reset(seed=2**64 - 1)[0]["vector"]).all()


def test_assigned_episodes_follow_the_seed_not_the_row(counter_env):
    env = counter_env(3)
    env.reset(seed=3)
    observed, _ = env.reset(options={"episode": np.array([9, 0, 9])})
    assert (observed["vector"][0] == observed["vector"][2]).all()
    other, _ = counter_env(1).reset(seed=3, options={"episode": np.array([9])})
    assert (other["vector"][0] == observed["vector"][0]).all()
    again, _ = env.reset()
    assert again["vector"][:, 0].tolist() == [1, 1, 1], "the rows' own counts do not move"


def test_returned_arrays_are_not_overwritten(counter_env):
    env = counter_env(2)
    observed, _ = env.reset(seed=0)
    before = observed["vector"].copy()
    env.step(np.ones(2, int))
    assert (observed["vector"] == before).all()
    shared, _ = counter_env(2, copy=False).reset(seed=0)
    assert (shared["vector"] == before).all()


def test_the_callers_options_stay_as_they_were(counter_env):
    options = {"reset_mask": np.array([True, True]), "episode": np.array([1, 2])}
    counter_env(2).reset(seed=0, options=options)
    assert set(options) == {"reset_mask", "episode"}


def test_metadata_and_rendering(counter_env):
    env = counter_env(2, autoreset_mode=AutoresetMode.DISABLED, render_mode="ansi")
    assert env.metadata["autoreset_mode"] is AutoresetMode.DISABLED and "autoreset_mode" not in counter_env.metadata
    env.reset(seed=0)
    assert env.render() == ("row 0", "row 1")
    assert counter_env(2).render() is None


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"num_envs": 0}, "num_envs >= 1"),
        ({"num_envs": 2.0}, "num_envs >= 1"),
        ({"num_envs": True}, "num_envs >= 1"),
        ({"autoreset_mode": "sometimes"}, "SAME_STEP"),
        ({"render_mode": "rgb_array"}, "ansi"),
    ],
)
def test_bad_construction(counter_env, kwargs, expected):
    with pytest.raises(UsageError, match=expected):
        counter_env(**kwargs)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ({"seed": -1}, "seed >= 0, got|seed >= 0"),
        ({"seed": 1.5}, "seed >= 0"),
        ({"seed": [1, 2, 3]}, "got 3"),
        ({"options": {"mask": 1}}, "unknown reset option 'mask'"),
        ({"options": {"reset_mask": [True, True]}}, "bool array"),
        ({"options": {"reset_mask": np.array([1, 0])}}, "int64"),
        ({"options": {"reset_mask": np.zeros(2, bool)}}, "at least one True"),
        ({"options": {"reset_mask": np.array([True, False])}}, "first reset of all"),
        ({"options": {"episode": np.array([0.0, 1.0])}}, "integer array"),
        ({"options": {"episode": np.array([1])}}, r"\(2,\)"),
        ({"options": {"episode": np.array([1, -1])}}, ">= 0"),
    ],
)
def test_bad_resets(counter_env, call, expected):
    with pytest.raises(UsageError, match=expected):
        counter_env(2).reset(**call)


def test_stepping_before_reset_is_refused(counter_env):
    with pytest.raises(UsageError, match="reset"):
        counter_env(2).step(np.zeros(2, int))


@settings(max_examples=150, deadline=None)
@given(
    actions=hnp.arrays(
        dtype=st.sampled_from([np.int64, np.int32, np.uint8, np.float32, np.bool_]),
        shape=hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3),
    )
)
def test_only_fitting_actions_are_played(counter_env_module, actions):
    env = counter_env_module
    env.reset(seed=0)
    signed = actions.astype(np.int64) if actions.dtype.kind in "iu" else None
    fits = signed is not None and actions.shape == (2,) and signed.min() >= -1 and signed.max() <= 1
    if fits:
        env.step(actions)
    else:
        with pytest.raises(UsageError, match="expected"):
            env.step(actions)


@pytest.fixture(scope="module")
def counter_env_module():
    from gymnasium import spaces

    from embodied_mem.envs.base import BatchedEnv

    class Still(BatchedEnv):
        def __init__(self):
            self.single_observation_space = spaces.Box(0, 1, (1,), np.float32)
            self.single_action_space = spaces.Discrete(3, start=-1)
            super().__init__(2)

        def _begin(self, rows, keys):
            pass

        def _advance(self, actions, active):
            return np.zeros(2, np.float32), np.zeros(2, bool), np.zeros(2, bool)

        def _observe(self):
            return np.zeros((2, 1), np.float32)

    return Still()
