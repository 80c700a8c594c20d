"""House-InstructionFollowing: what is told, what is never told, order and calls, the path's metrics."""

import numpy as np
import pytest

from embodied_mem.envs.house.tasks.instruction_following import BatchedInstructionFollowing, next_landmark
from embodied_mem.envs.house.tasks.targets import TARGET_CLASS, TARGETS, spoken
from embodied_mem.errors import UsageError
from embodied_mem.evaluation.families import FAMILIES
from embodied_mem.evaluation.suite import Task
from embodied_mem.policies.scripted.house import HouseOracle
from embodied_mem.spaces import decode_text

TASK = Task("House-InstructionFollowing-v0", "instruction", success_distance=1.0)
SENSORS = ("rgb", "depth", "semantic", "scan", "pose", "intrinsics", "vector", "goal", "instruction")
DONE = BatchedInstructionFollowing.actions.index("Done")


def make(n=8, seed=1, **kwargs):
    env = BatchedInstructionFollowing(n, autoreset_mode="DISABLED", houses=kwargs.pop("houses", 4), **kwargs)
    return env, env.reset(seed=seed)[0]


def play(env, change=lambda actions: actions):
    """Play the oracle's actions, changed, to the end; return the facts of every row."""
    agent, facts = HouseOracle(), [{} for _ in range(env.num_envs)]
    state, reset = agent.initial_state(env.num_envs), np.ones(env.num_envs, bool)
    for _ in range(env.level.max_steps):
        actions, state, _ = agent.act(None, state, reset, env.privileged())
        reset = np.zeros(env.num_envs, bool)
        _, _, terminated, truncated, info = env.step(change(actions))
        for row in np.flatnonzero(info.get("_success", reset)):
            facts[row] = {key: value[row] for key, value in info.items() if not key.startswith("_")}
        if (terminated | truncated).all():
            return facts
    raise AssertionError("episodes did not end")


@pytest.mark.parametrize("level, n", [(0, 32), (1, 8)])
def test_all_landmarks_are_told_in_words_and_codes_and_differ(level, n):
    env, seen = make(n, level=level, sensors=("goal", "instruction", "vector"))
    count = env.level.landmarks
    coded = seen["goal"].reshape(n, count, len(TARGETS))
    assert (coded.sum(2) == 1).all() and (coded.argmax(2) == env.sequence).all()
    for row in range(n):
        names = [spoken(target) for target in coded[row].argmax(1)]
        text = decode_text(seen["instruction"][row])
        assert len(set(names)) == count
        assert text.startswith(f"go to the {names[0]}, then to the ") and text.endswith(f"stop at the {names[-1]}")
        assert [text.find(f"the {name}") for name in names] == sorted(text.find(f"the {name}") for name in names)
    assert len({tuple(row) for row in env.sequence.tolist()}) > n // 4
    assert env.single_observation_space["vector"].shape == (2,), "no time and no count"


def test_the_longest_instruction_fits():
    env, _ = make(1, level=0, houses=1)
    names = sorted(range(len(TARGETS)), key=lambda target: -len(spoken(target)))
    env.sequence = np.array([names[: BatchedInstructionFollowing.levels[-1].landmarks]])
    env._say(0, env._text(0, 0))
    assert decode_text(env._instruction[0]) == env._text(0, 0)


def test_no_place_is_near_two_landmarks_and_none_hides_from_the_scan():
    env, _ = make(16, level=0, houses=6)
    for row in range(16):
        plan_id, plan = int(env.world.arrays.plan[row]), env.world.plan(row)
        goals = [env.goal_of(plan_id, target) for target in env.sequence[row]]
        assert np.sum([np.isfinite(goal.costs) for goal in goals], axis=0).max() == 1
        for target in env.sequence[row].tolist():
            boxes = list(env._offers[plan_id][target])
            assert (plan.box_class[boxes] == TARGET_CLASS[target]).all() and (plan.box_parent[boxes] < 0).all()


def test_a_right_call_leaves_no_trace_in_any_sensor():
    env, _ = make(8, level=0, sensors=SENSORS, width=24, height=16)
    agent, reset, right = HouseOracle(), np.ones(8, bool), 0
    state, before = agent.initial_state(8), None
    for _ in range(env.level.max_steps):
        actions, state, _ = agent.act(None, state, reset, env.privileged())
        called, found, reset = actions == DONE, env.found.copy(), np.zeros(8, bool)
        seen, _, terminated, truncated, _ = env.step(actions)
        live = ~(terminated | truncated)
        traceless = np.flatnonzero(called & live)
        assert (env.found[traceless] == found[traceless] + 1).all()
        right += len(traceless)
        for name in SENSORS if before is not None else ():
            assert np.array_equal(seen[name][traceless], before[name][traceless]), name
        before = seen
        if not live.any():
            break
    assert right == 8 * 2


def test_a_second_call_at_the_same_landmark_ends_it():
    env, _ = make(8, level=0)
    facts = play(env, lambda actions: np.where(env.found > 0, DONE, actions))
    for row in facts:
        scores = FAMILIES["instruction"].score(row, TASK)
        assert row["found"] == 1 and row["stopped"] and not row["success"] and row["ne"] > 0
        assert scores["progress"] == pytest.approx(1 / 3) and scores["spl"] == scores["sdtw"] == 0 < scores["ndtw"]


def test_the_oracle_walks_the_reference_path():
    env, _ = make(16, level=1, houses=4)
    references = [env.reference(row) for row in range(16)]
    facts = play(env)
    for row, (fact, reference) in enumerate(zip(facts, references)):
        scores = FAMILIES["instruction"].score(fact, TASK)
        assert scores["success"] == scores["progress"] == 1 and scores["ppl"] > 0.9 and scores["ne"] < 1.15
        assert scores["sdtw"] == scores["ndtw"] > 0.7 and scores["cls"] > 0.5
        assert scores["pl"] == pytest.approx(env.path[row], abs=1e-6)
        plan_id, rest = int(env.world.arrays.plan[row]), reference
        for target in env.sequence[row]:
            near = [env.goal_of(plan_id, target).at(*point) <= env.goal_limit for point in rest]
            assert any(near), "every landmark is passed, in order"
            rest = rest[int(np.argmax(near)) :]
        walked = np.linalg.norm(np.diff(reference, axis=0), axis=1).sum()
        assert 0.5 * fact["leg_geodesics"].sum() < walked < fact["leg_geodesics"].sum()
        assert np.linalg.norm(np.diff(reference, axis=0), axis=1).max() < 0.23


@pytest.mark.parametrize("level", [2, 3])
def test_large_houses_hold_their_instructions(level):
    env, _ = make(4, level=level, houses=1)
    assert env.sequence.shape == (4, env.level.landmarks)
    assert (env._legs > env.goal_limit).all() and np.isfinite(env._legs).all()


def test_train_and_test_houses_differ():
    names = [{make(8, split=split)[0].world.plan(row).name for row in range(8)} for split in ("train", "test")]
    assert not names[0] & names[1]


def test_the_next_landmark_is_that_after_so_many_calls():
    goal = np.zeros((2, 2 * len(TARGETS)), np.float32)
    goal[:, 4], goal[:, len(TARGETS) + 9] = 1.0, 1.0
    assert next_landmark(goal, np.array([0, 1])).tolist() == [TARGET_CLASS[4], TARGET_CLASS[9]]
    assert next_landmark(goal, np.array([2, 7])).tolist() == [TARGET_CLASS[9]] * 2
    assert next_landmark(goal[:, : len(TARGETS)], np.array([0, 3])).tolist() == [TARGET_CLASS[4]] * 2


def test_bad_options_are_refused():
    with pytest.raises(UsageError, match="landmarks >= 2, got 1"):
        BatchedInstructionFollowing(1, landmarks=1)
    with pytest.raises(UsageError, match="has no option 'goals'"):
        BatchedInstructionFollowing(1, goals=3)
