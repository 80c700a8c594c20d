"""The map agent of House: it finds goals it was never told about, and its map is what it owes that to."""

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.evaluation import evaluate
from embodied_mem.evaluation.suite import Suite, Task
from embodied_mem.policies.scripted.house_map import FREE, SIZE, WALL, HouseMap

ENV = "embodied_mem/House-MultiObjectNav-v0"


def suite(**kwargs):
    task = Task(
        ENV, "multion", kwargs={"level": 0, "split": "test", **kwargs}, splits={"test": {}}, success_distance=1.0
    )
    return Suite("mine", "maps", (task,), episodes=16, num_envs=8)


def test_it_finds_what_it_looks_for_and_wiping_the_map_costs():
    found = evaluate("house-map", suite(goals=4, kinds=3), controls=["wiped:5"], device="cpu")
    whole, wiped = found["metrics"]["spl"]["mean"], found["controls"]["wiped:5"]["spl"]["mean"]
    assert found["metrics"]["success"]["mean"] > 0.5
    assert whole >= wiped


def test_it_follows_instructions_by_counting_its_calls():
    options = {"level": 0, "split": "test", "landmarks": 2, "max_steps": 100, "houses": 3}
    task = Task("embodied_mem/House-InstructionFollowing-v0", "instruction", kwargs=options, splits={"test": {}})
    told = Suite("mine", "instructions", (task,), episodes=8, num_envs=8)
    found = evaluate("house-map", told, controls=["wiped:1"], device="cpu")
    assert found["metrics"]["success"]["mean"] > 0.7
    assert found["controls"]["wiped:1"]["success"]["mean"] == 0.0


def test_the_floor_it_writes_is_the_room():
    from embodied_mem.envs.make import make_vec

    options = HouseMap.env_options("")
    env = make_vec("House-ObjectNav-v0", 2, level=0, **options)
    obs, _ = env.reset(seed=0)
    agent = HouseMap()
    _, state, _ = agent.act(obs, agent.initial_state(2), np.ones(2, bool))
    middle = SIZE // 2
    for row in range(2):
        assert state["floor"][row, middle, middle] in (FREE, WALL)
        area = (state["floor"][row] == FREE).sum() * 0.125**2
        assert 1.0 < area < 60.0 and (state["floor"][row] == WALL).any()
        seen = {int(code) for layer in (1, 4) for code in obs["scan"][row, :, layer]} - {0}
        assert set(np.unique(state["label"][row]).tolist()) - {-1, 0} <= seen
    env.close()


def test_other_observations_are_refused():
    with pytest.raises(UsageError, match="house-map reads"):
        agent = HouseMap()
        agent.act({"vector": np.zeros((1, 4))}, agent.initial_state(1), np.ones(1, bool))
