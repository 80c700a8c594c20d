"""Every tabletop task: the expert solves it, what must be remembered cannot be seen later, and order is enforced."""

import numpy as np
import pytest

from embodied_mem.policies.scripted import _reach
from embodied_mem.policies.scripted.tabletop import TabletopExpert, TabletopMemoryless

from .conftest import TASKS, batched

WAIT, CHOOSE = 2, 3
HALVES = ("ReopenDrawer", "PutBlockBack", "RearrangeBlock", "ReturnToStart")
CHANCE = {
    "RememberColor3": 1 / 3,
    "RememberColor5": 1 / 5,
    "RememberColor9": 1 / 9,
    "RememberShape": 1 / 3,
    "ShellGame": 1 / 3,
    "Intercept": 0.2,
    "SequencePress": 1 / 12,
    "CountPress": 1 / 3,
    "ReopenDrawer": 1 / 3,
    "PutBlockBack": 1 / 4,
    "RearrangeBlock": 1 / 2,
    "ReturnToStart": 0.065,
}


def play(env, agent, seed=0):
    """Play one episode per row; return success, whether something wrong was done, and length in control steps."""
    n = env.num_envs
    env.reset(seed=seed)
    state, reset, over = agent.initial_state(n, seed=seed), np.ones(n, bool), np.zeros(n, bool)
    success, wrong, ticks = np.zeros(n, bool), np.zeros(n, bool), np.zeros(n, int)
    while not over.all():
        actions, state, _ = agent.act(None, state, reset, env.privileged())
        reset = np.zeros(n, bool)
        _, _, terminated, truncated, info = env.step(actions)
        if "_success" in info:
            ended = info["_success"]
            success[ended], wrong[ended], ticks[ended] = (info[key][ended] for key in ("success", "wrong", "ticks"))
        over |= terminated | truncated
    return success, wrong, ticks


@pytest.mark.parametrize("task", TASKS)
def test_the_expert_solves_every_task(task, make):
    success, wrong, ticks = play(make(task, 3), TabletopExpert(), seed=11)
    assert success.all() and not wrong.any() and (ticks > 20).all()


@pytest.mark.full
@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("task", TASKS)
def test_the_expert_solves_95_of_100_in_200_episodes(task, level, make):
    success, _, _ = play(make(task, 200, level=level), TabletopExpert(), seed=3)
    assert success.mean() >= 0.95


@pytest.mark.parametrize("task", ["RememberColor3", "PutBlockBack"])
def test_the_expert_solves_it_by_keyframes_too(task, make):
    env = make(task, 2, control="keyframe")
    success, _, _ = play(env, TabletopExpert(), seed=1)
    assert success.all()


@pytest.mark.full
@pytest.mark.parametrize("task", TASKS)
def test_the_expert_solves_every_task_by_keyframes(task, make):
    success, _, _ = play(make(task, 50, control="keyframe"), TabletopExpert(), seed=2)
    assert success.mean() >= 0.95


@pytest.mark.full
@pytest.mark.parametrize("task", TASKS)
def test_without_memory_no_task_is_solved_above_chance(task, make):
    # The standard error of 2,000 episodes is at most 0.011, so 5 points are more than four of them.
    played = [play(make(task, 250), TabletopMemoryless(), seed=seed)[0] for seed in range(0, 2000, 250)]
    success = np.concatenate(played)
    assert abs(success.mean() - CHANCE[task]) < 0.05


def test_memoryless_play_of_one_task_is_at_chance(make):
    success, wrong, _ = play(make("RememberColor3", 96), TabletopMemoryless(), seed=0)
    assert abs(success.mean() - 1 / 3) < 0.15 and (success ^ wrong).all(), "every episode ends with a choice"


def twins(task, monkeypatch):
    """Return an environment whose two rows play the same episode with different answers, after its reset."""
    cls = batched(task)
    drawn = cls._draw_answer

    def two(self, keys):
        answers = drawn(self, keys)
        for k in range(1, 100):
            answers[1] = drawn(self, keys + np.uint64(k))[1]
            if answers[1] != answers[0]:
                return answers
        raise AssertionError("no other answer found")

    monkeypatch.setattr(cls, "_draw_answer", two)
    env = cls(2, autoreset_mode="Disabled")
    first, _ = env.reset(seed=4, options={"episode": np.array([3, 3])})
    return env, first


@pytest.mark.parametrize("task", TASKS)
def test_episodes_that_differ_in_the_answer_alone_look_the_same_from_the_wait_on(task, monkeypatch):
    env, first = twins(task, monkeypatch)
    seen, waited = [[first["vector"][row]] for row in range(2)], [[], []]
    agent, state, reset = TabletopExpert(), TabletopExpert().initial_state(2), np.ones(2, bool)
    for _ in range(300):
        actions, state, _ = agent.act(None, state, reset, env.privileged())
        reset = np.zeros(2, bool)
        observed = env.step(actions)[0]
        for row, phase in enumerate(env.privileged()["phase"]):
            chosen = phase == CHOOSE and len(waited[row]) == env.delay
            if phase == WAIT or chosen:
                waited[row].append({name: value[row] for name, value in observed.items()})
            elif not waited[row]:
                seen[row].append(observed["vector"][row])
        if all(len(rows) == env.delay + 1 for rows in waited):
            break
    assert [len(rows) for rows in waited] == [env.delay + 1] * 2, "both rows reached the choice"
    for one, other in zip(*waited):
        assert all(np.array_equal(one[name], other[name]) for name in one)
    length = min(map(len, seen))
    assert not np.array_equal(np.array(seen[0][:length]), np.array(seen[1][:length])), "the cue differs"


class PressesFirst(TabletopExpert):
    """Presses the button whatever is to be done."""

    def act(self, obs, state, reset, privileged=None):
        button = np.tile([[[0.42, 0.33, 0.022]]], (len(reset), privileged["targets"].shape[1], 1))
        forged = {"kind": np.full(len(reset), _reach.PRESS), "starts": button, "targets": button}
        return super().act(obs, state, reset, {**privileged, **forged})


@pytest.mark.parametrize("task", HALVES)
def test_a_button_pressed_before_its_turn_ends_the_episode(task, make):
    success, wrong, _ = play(make(task, 1), PressesFirst(), seed=5)
    assert wrong.all() and not success.any()


class Mistaken(TabletopExpert):
    """Does the first wrong thing wherever there is a choice."""

    def _choose(self, facts, state, reset):
        things = facts["allowed"].shape[1]
        return np.where(facts["phase"] == CHOOSE, (facts["right"] + 1) % things, facts["right"])


@pytest.mark.parametrize("task", ["ShellGame", "SequencePress", "CountPress", "ReopenDrawer", "RearrangeBlock"])
def test_one_wrong_deed_ends_the_episode(task, make):
    success, wrong, _ = play(make(task, 1), Mistaken(), seed=6)
    assert wrong.all() and not success.any()


def test_the_arm_is_held_while_something_is_shown(make):
    env, twin = make("RememberColor3", 2), make("RememberColor3", 2)
    env.reset(seed=0)
    twin.reset(seed=0)
    env.single_action_space.seed(0)
    for _ in range(env.watch + env.delay):
        assert env.held.all()
        busy = np.stack([env.single_action_space.sample() for _ in range(2)])
        one, other = env.step(busy)[0], twin.step(np.zeros((2, 7), np.float32))[0]
        assert np.array_equal(one["vector"], other["vector"])
    assert not env.held.any()


def test_suite_and_registration_state_the_same_chances():
    from embodied_mem.envs import ENVIRONMENTS
    from embodied_mem.evaluation import load_suite

    stated = {item.id: item.memoryless for item in ENVIRONMENTS}
    for level, name in enumerate(("tabletop-memory", "tabletop-memory-1", "tabletop-memory-2")):
        suite = load_suite(name)
        assert {task.env.split("Tabletop-")[1][:-3] for task in suite.tasks} == set(TASKS)
        for task in suite.tasks:
            assert task.chance == stated[task.env][f"level {level}"] and task.kwargs == {"level": level}
    for task in load_suite("tabletop-memory").tasks:
        assert task.chance == CHANCE[task.env.split("Tabletop-")[1][:-3]]
