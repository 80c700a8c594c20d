import numpy as np
import pytest
import torch

from embodied_mem.agent import AgentConfig
from embodied_mem.policies.rllib.config import TrainConfig, build
from embodied_mem.policies.rllib.runner import BatchedRunner

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
MEMORIES = ["none", "lstm", "gru", "min_gru", "gated_delta", "episodic", "hierarchical"]


@pytest.fixture
def forbid_sync():
    """Turn any wait for the device into an error inside the block."""

    class Forbid:
        def __enter__(self):
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode("error")

        def __exit__(self, *_):
            torch.cuda.set_sync_debug_mode("default")

    return Forbid()


@pytest.mark.parametrize("memory", MEMORIES)
def test_the_rollout_step_never_waits_for_the_device(memory, forbid_sync):
    config = build(TrainConfig(env="RepeatPrevious-v0", device="cuda", num_envs=8, agent=AgentConfig(memory=memory)))
    runner = BatchedRunner(config=config)
    runner.sample()
    with torch.inference_mode():
        for _ in range(3):
            with forbid_sync:
                obs, reset = runner._inputs()
                _, _, action = runner._policy(obs, reset, True)
            runner._step_env(action)


def test_twenty_iterations_on_the_gpu_and_an_evaluation(local_ray):
    algo = build(TrainConfig(env="RepeatPrevious-v0", device="cuda", gamma=0.0, lr=3e-3, num_envs=64)).build_algo()
    runner, learner = algo.env_runner, algo.learner_group._learner
    assert next(runner.module.parameters()).is_cuda and next(learner.module.parameters()).is_cuda
    assert runner.sample()[0].columns["obs"]["vector"].is_cuda, "batches stay on the shared device"
    for _ in range(20):
        result = algo.train()
    assert np.isfinite(result["learners"]["default_policy"]["policy_loss"])
    assert algo.evaluate()["env_runners"]["num_episodes"] == 10
    algo.stop()
