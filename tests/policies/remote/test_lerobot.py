"""LeRobot policies as agents, against a package of that name with the calls that the agent uses."""

import json
import sys
import types
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from embodied_mem.errors import UsageError
from embodied_mem.policies.remote.lerobot import LeRobotAgent
from embodied_mem.spaces import encode_text

SHOWN = spaces.Dict(
    {
        "rgb": spaces.Box(0, 255, (6, 8, 3), np.uint8),
        "vector": spaces.Box(-9, 9, (2,), np.float32),
        "instruction": spaces.Box(0, 255, (16,), np.uint8),
    }
)
ACTIONS = spaces.Box(-10, 10, (2,), np.float32)


class Policy(torch.nn.Module):
    """Chunks of three actions: the normalised state plus the step."""

    def __init__(self, config):
        super().__init__()
        self.config, self.batches = config, []

    @classmethod
    def from_pretrained(cls, path, config):
        return cls(config)

    def predict_action_chunk(self, batch):
        self.batches.append(batch)
        return batch["observation.state"][:, None] + torch.arange(3.0)[None, :, None]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    def feature(*shape):
        return SimpleNamespace(shape=shape)

    def read(path):
        said = json.loads((tmp_path / "config.json").read_text())
        inputs = {"observation.images.top": feature(3, 6, 8), "observation.state": feature(2)}
        return SimpleNamespace(type="fake", input_features=inputs, **said)

    def processors(config, pretrained_path, preprocessor_overrides):
        assert preprocessor_overrides == {"device_processor": {"device": "cpu"}}

        def before(batch):
            return {**batch, "observation.state": batch["observation.state"] / 2}

        def after(actions):
            assert actions.dim() == 2
            return actions * 10

        return before, after

    modules = {
        "lerobot": {},
        "lerobot.configs": {},
        "lerobot.configs.policies": {"PreTrainedConfig": SimpleNamespace(from_pretrained=read)},
        "lerobot.policies": {},
        "lerobot.policies.factory": {
            "get_policy_class": {"fake": Policy}.__getitem__,
            "make_pre_post_processors": processors,
        },
    }
    for name, attributes in modules.items():
        module = types.ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)

    def write(**said):
        (tmp_path / "config.json").write_text(json.dumps({"n_obs_steps": 1, **said}))
        return str(tmp_path)

    return write


def observed(*states):
    return {
        "rgb": np.full((len(states), 6, 8, 3), 255, np.uint8),
        "vector": np.array([[state, 0] for state in states], np.float32),
        "instruction": np.stack([encode_text("go", 16)] * len(states)),
    }


def test_chunks_pass_the_processors_and_rows_are_batched(folder):
    agent = LeRobotAgent(f"{folder()}?execute=2&device=cpu", SHOWN, ACTIONS)
    state = agent.initial_state(3)
    one, state, _ = agent.act(observed(0.2, 0.4, 0.6), state, np.ones(3, bool))
    assert np.allclose(one[:, 0], [1, 2, 3])
    two, state, _ = agent.act(observed(9, 9, 9), state, np.array([False, True, False]))
    # Rows 0 and 2 play on; row 1 opens an episode and plans anew. Everything is clipped to the action space.
    assert np.allclose(two[:, 0], [10, 10, 10]) and np.allclose(two[:, 1], [10, 0, 10])
    batches = agent.policy.batches
    assert [len(batch["observation.state"]) for batch in batches] == [3, 1]
    picture = batches[0]["observation.images.top"]
    assert picture.shape == (3, 3, 6, 8) and picture.dtype == torch.float32 and float(picture.max()) == 1.0
    assert batches[0]["task"] == ["go"] * 3


def test_names_are_options_and_what_is_missing_is_named(folder):
    shown = spaces.Dict({"wrist": SHOWN["rgb"], "vector": SHOWN["vector"]})
    path = folder()
    with pytest.raises(UsageError, match="reads observation.images.top, the environment shows"):
        LeRobotAgent(f"{path}?device=cpu", shown, ACTIONS)
    agent = LeRobotAgent(f"{path}?device=cpu&wrist=observation.images.top&prompt=stop", shown, ACTIONS)
    obs = observed(0.0)
    agent.act({"wrist": obs["rgb"], "vector": obs["vector"]}, agent.initial_state(1), np.ones(1, bool))
    assert agent.policy.batches[0]["task"] == ["stop"]
    small = spaces.Dict({**SHOWN.spaces, "rgb": spaces.Box(0, 255, (4, 4, 3), np.uint8)})
    with pytest.raises(UsageError, match=r"of shape \(3, 6, 8\), the environment shows \(3, 4, 4\)"):
        LeRobotAgent(f"{path}?device=cpu", small, ACTIONS)


@pytest.mark.parametrize("said", [{"n_obs_steps": 2}, {"temporal_ensemble_coeff": 0.01}])
def test_policies_with_a_memory_of_their_own_are_refused(folder, said):
    with pytest.raises(UsageError, match="cannot be reset row by row"):
        LeRobotAgent(f"{folder(**said)}?device=cpu", SHOWN, ACTIONS)


def test_missing_folder_and_package(folder, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="expected a LeRobot policy"):
        LeRobotAgent(f"{tmp_path}/nowhere?device=cpu", SHOWN, ACTIONS)
    monkeypatch.setitem(sys.modules, "lerobot.policies.factory", None)
    with pytest.raises(UsageError, match="needs the package lerobot"):
        LeRobotAgent(f"{folder()}?device=cpu", SHOWN, ACTIONS)
