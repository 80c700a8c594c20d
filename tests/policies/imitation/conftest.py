"""A small environment with an expert: two numbers are shown at first, and must be told after a delay."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from embodied_mem import registry
from embodied_mem.envs import rng
from embodied_mem.envs.base import BatchedEnv, SingleEnv
from embodied_mem.spaces import encode_text

ENV = "embodied_mem/ToldLater-v0"


class BatchedToldLater(BatchedEnv):
    """Observation: cue (at first only) and two phases. Episodes last 4 to 6 steps; the last action counts."""

    metadata = {"render_modes": []}
    single_observation_space = spaces.Dict(
        {
            "vector": spaces.Box(-np.inf, np.inf, (3,), np.float32),
            "instruction": spaces.Box(0, 255, (16,), np.uint8),
        }
    )
    single_action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, num_envs=1, **kwargs):
        super().__init__(num_envs, **kwargs)
        self.cue, self.time, self.length = (np.zeros(num_envs, np.int64) for _ in range(3))
        self._won = np.zeros(num_envs, bool)

    def _begin(self, rows, keys):
        self.cue[rows], self.time[rows] = 2 * rng.integers(keys, 0, 0, 2) - 1, 0
        self.length[rows] = 4 + rng.integers(keys, 1, 0, 3)

    def _advance(self, actions, active):
        self.time += active
        ended = active & (self.time >= self.length)
        self._won = ended & (np.sign(actions[:, 0]) == self.cue) & (np.abs(actions[:, 1]) < 0.3)
        return self._won.astype(np.float32), ended, np.zeros_like(ended)

    def _observe(self):
        last = self.time >= self.length - 1
        vector = np.stack([self.cue * (self.time == 0), self.time == 0, last], 1).astype(np.float32)
        return {"vector": vector, "instruction": np.tile(encode_text("tell the cue", 16), (self.num_envs, 1))}

    def _final_info(self):
        return {"success": self._won.copy()}

    def privileged(self):
        return {"cue": self.cue.copy()}


class ToldLater(SingleEnv):
    """N=1 view."""

    batched = BatchedToldLater


class Teller:
    """Always tells the cue."""

    needs_privileged = True

    def initial_state(self, n, seed=None):
        return {}

    def act(self, obs, state, reset, privileged=None):
        cue = privileged["cue"].astype(np.float32)
        return np.stack([0.5 * cue, 0.0 * cue], 1), state, {}


@pytest.fixture(autouse=True)
def told_later():
    gymnasium.register(ENV, entry_point=ToldLater, vector_entry_point=BatchedToldLater)
    with registry.scope("agent"):
        registry.register("agent", "teller", expert_for=(ENV,))(Teller)
        yield ENV
    gymnasium.registry.pop(ENV)


@pytest.fixture
def small():
    """Flat keys of a run that takes a second."""
    return {
        "env": ENV,
        "agent.perception": {"tokens": 2, "width": 8, "cognitive": 16, "hidden": 32, "layers": 1, "text": 4},
        "agent.memory_config": {"slots": 3},
        "agent.expert": {"chunk": 2, "execute": 1, "width": 16, "layers": 1, "heads": 2, "draws": 2},
        "agent.expert.schedule": {"train_steps": 20, "steps": 5},
        "demos": {"episodes": 24, "num_envs": 8, "noisy": [0, 1]},
        "batch": {"rows": 8},
        "updates": 12,
        "report_every": 3,
        "rollouts": 8,
        "log.tensorboard": False,
    }
