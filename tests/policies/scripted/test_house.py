"""Oracles of the House tasks: they succeed, by short ways, from the privileged facts alone."""

import numpy as np
import pytest

from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.policies.scripted.house import HouseOracle
from embodied_mem.policies.scripted.oracle import oracle

NAVIGATION = ("House-ObjectNav-v0", "House-MultiObjectNav-v0")


def play(name, n, **kwargs):
    """Return (success, path-weighted success) (n,) of the oracle."""
    env = make_vec(name, n, autoreset_mode="DISABLED", split="test", **kwargs)
    agent = oracle(name, env)
    seen, _ = env.reset(seed=5, options={"episode": np.arange(n)})
    state, reset, done = agent.initial_state(n, 0), np.ones(n, bool), np.zeros(n, bool)
    success, spl = np.zeros(n), np.zeros(n)
    while not done.all():
        actions, state, _ = agent.act(seen, state, reset, env.privileged() if agent.needs_privileged else None)
        seen, _, terminated, truncated, info = env.step(actions)
        reset = np.zeros(n, bool)
        new = (terminated | truncated) & ~done
        done |= new
        if new.any() and "path_length" in info:
            legs = info["leg_geodesics"].sum(1) if "leg_geodesics" in info else info.get("start_distance")
            success[new] = info["success"][new]
            if legs is not None:
                spl[new] = (info["success"] * legs / np.maximum(np.maximum(legs, info["path_length"]), 1e-9))[new]
    return success, spl


@pytest.mark.parametrize("name", NAVIGATION)
@pytest.mark.parametrize("level, n", [(0, 64), (1, 48), (2, 16)])
def test_goals_are_found_by_the_shortest_way(name, level, n):
    success, spl = play(name, n, level=level, houses=8)
    assert success.mean() >= 0.98 and spl.mean() >= 0.97


@pytest.mark.full
@pytest.mark.parametrize("name", (*NAVIGATION, "House-InstructionFollowing-v0"))
@pytest.mark.parametrize("level", range(4))
def test_goals_are_found_in_many_houses(name, level):
    success, spl = play(name, 256, level=level, houses=64)
    assert success.mean() >= 0.98 and spl.mean() >= 0.98


def test_other_turns_and_steps_are_planned_with():
    success, spl = play("House-ObjectNav-v0", 32, level=1, houses=4, turn=45.0, step=0.2)
    assert success.mean() >= 0.95 and spl.mean() >= 0.93


def test_the_tour_is_watched():
    success, _ = play("House-Tour-v0", 2, level=0, houses=2)
    assert (success == 1).all()


def test_rows_that_end_are_played_again():
    env = make_vec("House-ObjectNav-v0", 8, autoreset_mode="NEXT_STEP", houses=4)
    agent = HouseOracle()
    env.reset(seed=0)
    state, reset, ended, succeeded = agent.initial_state(8), np.ones(8, bool), 0, 0
    for _ in range(120):
        actions, state, _ = agent.act(None, state, reset, env.privileged())
        _, _, terminated, truncated, info = env.step(actions)
        # NEXT_STEP: the step after the last one begins the next episode.
        reset = terminated | truncated
        ended += int(reset.sum())
        succeeded += int((info.get("success", np.zeros(8, bool)) & reset).sum())
    assert ended > 20 and succeeded == ended


def test_the_callers_state_is_not_changed():
    env = make_vec("House-ObjectNav-v0", 2, autoreset_mode="DISABLED", houses=2)
    env.reset(seed=0)
    agent = HouseOracle()
    state = agent.initial_state(2)
    kept = {name: value.copy() for name, value in state.items()}
    agent.act(None, state, np.ones(2, bool), env.privileged())
    assert all(np.array_equal(state[name], kept[name], equal_nan=True) for name in kept)


def test_oracles_need_the_privileged_facts():
    agent = HouseOracle()
    with pytest.raises(UsageError, match="privileged"):
        agent.act(None, agent.initial_state(1), np.ones(1, bool))
