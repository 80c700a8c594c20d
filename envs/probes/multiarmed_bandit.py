"""MultiarmedBandit: find the arm that pays most often, seeing only whether the last pull paid (POPGym's rules).

Easy, medium, hard: n = 10, 20, 30 arms and T = 200, 400, 600 steps, after which the episode is truncated. Every arm
pays with its own probability, drawn evenly from [0, 1) once per episode. Observation: Discrete(2), whether the last
pull paid, 0 at first; which arm it was, the agent must remember itself. Action: Discrete(n). A pull that pays earns
1 / T, any other costs 1 / T.

Correlation horizon: the whole episode. An oracle that knows the probabilities pulls the best arm: 2 n / (n + 1) - 1 =
0.818, 0.905, 0.935 on average. Best without memory: after a payment pull one fixed arm, else any other arm at random,
which wins at a rate of Y / (1 - X + Y) in the long run, where X and Y are the mean probabilities of the two choices;
it is convex in X (one arm is best) and concave in Y (all the others are best): 0.089, 0.094, 0.095 (test).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from embodied_mem.envs import rng
from embodied_mem.envs.base import BatchedEnv, SingleEnv
from embodied_mem.envs.probes.cards import level

LEVELS = {"easy": (10, 200), "medium": (20, 400), "hard": (30, 600)}
ARM_STREAM, PAY_STREAM = 0, 1


class BatchedMultiarmedBandit(BatchedEnv):
    """N bandits; ``success`` says whether the last arm pulled was the best one, ``accuracy`` how often it was."""

    fresh = True

    def __init__(self, num_envs: int = 1, *, difficulty: str = "easy", **kwargs: Any) -> None:
        """Set up N bandits at ``difficulty`` easy, medium or hard; ``kwargs`` as in `BatchedEnv`."""
        self.arms, self.limit = level(difficulty, LEVELS)
        self.difficulty = difficulty
        self.single_observation_space = spaces.Discrete(2)
        self.single_action_space = spaces.Discrete(self.arms)
        super().__init__(num_envs, **kwargs)
        n = self.num_envs
        self._scale = np.float32(1.0 / self.limit)
        self._chance = np.zeros((n, self.arms))
        self._best = np.zeros(n, dtype=np.int64)
        self._paid = np.zeros(n, dtype=bool)
        self._last_is_best = np.zeros(n, dtype=bool)
        self._pulls_of_best = np.zeros(n, dtype=np.int64)
        self._t = np.zeros(n, dtype=np.int64)
        self._offset = np.arange(n, dtype=np.int64) * self.arms

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        chance = rng.uniform(keys[:, None], ARM_STREAM, np.arange(self.arms))
        self._chance[rows] = chance
        self._best[rows] = chance.argmax(axis=1)
        self._paid[rows] = False
        self._last_is_best[rows] = False
        self._pulls_of_best[rows] = 0
        self._t[rows] = 0

    def _advance(self, actions: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        paid = rng.uniform(self.keys, PAY_STREAM, self._t) < self._chance.reshape(-1).take(self._offset + actions)
        best = actions == self._best
        reward = (paid * np.float32(2.0) - np.float32(1.0)) * self._scale
        self._t += 1 if self.all_active else active
        truncated = self._t == self.limit
        if self.all_active:
            self._paid, self._last_is_best = paid, best
        else:
            np.copyto(self._paid, paid, where=active)
            np.copyto(self._last_is_best, best, where=active)
            best &= active
            reward *= active
            truncated &= active
        self._pulls_of_best += best
        return reward, np.zeros(self.num_envs, dtype=bool), truncated

    def _observe(self) -> np.ndarray:
        return self._paid.astype(np.int64)

    def _final_info(self) -> dict[str, np.ndarray]:
        return {"success": self._last_is_best.copy(), "accuracy": self._pulls_of_best / self.limit}

    def privileged(self) -> dict[str, np.ndarray]:
        """Return each arm's probability to pay, (N, arms) float64."""
        return {"bandit_chance": self._chance.copy()}


class MultiarmedBandit(SingleEnv):
    """N=1 view of `BatchedMultiarmedBandit`."""

    batched = BatchedMultiarmedBandit
