"""A spatial memory trains under PPO rows, in the slot of the hierarchical memory, from depth and pose of a house."""

import numpy as np
import pytest
from ray.rllib.core import DEFAULT_MODULE_ID

from embodied_mem.agent import AgentConfig
from embodied_mem.perception.encoder import EncoderConfig
from embodied_mem.policies.rllib.config import TrainConfig, build


@pytest.fixture(scope="module")
def local_ray():
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.mark.full
@pytest.mark.parametrize("spatial", ["voxel_map", "grid_map"])
def test_the_spatial_slot_trains_from_depth_and_pose(local_ray, spatial):
    config = TrainConfig(
        env="embodied_mem/House-ObjectNav-v0",
        env_config={"level": 0, "sensors": ["depth", "pose", "intrinsics", "goal"], "width": 12, "height": 12},
        agent=AgentConfig(
            memory="hierarchical",
            memory_config={"out_dim": 32, "episodic_slots": 8, "working_slots": 4, "spatial": spatial},
            encoder=EncoderConfig(out_dim=32, ignore=("depth", "intrinsics")),
        ),
        num_envs=8,
        fragment=32,
        row=16,
        minibatch=64,
    )
    algo = build(config).build_algo()
    start = algo.learner_group.get_weights()[DEFAULT_MODULE_ID]
    for _ in range(2):
        losses = algo.train()["learners"][DEFAULT_MODULE_ID]
        assert np.isfinite([float(losses[key]) for key in ("policy_loss", "vf_loss", "grad_norm")]).all()
    trained = algo.learner_group.get_weights()[DEFAULT_MODULE_ID]
    moved = {key for key in start if not np.array_equal(start[key], trained[key])}
    mine = {key for key in start if ".spatial." in key}
    algo.stop()
    assert mine and mine <= moved
