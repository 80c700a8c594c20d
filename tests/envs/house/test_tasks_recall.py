"""The hiding tasks: what is shown, when, what ends an episode, and that nothing but memory tells the answer."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from embodied_mem.envs.house.classes import TRAY
from embodied_mem.envs.house.tasks.hide_and_recall import BatchedHideAndRecall
from embodied_mem.envs.house.tasks.recall import CHOOSE, WAIT, WATCH
from embodied_mem.envs.house.tasks.rewrite import BatchedRewrite
from embodied_mem.errors import UsageError

SAMPLE = Path(os.environ.get("EMBODIED_MEM_DATA", "")) / "procthor" / "houses_sample.jsonl.gz"
needs_data = pytest.mark.skipif(
    not SAMPLE.is_file(), reason="EMBODIED_MEM_DATA holds no procthor/houses_sample.jsonl.gz"
)
TASKS = (BatchedHideAndRecall, BatchedRewrite)
AHEAD, LEFT, RIGHT, OPEN = range(4)


def make(task=BatchedHideAndRecall, n=8, level=0, **kwargs):
    kwargs = {"houses": 6, "scan_width": 16, "autoreset_mode": AutoresetMode.DISABLED, **kwargs}
    return task(n, level=level, **kwargs)


def play_until(env, phase, action=LEFT):
    """Step until every row is in ``phase``."""
    for _ in range(env.level.max_steps):
        if (env.phase == phase).all():
            return
        env.step(np.where(env.phase == phase, LEFT, action))
    raise AssertionError(f"rows never reached phase {phase}: {env.phase}")


@pytest.mark.parametrize("task", TASKS)
def test_phases_follow_one_another_and_last_as_announced(task):
    env = make(task, n=16)
    obs, _ = env.reset(seed=3)
    lengths = np.zeros((16, 3), int)
    for _ in range(env.level.max_steps):
        lengths[np.arange(16), env.phase] += env.phase < CHOOSE
        np.testing.assert_array_equal(obs["vector"][:, :3], np.eye(3)[env.phase])
        obs, *_ = env.step(np.full(16, LEFT))
        if (env.phase == CHOOSE).all():
            break
    moves = lengths[:, WATCH] / env.level.containers - 1
    assert set(moves) <= set(range(env.level.moves[0], env.level.moves[1] + 1))
    low, high = env.level.wait
    assert (lengths[:, WAIT] >= low).all() and (lengths[:, WAIT] <= high).all()
    assert len(set(lengths[:, WAIT])) > 1


@pytest.mark.parametrize("task", TASKS)
def test_last_container_seen_with_the_item_is_the_answer_and_all_are_visited_alike(task):
    env = make(task, n=12)
    env.reset(seed=1)
    last = np.full(12, -1)
    visits = np.zeros((12, env.level.containers), int)
    while (env.phase == WATCH).any():
        state = env.world.arrays
        for row in np.flatnonzero(env.phase == WATCH):
            opened = [k for k, box in enumerate(env.containers[row]) if state.box_open[row, box]]
            assert len(opened) == 1
            visits[row, opened[0]] += 1
            if state.box_shown[row, env.item[row]]:
                assert state.box_parent[row, env.item[row]] == env.containers[row, opened[0]]
                last[row] = opened[0]
        env.step(np.full(12, AHEAD))
    np.testing.assert_array_equal(last, env.answer)
    assert (visits == visits[:, :1]).all() and (visits[:, 0] >= 1).all()


def test_item_is_in_the_scan_and_in_the_picture_of_the_container_it_is_put_into():
    env = make(n=8, sensors=("scan", "vector", "semantic"), width=64, height=64)
    obs, _ = env.reset(seed=0)
    met = 0
    while (env.phase == WATCH).any():
        for row in np.flatnonzero(env.phase == WATCH):
            plan = env.world.plan(row)
            shown = bool(env.world.arrays.box_shown[row, env.item[row]])
            item_class, instance = plan.box_class[env.item[row]], plan.box_instance[env.item[row]]
            assert (obs["scan"][row, :, 1] == item_class).any() == shown
            assert (obs["semantic"][row] == instance).any() == shown
            assert obs["vector"][row, 4] == shown
            met += shown
        obs, *_ = env.step(np.full(8, AHEAD))
    assert met == 8


def test_nothing_is_open_and_nothing_opens_before_the_choice():
    env = make()
    env.reset(seed=0)
    play_until(env, WAIT)
    for _ in range(env.level.wait[0] - 1):
        assert not env.world.arrays.box_open.any()
        _, reward, terminated, _, _ = env.step(np.full(8, OPEN))
        assert not terminated.any() and (reward == 0).all()
        assert not env.world.arrays.box_open.any()


@pytest.mark.parametrize("right", [True, False])
def test_first_container_opened_ends_the_episode(right):
    env = make(n=6)
    env.reset(seed=5)
    play_until(env, CHOOSE)
    wanted = env.answer if right else (env.answer + 1) % env.level.containers
    done = np.zeros(6, bool)
    for _ in range(env.level.choice_steps):
        ready = env.privileged()["would_open"] == wanted
        _, reward, terminated, truncated, info = env.step(np.where(ready, OPEN, RIGHT))
        assert not (truncated & ready & ~done).any()
        assert (terminated & ~done == ready & ~done).all()
        for row in np.flatnonzero(terminated & ~done):
            assert info["success"][row] == right and info["stopped"][row]
            assert info["opened"][row] == wanted[row]
            expected = (1.0 if right else -env.level.wrong_cost) - env.level.step_cost
            assert reward[row] == pytest.approx(expected, abs=1e-6)
        done |= terminated
    assert done.any()


def test_time_runs_out_without_a_choice():
    env = make(n=2, choice_steps=4)
    env.reset(seed=0)
    play_until(env, CHOOSE)
    ended = []
    for _ in range(5):
        _, _, terminated, truncated, info = env.step(np.full(2, LEFT))
        ended.append(truncated.tolist())
        if truncated.all():
            assert not terminated.any() and not info["success"].any() and not info["stopped"].any()
            break
    assert truncated.all()


def test_shaping_adds_up_to_what_was_gained():
    env = make(n=16, shaping=0.3, facing=0.7, step_cost=0.0)
    env.reset(seed=2)
    play_until(env, CHOOSE)
    rows = np.arange(16)
    distance, bearing = env.goals.update(rows).copy(), env._bearing(rows)
    total = np.zeros(16)
    for action in (LEFT, AHEAD, LEFT, AHEAD):
        total += env.step(np.full(16, action))[1]
    gained = 0.3 * (distance - env.goals.update(rows)) + 0.7 * (bearing - env._bearing(rows))
    np.testing.assert_allclose(total, gained, atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_answer_is_uniform_and_independent_of_where_the_choice_begins(task):
    env = make(task, n=64, houses=3)
    answers, wheres, lasts = [], [], []
    for start in range(10):
        env.reset(seed=11, options={"episode": np.arange(64) + 64 * start})
        answers.append(env.answer.copy())
        places = env.world.arrays.box_pose[np.arange(64)[:, None], env.containers][..., [0, 2]]
        gaps = np.hypot(*np.moveaxis(places - env._choice[:, None, :2], -1, 0))
        wheres.append(gaps.argmin(1))
        lasts.append(env._shown[np.arange(64), env._events - 1])
    answer, where, last = (np.concatenate(part) for part in (answers, wheres, lasts))
    shares = np.bincount(answer, minlength=4) / len(answer)
    assert np.abs(shares - 0.25).max() < 0.07
    assert abs((answer == where).mean() - 0.25) < 0.07
    assert abs((answer == last).mean() - 0.25) < 0.07


def test_episode_depends_on_seed_and_number_alone():
    one, many = make(n=1), make(n=5)
    many.reset(seed=9, options={"episode": np.array([0, 1, 2, 3, 7])})
    for row, episode in enumerate([0, 1, 2, 3, 7]):
        obs, _ = one.reset(seed=9, options={"episode": np.array([episode])})
        assert one.answer[0] == many.answer[row] and one.house[0] == many.house[row]
        np.testing.assert_array_equal(one._choice[0], many._choice[row])
    rng = np.random.default_rng(0)
    twins = [make(n=4), make(n=4)]
    observed = [env.reset(seed=4)[0] for env in twins]
    for _ in range(20):
        for name in observed[0]:
            np.testing.assert_array_equal(observed[0][name], observed[1][name])
        actions = rng.integers(0, 4, 4)
        observed = [env.step(actions)[0] for env in twins]


def test_train_and_test_houses_are_different():
    train, test = make(split="train"), make(split="test")
    poses = {name: [] for name in ("train", "test")}
    for env, name in ((train, "train"), (test, "test")):
        for index in range(env.num_houses):
            plan = env.library.plans[env.plan_id(index)]
            poses[name].append(plan.box_pose.tobytes() + plan.corners.tobytes())
            assert f":{name}:" in plan.name
    assert len(set(poses["train"] + poses["test"])) == train.num_houses + test.num_houses


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("level", [1, 2, 3])
def test_higher_levels_offer_reachable_different_containers(task, level):
    env = make(task, n=2, level=level, houses=2)
    env.reset(seed=0)
    k = env.level.containers
    for row in range(2):
        plan = env.world.plan(row)
        boxes = env.containers[row]
        assert len(set(plan.box_class[boxes])) == k and len({tuple(rgb) for rgb in plan.box_rgb[boxes]}) == k
        opens = np.flatnonzero(plan.box_flags & 1)
        assert set(opens) == set(boxes)
        plan_id = int(env.world.arrays.plan[row])
        for box in boxes:
            goal = env.goals.of(plan_id, (int(box),))
            assert np.isfinite(goal.at(*env._choice[row, :2]))
        assert plan.box_flags[env.item[row]] & TRAY == 0


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"level": 9}, "expected level in 0..3"),
        ({"split": "val"}, "expected split"),
        ({"sensors": ("scam",)}, "did you mean 'scan'"),
        ({"sensors": ()}, "at least one sensor"),
        ({"houses": 0}, "houses >= 1"),
        ({"contaners": 4}, "did you mean 'containers'"),
        ({"containers": 11}, "containers in 2..10"),
        ({"one_per_wall": True, "containers": 5, "looks": 10}, "one_per_wall"),
        ({"wait": (5, 2)}, "wait"),
        ({"hold": 0}, "hold >= 1"),
    ],
)
def test_bad_options_name_what_was_expected(options, match):
    with pytest.raises(UsageError, match=match):
        make(**options)


def test_every_sensor_can_be_asked_for_at_any_size():
    names = ("rgb", "depth", "semantic", "scan", "pose", "intrinsics", "vector", "goal", "instruction")
    env = make(n=2, sensors=names, width=24, height=16)
    obs, _ = env.reset(seed=0)
    for name in names:
        assert env.single_observation_space[name].contains(obs[name][0]), name
    assert obs["rgb"].shape == (2, 16, 24, 3)


def test_reports_get_json_and_the_answer_stays_out_of_observations_and_early_info():
    import json

    env = make(n=2)
    env.reset(seed=0)
    described = env.describe(0)
    assert json.loads(json.dumps(described))["answer"] == env.containers[0, env.answer[0]]
    assert json.loads(json.dumps(env.trace(0)))["phase"] == "watch"
    assert env.step(np.array([LEFT, LEFT]))[4] == {}


@pytest.mark.data
@needs_data
@pytest.mark.parametrize("level", [0, 3])
def test_all_procthor_sample_houses_can_be_played_in(level):
    for split in ("train", "test"):
        env = make(n=2, level=level, split=split, procthor=str(SAMPLE))
        for index in range(env.num_houses):
            env.plan_id(index)
        env.reset(seed=0)
        play_until(env, CHOOSE)


def test_too_many_containers_for_every_house_is_said():
    with pytest.raises(UsageError, match="none of the 2 houses has room for 10 containers"):
        make(n=1, houses=2, side=(3.0, 3.1), containers=10, looks=10, one_per_wall=False).reset(seed=0)


@pytest.mark.parametrize("level", [0, 3])
def test_rewards_and_facts_stay_finite_wherever_the_agent_walks(level):
    env = make(n=16, level=level, houses=4, shaping=0.1, autoreset_mode=AutoresetMode.NEXT_STEP, wait=(1, 2))
    env.reset(seed=0)
    rng = np.random.default_rng(1)
    for _ in range(400):
        _, reward, _, _, info = env.step(rng.choice([AHEAD, AHEAD, AHEAD, LEFT, RIGHT, OPEN], 16))
        assert np.isfinite(reward).all()
        for name, values in info.items():
            assert np.isfinite(np.asarray(values, float)).all(), name
