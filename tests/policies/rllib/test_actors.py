import time

import numpy as np
import pytest
from ray.rllib.core import DEFAULT_MODULE_ID

from embodied_mem.agent import AgentConfig
from embodied_mem.policies.rllib.config import TrainConfig, build

SMALL = {"num_envs": 8, "fragment": 32, "row": 16, "minibatch": 128, "gamma": 0.9, "agent": AgentConfig(memory="gru")}


def algorithm(**options):
    return build(TrainConfig(**(SMALL | options))).build_algo()


def lifetime(result):
    return result["env_runners"]["num_env_steps_sampled_lifetime"]


def test_a_killed_runner_is_replaced_and_training_goes_on(local_ray):
    algo = algorithm(num_env_runners=2)
    group = algo.env_runner_group
    algo.train()
    seeds = group.foreach_env_runner(lambda runner: runner._sampler.initial_seed(), local_env_runner=False)
    assert len(set(seeds)) == 2, "runners draw differently"
    victim = group._worker_manager.actors()[group.healthy_worker_ids()[0]]
    local_ray.kill(victim, no_restart=False)
    before = lifetime(algo.train())
    deadline = time.monotonic() + 60
    while group.num_healthy_remote_workers() < 2 and time.monotonic() < deadline:
        result = algo.train()
    result = algo.train()
    assert group.num_healthy_remote_workers() == 2, "the killed runner is back"
    assert lifetime(result) > before
    assert np.isfinite(result["learners"][DEFAULT_MODULE_ID]["policy_loss"])
    learned = algo.learner_group.get_weights()[DEFAULT_MODULE_ID]
    time.sleep(0.5)
    for held in group.foreach_env_runner(lambda runner: runner.module.get_state(), local_env_runner=False):
        assert all(np.array_equal(held[key], learned[key]) for key in held), "both runners act with the new weights"
    algo.stop()


@pytest.mark.full
def test_two_learners_stay_equal(local_ray):
    algo = algorithm(num_learners=2)
    for _ in range(2):
        result = algo.train()
    states = [
        found.get()["rl_module"][DEFAULT_MODULE_ID]
        for found in algo.learner_group.foreach_learner(lambda learner: learner.get_state())
    ]
    assert len(states) == 2
    assert all(np.array_equal(states[0][key], states[1][key]) for key in states[0])
    assert np.isfinite(result["learners"][DEFAULT_MODULE_ID]["policy_loss"])
    algo.stop()


@pytest.mark.full
@pytest.mark.parametrize("name", ["impala", "appo"])
def test_asynchronous_runner_actors(local_ray, name):
    algo = algorithm(algorithm=name, num_env_runners=2)
    deadline, steps = time.monotonic() + 60, 0
    while steps < 2000 and time.monotonic() < deadline:
        result = algo.train()
        steps = result["env_runners"].get("num_env_steps_sampled_lifetime", 0)
    assert steps >= 2000
    assert np.isfinite(result["learners"][DEFAULT_MODULE_ID]["policy_loss"])
    algo.stop()
