"""Thor-ObjectNav and Thor-PointNav on the stand-in: the contract of environments, the tasks, and lost players."""

import os
import signal

import gymnasium
import numpy as np
import pytest

from embodied_mem.envs.make import make_vec
from embodied_mem.envs.thor.env import BatchedThorObjectNav, BatchedThorPointNav
from embodied_mem.envs.thor.scenes import scene_list
from embodied_mem.errors import UsageError
from embodied_mem.evaluation.families import FAMILIES
from embodied_mem.evaluation.suite import Task
from embodied_mem.policies.scripted.oracle import oracle
from embodied_mem.spaces import decode_text

pytest.importorskip("ai2thor")
PLAYER = os.environ.get("EMBODIED_MEM_THOR_PLAYER", "standin")
SMALL = {"player": PLAYER, "width": 32, "height": 24, "start_timeout": 280.0, "step_timeout": 200.0}
EVERY = ("rgb", "depth", "semantic", "pose", "intrinsics", "vector", "goal", "instruction")
TASK = Task("embodied_mem/Thor-ObjectNav-v0", "goal_nav", success_distance=1.0)


def play(env, agent, options=None, steps=300):
    """Play one episode per row; return the facts of every row."""
    obs, _ = env.reset(options=options)
    n = env.num_envs
    state, reset, facts = agent.initial_state(n), np.ones(n, bool), [{}] * n
    for _ in range(steps):
        actions, state, _ = agent.act(obs, state, reset, env.privileged())
        obs, _, terminated, truncated, info = env.step(actions)
        assert env.observation_space.contains(obs)
        for row in np.flatnonzero(info.get("_success", np.zeros(n, bool))):
            facts[row] = {key: value[row] for key, value in info.items() if not key.startswith("_")}
        reset = np.zeros(n, bool)
        if (terminated | truncated).all():
            return facts
    raise AssertionError("episodes did not end")


@pytest.fixture(scope="module")
def pair():
    """Two rows of ObjectNav with every sensor."""
    env = make_vec(
        "Thor-ObjectNav-v0", 2, autoreset_mode="DISABLED", sensors=EVERY, scenes=2, render_mode="top_down", **SMALL
    )
    env.reset(seed=3)
    yield env
    env.close()


def test_the_oracle_finds_named_objects_and_metrics_are_those_of_goal_navigation(pair):
    agent, lengths = oracle("Thor-ObjectNav-v0"), []
    for first in (0, 2):
        for facts in play(pair, agent, {"episode": np.array([first, first + 1])}):
            scores = FAMILIES["goal_nav"].score(facts, TASK)
            assert facts["success"] and scores["success"] == 1.0 and scores["invalid"] == 0.0
            assert facts["start_distance"] >= 0.25 and 0.3 < scores["spl"] <= 1.0
            lengths.append(facts["path_length"])
    assert max(lengths) > 0.5
    words = [decode_text(text) for text in pair.reset()[0]["instruction"]]
    assert all(text.startswith("find the ") for text in words)


def test_assigned_episodes_do_not_depend_on_the_row(pair):
    obs, _ = pair.reset(options={"episode": np.array([5, 5])})
    trail = [obs]
    for action in (0, 2, 0, 4, 1, 0):
        obs, reward, terminated, truncated, info = pair.step(np.array([action, action]))
        trail.append(obs)
        assert info == {} and reward[0] == reward[1] and reward.dtype == np.float32
    for seen in trail:
        assert all(np.array_equal(value[0], value[1]) for value in seen.values())
    assert (trail[0]["pose"][0, :4] == 0).all() and np.ptp([seen["pose"][0, 3] for seen in trail]) > 0.4
    again, _ = pair.reset(options={"reset_mask": np.array([False, True]), "episode": np.array([0, 5])})
    assert all(np.array_equal(value[1], trail[0][name][1]) for name, value in again.items())
    assert all(np.array_equal(value[0], trail[-1][name][0]) for name, value in again.items()), "the other is untouched"
    numbers = np.unique(np.concatenate([seen["semantic"][0].ravel() for seen in trail]))
    assert len(numbers) > 1 and numbers[0] == 0


def test_a_camera_above_is_the_second_render_mode(pair):
    frames = pair.render()
    assert frames[0].shape == (24, 32, 3) and frames[0].dtype == np.uint8
    assert len(np.unique(frames[0].reshape(-1, 3), axis=0)) > 3


def test_done_far_away_fails_and_bad_actions_are_refused(pair):
    pair.reset(options={"episode": np.array([7, 8])})
    with pytest.raises(UsageError, match="expected .* got"):
        pair.step(np.array([0, 99]))
    ready = pair.privileged()["ready"]
    _, reward, terminated, truncated, info = pair.step(np.array([5, 5]))
    assert terminated.all() and not truncated.any() and info["stopped"].all()
    assert np.array_equal(info["success"], ready) and (reward[~ready] < 0).all()
    assert not info["invalid"].any() and not info["env_failure"].any()


def test_a_player_that_is_killed_loses_its_episode_and_no_other(pair):
    pair.reset(options={"episode": np.array([1, 2])})
    before = pair.pids()
    os.kill(before[0], signal.SIGKILL)
    obs, reward, terminated, truncated, info = pair.step(np.array([1, 1]))
    assert truncated.tolist() == [True, False] and not terminated.any() and reward[0] == 0
    assert info["invalid"].tolist() == [True, False] and info["env_failure"][0] == 1 and not info["success"][0]
    facts = {key: value[0] for key, value in info.items() if not key.startswith("_")}
    scores = FAMILIES["goal_nav"].score(facts, TASK)
    assert scores.pop("invalid") == 1.0 and set(scores.values()) == {None}, "it counts in no mean"
    assert pair.privileged()["points"].shape[0] == 2
    inert = pair.step(np.array([1, 1]))
    assert inert[3][0] and "success" not in inert[4] or not inert[4]["_success"][0]
    pair.reset(options={"reset_mask": np.array([True, False]), "episode": np.array([3, 0])})
    after = pair.pids()
    assert after[0] not in (None, before[0]) and after[1] == before[1], "only the lost player is started again"
    assert not pair.step(np.array([1, 1]))[3].any()


def test_an_episode_that_cannot_be_set_up_ends_invalid_at_its_first_step():
    options = {**SMALL, "player": "standin --fault exit@ChangeResolution", "scenes": 1}
    env = BatchedThorPointNav(1, autoreset_mode="NEXT_STEP", **options)
    try:
        obs, _ = env.reset(seed=0)
        assert env.invalid[0] and not obs["rgb"].any() and env.pids() == [None]
        _, reward, terminated, truncated, info = env.step(np.array([0]))
        assert truncated[0] and not terminated[0] and reward[0] == 0 and info["invalid"][0]
        assert "exit status 3" in env.reasons[0] and env.episodes[0] == 0
        assert env.privileged() == {}
    finally:
        env.close()


def test_pointnav_is_solved_by_the_oracle_and_tells_where_the_goal_is():
    env = make_vec("Thor-PointNav-v0", 1, autoreset_mode="DISABLED", sensors=("goal", "pose"), scenes=1, **SMALL)
    try:
        obs, _ = env.reset(seed=1)
        goal = env.privileged()["goal_poses"][0, 0, :2]
        here = env.privileged()["pose_world"][0]
        assert obs["goal"][0, 0] == pytest.approx(np.hypot(*(goal - here[[0, 2]])), abs=1e-5)
        turned, *_ = env.step(np.array([2]))
        bend = (obs["goal"][0, 1] - turned["goal"][0, 1] + np.pi) % (2 * np.pi) - np.pi
        assert bend == pytest.approx(np.radians(30), abs=1e-5), "what lies right moves left"
        facts = play(env, oracle("Thor-PointNav-v0"), {"episode": np.array([4])})[0]
        assert facts["success"] and facts["final_distance"] <= 0.2 and facts["goal_class"] == -1
    finally:
        env.close()


def test_splits_are_disjoint_and_options_checked(monkeypatch, tmp_path):
    rooms = {split: set(scene_list(split)) for split in ("train", "val", "test")}
    assert sum(map(len, rooms.values())) == len(set.union(*rooms.values())) == 120
    assert {"FloorPlan21", "FloorPlan425"} <= rooms["val"]
    for bad in ({"split": "dev"}, {"sensors": ("smell",)}, {"colour": 1}, {"backend": "cloud"}, {"width": 0}):
        with pytest.raises(UsageError):
            BatchedThorObjectNav(1, **{**SMALL, **bad})
    single = gymnasium.make("embodied_mem.envs:embodied_mem/Thor-ObjectNav-v0", width=16, height=16)
    assert single.spec.max_episode_steps is None, "making it starts nothing"
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UsageError, match="not downloaded"):
        single.reset(seed=0)
    single.close()
