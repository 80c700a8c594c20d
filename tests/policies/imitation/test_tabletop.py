"""The preset on the robot arm: demonstrations by key frames, and (long form) what it reaches."""

import importlib.util

import pytest

from embodied_mem.experiments.presets_loader import load_preset
from embodied_mem.experiments.training import train
from embodied_mem.policies.imitation.demonstrations import DemonstrationConfig, record
from embodied_mem.policies.imitation.trainer import build_policy


@pytest.fixture(autouse=True)
def packages():
    for name in ("mujoco", "gymnasium_robotics"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name} (envs-mujoco)")


def test_experts_show_key_frames():
    config = load_preset("memoryvla-tabletop").config.train
    shown = record(config.env, config.env_config, DemonstrationConfig(4, num_envs=4))
    for item in shown:
        assert item.success and 8 <= len(item) <= 13 and "cup" in item.instruction
        assert item.state.shape == (len(item), 31) and item.actions.shape == (len(item), 7)
    policy = build_policy(load_preset("memoryvla-tabletop").config)
    assert sorted(policy.keys) == ["instruction", "vector"]


@pytest.mark.full
@pytest.mark.parametrize(("memory", "solves"), [("perceptual_cognitive_bank", True), ("none", False)])
def test_the_preset_remembers_the_cup(tmp_path, memory, solves):
    result = train("memoryvla-tabletop", out=tmp_path / "run", **{"agent.memory": memory, "rollouts": 100})
    rate = result["metrics"]["success"]["mean"]
    assert rate > 0.85 if solves else rate < 0.5
