"""House-ObjectNav and House-MultiObjectNav: goals, success, final facts, levels, ProcTHOR houses."""

import os
from pathlib import Path

import numpy as np
import pytest

from embodied_mem.envs.house.arrays import Action
from embodied_mem.envs.house.tasks.multi_object_nav import BatchedMultiObjectNav
from embodied_mem.envs.house.tasks.object_nav import BatchedObjectNav
from embodied_mem.envs.house.tasks.targets import TARGETS, instances, spoken
from embodied_mem.errors import UsageError
from embodied_mem.evaluation.families import goal_navigation, multi_object
from embodied_mem.evaluation.suite import Task
from embodied_mem.policies.scripted.house import HouseOracle
from embodied_mem.spaces import decode_text

PROCTHOR = Path(os.environ.get("EMBODIED_MEM_DATA", "../shared/data")) / "procthor" / "houses_sample.jsonl.gz"


def make(cls, n=8, **kwargs):
    env = cls(n, autoreset_mode="DISABLED", houses=kwargs.pop("houses", 4), **kwargs)
    env.reset(seed=1)
    return env


def play(env, choose, steps=600):
    """Play until all rows have ended; return the facts of every row and the rewards (T, N)."""
    n, facts, rewards = env.num_envs, [{} for _ in range(env.num_envs)], []
    for _ in range(steps):
        _, reward, terminated, truncated, info = env.step(choose())
        rewards.append(reward)
        for row in range(n):
            if info.get("_success", np.zeros(n, bool))[row]:
                facts[row] = {key: value[row] for key, value in info.items() if not key.startswith("_")}
        if (terminated | truncated).all():
            return facts, np.array(rewards)
    raise AssertionError("episodes did not end")


def oracle(env):
    agent, memory = HouseOracle(), {"state": None, "reset": np.ones(env.num_envs, bool)}
    memory["state"] = agent.initial_state(env.num_envs)

    def choose():
        actions, memory["state"], _ = agent.act(None, memory["state"], memory["reset"], env.privileged())
        memory["reset"] = np.zeros(env.num_envs, bool)
        return actions

    return choose


@pytest.mark.parametrize("cls", [BatchedObjectNav, BatchedMultiObjectNav])
@pytest.mark.parametrize("level", [0, 1])
def test_goals_are_in_the_house_out_of_reach_and_named(cls, level):
    env = make(cls, 16, level=level, sensors=("goal", "instruction"))
    seen, _ = env.reset(seed=3)
    for row in range(16):
        target = int(seen["goal"][row].argmax())
        assert seen["goal"][row].sum() == 1 and decode_text(seen["instruction"][row]) == f"find the {spoken(target)}"
        boxes = instances(env.world.plan(row), small=env.level.small)[target]
        assert (env.world.gap(np.full(len(boxes), row), np.array(boxes)) > 0).all()
        distance = env.privileged()["goal_distance"][row]
        assert env.goal_limit < distance < np.inf and not env.privileged()["ready"][row]


def test_done_counts_only_near_and_in_view():
    env = make(BatchedObjectNav, 8, level=0)
    done = np.full(8, env.actions.index("Done"))
    facts, _ = play(env, lambda: done)
    assert all(row["stopped"] and not row["success"] and row["path_length"] == 0 for row in facts)
    assert all(row["start_distance"] == row["final_distance"] == row["min_distance"] > 1.0 for row in facts)

    env.reset(seed=1)
    choose = oracle(env)
    facts, rewards = play(env, choose)
    assert all(row["success"] and row["final_distance"] <= 1.15 for row in facts)
    # Potential differences add up to what was gained; each step costs, the goal pays 1.
    gained = np.array([row["start_distance"] - row["final_distance"] for row in facts])
    lengths = env.steps
    assert np.allclose(rewards.sum(0), 1 + 0.2 * gained - 0.01 * lengths, atol=1e-4)


def test_turned_away_from_the_target_done_fails():
    env = make(BatchedObjectNav, 8, level=0)
    choose, away = oracle(env), np.zeros(8, int)
    finish, turn = env.actions.index("Done"), env.actions.index("RotateRight")

    def turned_away():
        actions = choose()
        # Where the oracle would say Done, turn half around first.
        late = (actions == finish) | (away > 0)
        away[late] += 1
        return np.where(late, np.where(away <= 6, turn, finish), actions)

    facts, _ = play(env, turned_away)
    failed = [not row["success"] for row in facts]
    assert np.mean(failed) > 0.5, "another box of the class may be in view behind"
    assert all(row["final_distance"] <= 1.15 for row in facts)


@pytest.mark.parametrize("batched", [BatchedObjectNav, BatchedMultiObjectNav])
def test_a_wrong_call_costs_what_the_level_says(batched):
    env = make(batched, 16, level=0, wrong_cost=0.7)
    facts, rewards = play(env, lambda: np.full(16, env.actions.index("Done")))
    wrong = np.array([row["stopped"] and not row["found"] if "found" in row else not row["success"] for row in facts])
    assert wrong.sum() >= 8
    assert np.allclose(rewards[0, wrong], -0.01 - 0.7)


def test_time_runs_out_without_success():
    env = make(BatchedObjectNav, 4, level=0, max_steps=20)
    facts, rewards = play(env, lambda: np.full(4, env.actions.index("RotateLeft")))
    assert len(rewards) == 20 and not any(row["success"] or row["stopped"] for row in facts)
    assert np.allclose(rewards, -0.01)


def test_the_facts_score_as_published():
    task = Task("House-ObjectNav-v0", "goal_nav", success_distance=1.0)
    env = make(BatchedObjectNav, 8, level=1)
    for row in play(env, oracle(env))[0]:
        scores = goal_navigation(row, task)
        assert scores["sr"] == scores["success"] == scores["osr"] == 1 and scores["spl"] > 0.9 and scores["dts"] < 0.2
    task = Task("House-MultiObjectNav-v0", "multion", success_distance=1.0)
    env = make(BatchedMultiObjectNav, 8, level=1)
    for row in play(env, oracle(env))[0]:
        scores = multi_object(row, task)
        assert scores["success"] == scores["progress"] == 1 and scores["ppl"] > 0.9
        assert row["path_at_last_found"] == row["path_length"] and len(row["leg_geodesics"]) == 4
        assert (row["leg_geodesics"] > 1.0).all()


@pytest.mark.parametrize("level", [0, 1])
def test_sequences_recur_and_use_all_kinds(level):
    env = make(BatchedMultiObjectNav, 32, level=level)
    kinds = env.level.kinds
    for row in range(32):
        sequence = env.sequence[row].tolist()
        assert len(set(sequence)) == kinds < len(sequence)
        assert all(a != b for a, b in zip(sequence, sequence[1:]))
    assert len({tuple(row) for row in env.sequence.tolist()}) > 4


def test_found_moves_on_and_a_wrong_call_ends():
    env = make(BatchedMultiObjectNav, 8, level=0)
    choose, finish = oracle(env), env.actions.index("Done")
    wrong = np.zeros(8, bool)

    def one_then_wrong():
        actions = choose()
        nonlocal wrong
        out = np.where(wrong, finish, actions)
        # The step after the first goal says Done at once, unless the second goal is in view there already.
        wrong = wrong | ((env.found == 0) & (actions == finish) & env.privileged()["ready"])
        return out

    facts, _ = play(env, one_then_wrong)
    ended = [row for row in facts if row["found"] == 1]
    assert len(ended) >= 5
    for row in ended:
        assert not row["success"] and row["stopped"]
        assert row["path_at_last_found"] == row["path_length"]
        scores = multi_object(row, Task("House-MultiObjectNav-v0", "multion"))
        assert scores["progress"] == pytest.approx(1 / 3) and scores["spl"] == 0 and 0 < scores["ppl"] <= 1 / 3


def test_goals_change_in_the_observation_once_found():
    env = make(BatchedMultiObjectNav, 4, level=0, sensors=("goal", "vector", "instruction"))
    seen, _ = env.reset(seed=2)
    choose, sequence = oracle(env), env.sequence.copy()
    for _ in range(200):
        seen, _, terminated, truncated, _ = env.step(choose())
        live = ~(terminated | truncated)
        assert (seen["goal"].argmax(1) == sequence[np.arange(4), np.minimum(env.found, 2)])[live].all()
        assert np.allclose(seen["vector"][:, 3], env.found / 3)
        if not live.any():
            break
    assert (env.found == 3).all()


def test_a_goal_found_beside_the_grid_leaves_rewards_finite():
    env = make(BatchedMultiObjectNav, 4, level=0)
    env.world.arrays.position[:] = 1e3
    env.found[:] = 1
    env._next_goals(np.arange(4))
    assert not np.isfinite(env.goals.distance).any(), "nothing is near"
    _, reward, *_ = env.step(np.full(4, env.actions.index("RotateLeft")))
    assert np.allclose(reward, -env.level.step_cost)


@pytest.mark.parametrize("cls", [BatchedObjectNav, BatchedMultiObjectNav])
def test_train_and_test_houses_differ(cls):
    names = [{make(cls, 8, split=split).world.plan(row).name for row in range(8)} for split in ("train", "test")]
    assert not names[0] & names[1]


@pytest.mark.parametrize("cls", [BatchedObjectNav, BatchedMultiObjectNav])
@pytest.mark.parametrize("level", [2, 3])
def test_large_houses_have_their_rooms(cls, level):
    env = make(cls, 4, level=level, houses=2)
    low, high = env.level.rooms
    assert all(low <= env.world.plan(row).num_rooms <= high for row in range(4))
    assert np.isfinite(env.privileged()["goal_distance"]).all()


@pytest.mark.parametrize("cls", [BatchedObjectNav, BatchedMultiObjectNav])
def test_bad_options_are_refused(cls):
    with pytest.raises(UsageError, match="level"):
        cls(1, level=4)
    with pytest.raises(UsageError, match="has no option 'clutter'"):
        cls(1, clutter=3)
    with pytest.raises(UsageError, match="max_steps"):
        cls(1, max_steps=0)
    if cls is BatchedMultiObjectNav:
        with pytest.raises(UsageError, match="kinds"):
            cls(1, goals=2, kinds=3)


@pytest.mark.skipif(not PROCTHOR.is_file(), reason="needs the ProcTHOR sample in EMBODIED_MEM_DATA")
@pytest.mark.parametrize("cls", [BatchedObjectNav, BatchedMultiObjectNav])
def test_procthor_houses_can_be_solved(cls):
    env = make(cls, 8, level=1, procthor=str(PROCTHOR))
    assert all(env.world.plan(row).name.startswith("procthor:") for row in range(8))
    assert not env.world.plan(0).door_openable.any(), "doors stand open: these agents cannot open them"
    facts, _ = play(env, oracle(env))
    assert all(row["success"] for row in facts)


def test_names():
    assert len(set(TARGETS)) == len(TARGETS) and Action.Done.name in BatchedObjectNav.actions
