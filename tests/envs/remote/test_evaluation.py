"""An evaluation on a remote environment is the evaluation on the environment."""

import numpy as np
import pytest

from embodied_mem.envs.remote.server import env_server
from embodied_mem.evaluation import evaluate
from embodied_mem.evaluation.suite import Suite, Task

pytest.importorskip("websockets")


def test_same_episodes_same_numbers():
    def play(env, **kwargs):
        suite = Suite("remote-tests", "t-maze", (Task(env, "probe", kwargs=kwargs),), episodes=10, num_envs=4)
        return evaluate(lambda obs: (3 * obs[:, 0] + 5 * obs.sum(-1)).astype(np.int64) % 4, suite)

    with env_server("TMaze-v0", {"length": 5}, port=0, rows=4) as server:
        there, here = play(f"remote:{server.address}"), play("TMaze-v0", length=5)
    assert there["metrics"] == here["metrics"] and there["env_steps"] == here["env_steps"]
    assert here["metrics"]["return"]["n"] == 10
