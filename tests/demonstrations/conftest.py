"""An environment with pictures, text and failures, and agents that succeed on some of its episodes."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from embodied_mem.demonstrations.recorder import Recording, record
from embodied_mem.envs import rng
from embodied_mem.envs.base import BatchedEnv
from embodied_mem.spaces import encode_text

ENV = "DemonstrationsTest-v0"


class Pointing(BatchedEnv):
    """Point at a number for a few steps; every episode has its own length, colour, text and target."""

    def __init__(self, num_envs=1, *, pictures=True, tells=True, scalar=False, **kwargs):
        self.pictures, self.tells = pictures, tells
        named = {
            "vector": spaces.Box(-np.inf, np.inf, (3,), np.float32),
            "goal": spaces.Box(-1.0, 1.0, (1,), np.float32),
        }
        named["instruction"] = spaces.Box(0, 255, (32,), np.uint8)
        if pictures:
            named["rgb"] = spaces.Box(0, 255, (16, 24, 3), np.uint8)
        self.single_observation_space = spaces.Dict(named)
        self.single_action_space = spaces.Discrete(5) if scalar else spaces.Box(-1.0, 1.0, (2,), np.float32)
        super().__init__(num_envs, **kwargs)
        self.metadata["render_fps"] = 20
        n = self.num_envs
        self.target, self.t, self.horizon = np.zeros(n), np.zeros(n, np.int64), np.zeros(n, np.int64)
        self.error, self.code = np.zeros(n), np.zeros(n, np.int64)

    def _begin(self, rows, keys):
        self.code[rows] = rng.integers(keys, 0, 0, 3)
        self.target[rows] = rng.uniform(keys, 1) - 0.5
        self.horizon[rows] = 3 + rng.integers(keys, 2, 0, 5)
        self.t[rows], self.error[rows] = 0, 0.0

    def _advance(self, actions, active):
        first = actions if actions.ndim == 1 else actions[:, 0]
        self.error = np.where(active, np.maximum(self.error, np.abs(first - self.target)), self.error)
        self.t += active
        return (
            (-np.abs(first - self.target)).astype(np.float32) * active,
            active & (self.t >= self.horizon),
            ~active & False,
        )

    def _observe(self):
        n = self.num_envs
        seen = {
            "vector": np.stack([self.target, self.t, self.code], axis=1).astype(np.float32),
            "goal": self.target[:, None].astype(np.float32),
            "instruction": np.stack([encode_text(f"point at colour {code}", 32) for code in self.code]),
        }
        if self.pictures:
            picture = np.zeros((n, 16, 24, 3), np.uint8)
            picture[np.arange(n), :, :, self.code] = 200
            picture[np.arange(n), np.minimum(self.t, 15)] = 20
            seen["rgb"] = picture
        return seen

    def _final_info(self):
        return {"success": self.error < 0.1} if self.tells else {}

    def privileged(self):
        return {"target": self.target.copy()}


class Pointer:
    """Points right, but wrong where the target is above ``fails``."""

    needs_privileged = True

    def __init__(self, fails=1.0):
        self.fails = fails

    def initial_state(self, n, seed=None):
        return {"seen": np.zeros(n, np.int64)}

    def act(self, obs, state, reset, privileged=None):
        state = {"seen": np.where(reset, 0, state["seen"]) + 1}
        target = privileged["target"]
        first = np.where(target > self.fails, -1.0, target)
        # The second number counts the steps since the reset that the agent was told of.
        return np.stack([first, state["seen"] / 100.0], axis=1).astype(np.float32), state, {}


@pytest.fixture(autouse=True)
def registered():
    gymnasium.register(ENV, None, vector_entry_point=Pointing)
    yield
    gymnasium.registry.pop(ENV)


@pytest.fixture
def recorded(tmp_path):
    """Record with defaults of the tests; keywords go to `Recording`, ``fails`` to the agent."""

    def make(name="set-v0", fails=1.0, resume=False, num_envs=None, agent=None, **kwargs):
        settings = {"env": ENV, "agent": "pointer", "episodes": 7, "per_file": 3, "seed": 4, **kwargs}
        out = tmp_path / name
        agent = agent or Pointer(fails)
        return out, record(Recording(**settings), lambda env: agent, out, resume=resume, num_envs=num_envs)

    return make
