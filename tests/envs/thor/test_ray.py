"""A batch of players in Ray actors: same episodes as in one process; a dead player or actor costs its row alone."""

import os
import signal

import numpy as np
import pytest

from embodied_mem.envs.thor.env import BatchedThorPointNav
from embodied_mem.private_ray import start_private_ray

pytest.importorskip("ai2thor")
SMALL = {"player": "standin", "width": 16, "height": 16, "start_timeout": 280.0, "step_timeout": 200.0, "scenes": 1}


@pytest.fixture(scope="module")
def rows():
    """Two rows in actors of a private Ray."""
    ray = pytest.importorskip("ray")
    started = not ray.is_initialized()
    if started:
        start_private_ray(num_cpus=2)
    env = BatchedThorPointNav(2, backend="ray", actor_cpus=0.5, autoreset_mode="DISABLED", **SMALL)
    yield env
    env.close()
    if started:
        ray.shutdown()


@pytest.mark.full
def test_rows_play_side_by_side_and_a_failure_costs_its_row_alone(rows):
    seen, _ = rows.reset(seed=4, options={"episode": np.array([1, 1])})
    for action in (0, 2, 0):
        assert all(np.array_equal(value[0], value[1]) for value in seen.values())
        seen, reward, *_ = rows.step(np.array([action, action]))
        assert reward[0] == reward[1]
    os.kill(rows.pids()[0], signal.SIGKILL)
    *_, truncated, info = rows.step(np.array([1, 1]))
    assert truncated.tolist() == [True, False] and info["invalid"].tolist() == [True, False]

    import ray

    ray.kill(rows._seats.actors[1])
    *_, truncated, info = rows.step(np.array([1, 1]))
    assert truncated[1] and info["invalid"][1] and "actor died" in rows.reasons[1]


@pytest.mark.full
def test_actors_play_the_episodes_of_one_process_and_lost_rows_come_back(rows):
    local = BatchedThorPointNav(1, autoreset_mode="DISABLED", **SMALL)
    try:
        many, _ = rows.reset(seed=4, options={"episode": np.array([0, 1])})
        one, _ = local.reset(seed=4, options={"episode": np.array([1])})
        for action in (0, 2, 0):
            assert all(np.array_equal(many[name][1], one[name][0]) for name in one)
            many, one = rows.step(np.array([action, action]))[0], local.step(np.array([action]))[0]
    finally:
        local.close()
    assert None not in rows.pids()
