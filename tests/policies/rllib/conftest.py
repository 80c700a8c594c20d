"""Environments whose observations tell which row, episode and step they belong to, and one Ray per test module."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from embodied_mem.envs.base import BatchedEnv
from embodied_mem.private_ray import start_private_ray

COUNTER = "EmbodiedMemTest/Counter-v0"
FLAKY = "EmbodiedMemTest/Flaky-v0"


class Counter(BatchedEnv):
    """Observation (episode, step) of the row; length 2..9; even keys end by truncation; reward = step + 10 * action."""

    def __init__(self, num_envs=1, **kwargs):
        self.single_observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.single_action_space = spaces.Discrete(3)
        super().__init__(num_envs, **kwargs)
        self.t = np.zeros(num_envs, np.int64)
        self.length = np.ones(num_envs, np.int64)
        self.truncates = np.zeros(num_envs, bool)

    def _begin(self, rows, keys):
        self.t[rows] = 0
        self.length[rows] = 2 + keys % np.uint64(8)
        self.truncates[rows] = (keys >> np.uint64(8)) % np.uint64(2) == 0

    def _advance(self, actions, active):
        self.t += active
        end = active & (self.t >= self.length)
        reward = np.where(active, self.t + 10.0 * actions, 0.0).astype(np.float32)
        return reward, end & ~self.truncates, end & self.truncates

    def _observe(self):
        return np.stack([self.episodes, self.t], axis=1).astype(np.float32)

    def _final_info(self):
        return {"success": self.truncates.copy()}


class Flaky(gymnasium.Env):
    """A scalar environment that fails at every third episode's second step."""

    made = 0
    observation_space = spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self):
        type(self).made += 1
        self.episodes = 0

    def reset(self, *, seed=None, options=None):
        self.episodes += 1
        self.t = 0
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.t += 1
        if self.episodes == 3 and self.t == 2:
            raise RuntimeError("simulator died")
        return np.full(3, self.t / 10, np.float32), 1.0, self.t == 5, False, {}


for name, cls, vector in ((COUNTER, None, Counter), (FLAKY, Flaky, None)):
    if name not in gymnasium.registry:
        gymnasium.register(name, entry_point=cls or Flaky, vector_entry_point=vector, disable_env_checker=True)


@pytest.fixture(scope="module")
def local_ray():
    """A private Ray with two CPUs."""
    import ray

    start_private_ray(num_cpus=2)
    yield ray
    ray.shutdown()
