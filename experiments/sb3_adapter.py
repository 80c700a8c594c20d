"""What sb3-contrib needs to train on our batched environments: a VecEnv and a feature layer of the bench's width."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from embodied_mem.envs.make import make_vec


class VectorAdapter(VecEnv):
    """A batched environment with a Discrete observation as a stable-baselines3 VecEnv of one-hot vectors."""

    def __init__(self, env_id: str, num_envs: int) -> None:
        self.vector = make_vec(env_id, num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
        size = spaces.utils.flatdim(self.vector.single_observation_space)
        self._codes = np.eye(size, dtype=np.float32)
        super().__init__(num_envs, spaces.Box(0.0, 1.0, (size,), np.float32), self.vector.single_action_space)

    def reset(self) -> np.ndarray:
        """Start all rows."""
        return self._codes[self.vector.reset(seed=0)[0]]

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Step all rows."""
        obs, reward, terminated, truncated, info = self.vector.step(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for row in np.flatnonzero(terminated | truncated):
            infos[row] = {
                "terminal_observation": self._codes[info["final_obs"][row]],
                "TimeLimit.truncated": bool(truncated[row]),
            }
        return self._codes[obs], reward, terminated | truncated, infos

    def close(self) -> None:
        """Close the environment."""
        self.vector.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute once per row (the rows share one environment)."""
        return [getattr(self.vector, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the environment."""
        setattr(self.vector, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Call a method of the environment once and return its result per row."""
        return [getattr(self.vector, method_name)(*args, **kwargs)] * self.num_envs

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """Return False per row."""
        return [False] * self.num_envs


class Features(BaseFeaturesExtractor):
    """One tanh layer of 64 units."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, 64)
        self.layer = nn.Sequential(nn.Linear(observation_space.shape[0], 64), nn.Tanh())

    def forward(self, observations: Tensor) -> Tensor:
        """Return (B, 64) features of (B, F) observations."""
        return self.layer(observations)
