"""PPO through RLlib with memories that read more than features: a map from depth and pose, and a text reader."""

import numpy as np
import pytest
import torch

from embodied_mem.agent import load_agent
from embodied_mem.errors import UsageError
from embodied_mem.experiments.training import train

pytestmark = pytest.mark.usefixtures("local_ray")
FEW = {"num_envs": 4, "fragment": 16, "row": 8, "minibatch": 32, "epochs": 1, "log.tensorboard": False}


@pytest.mark.parametrize("spatial", ["voxel_map", pytest.param("grid_map", marks=pytest.mark.full)])
def test_a_map_in_the_spatial_slot_trains_from_depth_and_pose(tmp_path, spatial):
    changes = {"agent.memory_config.spatial": spatial}
    if spatial == "grid_map":
        changes["agent.memory_config.spatial_config"] = {"size": 12, "channels": 4, "view": 5, "rows": 2, "columns": 2}
    small = {**FEW, "env_config.houses": 4, "anneal_steps": 1000, "stop.env_steps": 128, "agent.encoder.out_dim": 16}
    result = train("house-spatial", out=tmp_path / "run", **small, **changes)
    assert result["env_steps"] >= 128 and result["metrics"]["length_mean"]["n"] in (0, 1)
    agent = load_agent(tmp_path / "run")
    module = agent.module
    before = {key: value.clone() for key, value in module.state_dict().items()}
    assert set(module.memory.needs) == {"depth", "pose", "intrinsics"}
    trained = [key for key in before if key.startswith("memory.parts.spatial") or "spatial" in key]
    assert trained, "the spatial memory is part of the exported agent"
    space = module.observation_space
    obs = {key: np.stack([box.sample() for _ in range(3)]) for key, box in space.spaces.items()}
    actions, state, _ = agent.act(obs, agent.initial_state(3), np.ones(3, bool))
    assert actions.shape == (3,) and any(key.startswith("spatial/") for key in state)


def test_training_goes_on_from_the_weights_of_an_agent(tmp_path, tiny):
    first = {"agent.encoder.out_dim": 8, "stop.iterations": 1}
    train(tiny, out=tmp_path / "one", **first)
    learned = load_agent(tmp_path / "one").module.state_dict()
    train(tiny, out=tmp_path / "two", init=str(tmp_path / "one"), lr=1e-9, **first)
    after = load_agent(tmp_path / "two").module.state_dict()
    assert all(torch.allclose(value, after[key], atol=1e-6) for key, value in learned.items())
    with pytest.raises(UsageError, match="same agent"):
        train(tiny, out=tmp_path / "three", init=str(tmp_path / "one"), **{**first, "agent.memory_config.out_dim": 4})


@pytest.mark.full
def test_a_street_agent_is_fine_tuned_by_ppo(tmp_path):
    reader = {"width": 16, "embedding": 8, "heads": 2, "hops": 1}
    agent = {"agent.reader": reader, "agent.encoder.out_dim": 16, "agent.memory_config.out_dim": 24}
    town = {"env_config": {"sensors": ["vector", "instruction"]}}
    lessons = {"lessons.routes": 40, "lessons.texts": 1, "updates": 20, "rows": 8, "rollouts": 8}
    train("street", out=tmp_path / "taught", **agent, **town, **lessons)
    played = {"env_config": {**town["env_config"], "language": "varied", "items": 20, "shaping": 0.01}}
    taught = str(tmp_path / "taught")
    result = train(
        "street-ppo", out=tmp_path / "tuned", init=taught, **FEW, **agent, **played, **{"stop.env_steps": 256}
    )
    assert result["env_steps"] >= 256 and load_agent(tmp_path / "tuned").module.reader is not None
