"""A toy batched environment whose observation is its own step counter, and the same game as a plain Gymnasium one."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from embodied_mem.envs import rng
from embodied_mem.envs.base import BatchedEnv


class CounterEnv(BatchedEnv):
    """Observes [episode, step, draw]; lasts 2 to 5 steps by its key; truncates when the draw is odd."""

    metadata = {"render_modes": ["ansi"]}

    def __init__(self, num_envs=1, **kwargs):
        self.single_observation_space = spaces.Dict({"vector": spaces.Box(-1.0, 1e9, (3,), np.float32)})
        self.single_action_space = spaces.Discrete(3, start=-1)
        super().__init__(num_envs, **kwargs)
        self.buffer = np.zeros((num_envs, 3), np.float32)
        self.last = np.zeros(num_envs, np.int64)
        self.total = np.zeros(num_envs, np.int64)

    def _begin(self, rows, keys):
        self.buffer[rows, 0] = self.episodes[rows]
        self.buffer[rows, 1] = 0
        self.buffer[rows, 2] = rng.integers(keys, 0, 0, 1000)
        self.last[rows] = rng.integers(keys, 1, 2, 6)
        self.total[rows] = 0

    def _advance(self, actions, active):
        assert self.all_active == bool(active.all())
        self.buffer[:, 1] += active
        self.total += np.where(active, actions, 0)
        ended = active & (self.buffer[:, 1] >= self.last)
        odd = self.buffer[:, 2].astype(np.int64) % 2 == 1
        return np.where(active, actions + 0.5, 0).astype(np.float32), ended & ~odd, ended & odd

    def _observe(self):
        return {"vector": self.buffer}

    def _final_info(self):
        return {"success": self.total > 0, "total": self.total}

    def _render(self, row):
        return f"row {row}"

    def privileged(self):
        return {"last": self.last}


class PlainCounter(gymnasium.Env):
    """One environment of Gymnasium's own kind: observes (seed-dependent draw, step), lasts 1 to 4 steps."""

    observation_space = spaces.Box(-1, 10_000, (2,), np.float64)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.draw, self.count = float(self.np_random.integers(10_000)), 0
        self.last = int(self.np_random.integers(1, 5))
        return np.array([self.draw, 0.0]), {}

    def step(self, action):
        self.count += 1
        done = self.count >= self.last
        return np.array([self.draw, self.count]), float(action), done, False, {"seen": self.count} if done else {}


@pytest.fixture
def counter_env():
    return CounterEnv


@pytest.fixture
def plain_counter():
    return PlainCounter
