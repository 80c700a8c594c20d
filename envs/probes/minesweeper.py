"""MineSweeper: uncover every clear square, seeing only how many mines lie around the last one (POPGym's rules).

Easy, medium, hard: 4 x 4 squares with 2 mines, 6 x 6 with 6, 8 x 8 with 10. Observation: Discrete, the number of mines
in the 3 x 3 squares around and at the one just clicked, 0 at first; which one it was and what the others showed, the
agent must remember. Action: MultiDiscrete, [row, column]. With L squares without a mine, a new clear one earns 1 / L,
one that was uncovered before costs 0.5 / (L - 2), a mine costs 0.5 + 1 / L and ends the episode, as does the last clear
square. The episode is truncated after L clicks.

Correlation horizon: the whole episode, up to L steps. An oracle that sees the mines earns 1. Best memoryless play known
(test): clicks drawn evenly, -0.401, -0.432 at medium and hard, where a search over distributions that depend on the
observation gained less than 0.003; at easy, different squares after 0, 1 and 2 mines, so that they are less often
clicked twice, -0.184 (even clicks: -0.233; the search found -0.170).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from embodied_mem.envs import rng
from embodied_mem.envs.base import BatchedEnv, SingleEnv
from embodied_mem.envs.probes.cards import level

LEVELS = {"easy": (4, 2), "medium": (6, 6), "hard": (8, 10)}
CLEAR, MINE, VIEWED = range(3)
_MINE_STREAM = 0


class BatchedMineSweeper(BatchedEnv):
    """N fields."""

    fresh = True

    def __init__(self, num_envs: int = 1, *, difficulty: str = "easy", **kwargs: Any) -> None:
        """Set up N fields at ``difficulty`` easy, medium or hard; ``kwargs`` as in `BatchedEnv`."""
        self.size, self.mines = level(difficulty, LEVELS)
        self.difficulty = difficulty
        self.single_observation_space = spaces.Discrete(min(self.mines + 1, 10))
        self.single_action_space = spaces.MultiDiscrete([self.size, self.size])
        super().__init__(num_envs, **kwargs)
        n = self.num_envs
        self.cells = self.size**2
        self.clear = self.limit = self.cells - self.mines
        # Reward by what the clicked square holds: CLEAR, MINE, VIEWED.
        self._rewards = np.array([1 / self.clear, -0.5 - 1 / self.clear, -0.5 / (self.clear - 2)], dtype=np.float32)
        self._field = np.zeros((n, self.cells), dtype=np.int8)
        self._around = np.zeros((n, self.cells), dtype=np.int8)
        self._shown = np.zeros(n, dtype=np.int64)
        self._viewed = np.zeros(n, dtype=np.int64)
        self._t = np.zeros(n, dtype=np.int64)
        self._offset = np.arange(n, dtype=np.int64) * self.cells

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        m, size = len(rows), self.size
        field = (rng.permutation(keys, _MINE_STREAM, self.cells) < self.mines).astype(np.int8)
        padded = np.zeros((m, size + 2, size + 2), dtype=np.int8)
        padded[:, 1:-1, 1:-1] = field.reshape(m, size, size)
        # Sums over three rows, then over three columns.
        bands = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
        self._around[rows] = (bands[:, :, :-2] + bands[:, :, 1:-1] + bands[:, :, 2:]).reshape(m, -1)
        self._field[rows] = field
        self._shown[rows] = 0
        self._viewed[rows] = 0
        self._t[rows] = 0

    def _advance(self, actions: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        place = self._offset + actions[:, 0] * self.size + actions[:, 1]
        field = self._field.reshape(-1)
        found, shown = field[place], self._around.reshape(-1)[place]
        reward, mine, new = self._rewards[found], found == MINE, found == CLEAR
        if self.all_active:
            self._shown = shown.astype(np.int64)
            self._t += 1
        else:
            mine &= active
            new &= active
            reward *= active
            np.copyto(self._shown, shown, where=active)
            self._t += active
        field[place[new]] = VIEWED
        self._viewed += new
        terminated = mine | (self._viewed == self.clear)
        truncated = (self._t == self.limit) & ~terminated
        if not self.all_active:
            terminated &= active
            truncated &= active
        return reward, terminated, truncated

    def _observe(self) -> np.ndarray:
        return self._shown.copy()

    def _final_info(self) -> dict[str, np.ndarray]:
        return {"success": self._viewed == self.clear, "accuracy": self._viewed / self.clear}

    def privileged(self) -> dict[str, np.ndarray]:
        """Return what every square holds, (N, size, size) int8: 0 clear, 1 mine, 2 uncovered."""
        return {"minesweeper_field": self._field.reshape(-1, self.size, self.size).copy()}


class MineSweeper(SingleEnv):
    """N=1 view of `BatchedMineSweeper`."""

    batched = BatchedMineSweeper
