"""The scripted agents of RememberColor go where they should in a world of points."""

from types import SimpleNamespace

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.policies.scripted.oracle import expert, memoryless_oracle

CUBES = np.array([[0.0, -0.2, 0.02], [0.0, 0.0, 0.02], [0.0, 0.2, 0.02]])


class Points:
    """Hands without weight: an action moves them by up to 0.04 m per axis; the first two are not played."""

    num_envs, task, control = 4, "RememberColor3-VLA-v0", "pd_ee_delta_pose"

    def __init__(self):
        self.unwrapped = self
        self.tcp = np.tile([0.0, 0.0, 0.3], (4, 1))
        self.right, self.t = np.array([0, 1, 2, 0]), 0

    def privileged(self):
        waits = np.full(4, self.t < 2)
        cubes = np.tile(CUBES, (4, 1, 1))
        return {"oracle_info": self.right[:, None], "tcp": self.tcp, "cubes": cubes, "waits": waits, "still": ~waits}

    def step(self, actions):
        assert actions.shape == (4, 7) and np.abs(actions).max() <= 1.0
        if self.t >= 2:
            self.tcp = self.tcp + np.clip(0.1 * actions[:, :3], -0.04, 0.04)
        else:
            assert not actions.any()
        self.t += 1


def touched(make, steps, seed=0):
    """Return per row the cubes in the order in which they were touched."""
    world, orders = Points(), [[] for _ in range(4)]
    agent = make("MikasaRobo-v0", world)
    state, reset = agent.initial_state(4, seed=seed), np.ones(4, bool)
    for _ in range(steps):
        actions, state, _ = agent.act({}, state, reset, world.privileged())
        world.step(actions)
        reset = np.zeros(4, bool)
        for row, order in enumerate(orders):
            near = np.linalg.norm(CUBES - world.tcp[row], axis=1) < 0.05
            if near.any() and int(near.argmax()) not in order:
                order.append(int(near.argmax()))
    return orders


def test_expert_touches_the_cube_of_the_cue_alone():
    assert touched(expert, 60) == [[0], [1], [2], [0]]


def test_memoryless_oracle_goes_to_every_cube_in_an_order_of_its_own():
    orders = touched(memoryless_oracle, 80)
    assert all(len(order) == 3 for order in orders)
    assert len({tuple(order) for seed in range(5) for order in touched(memoryless_oracle, 80, seed)}) > 2


def test_other_environments_and_facts_are_refused():
    with pytest.raises(UsageError, match="RememberColor task"):
        expert("MikasaRobo-v0", SimpleNamespace(unwrapped=SimpleNamespace(task="InterceptMedium-VLA-v0")))
    agent = expert("MikasaRobo-v0", Points())
    with pytest.raises(UsageError, match="privileged"):
        agent.act({}, agent.initial_state(4, seed=0), np.ones(4, bool), {"oracle_info": np.zeros((4, 1))})
