"""Labyrinths: explore a maze, or escape from it, seeing the squares around (POPGym's rules).

Easy, medium, hard: mazes of 5 x 5, 7 x 7, 9 x 9 cells with walls between them, on grids of 11, 15, 19 squares a side,
carved by hunt-and-kill random walks into a tree. The agent starts in an outer wall, on a square of its own kind.
Observation: MultiDiscrete, the 3 x 3 squares around the agent (0 free, 1 wall, 2 start, 3 goal), then the last action
(4 at first). At the upper or left rim the 3 x 3 view holds the agent in its first row or column, and walls fill the
rest, as in POPGym. Action: Discrete(4), left, right, up, down; a step into a wall changes nothing.

- ``LabyrinthExplore``: a new square earns 1 / F, F the number of free squares, any other step costs 1 / 1024. It
  terminates when all squares have been seen.
- ``LabyrinthEscape``: every step costs 1 / 1024; the goal, in the wall opposite to the start, earns 1 and terminates.

Both are truncated after 1023 steps. POPGym's maze generator gives up hunting after G * G tries and so leaves a cell
walled in now and then; here every cell is reached.

Correlation horizon: none (0 steps): the last action, which the observation holds, tells the heading, and with one hand
on the wall the whole maze is walked. Such play, the best memoryless one known, earns 0.968, 0.925, 0.864 exploring
and 0.951, 0.903, 0.841 escaping; the oracle, which sees the maze, 0.982, 0.957, 0.919 and 0.979, 0.966, 0.949 (test).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from gymnasium import spaces

from embodied_mem.envs.base import BatchedEnv, SingleEnv
from embodied_mem.envs.probes._labyrinth_kernels import carve
from embodied_mem.envs.probes.cards import level

LEVELS = {"easy": 5, "medium": 7, "hard": 9}
LENGTH = 1024
FREE, WALL, START, GOAL = range(4)
LEFT, RIGHT, UP, DOWN, NO_ACTION = range(5)
_DY = np.array([0, 0, -1, 1], dtype=np.int64)
_DX = np.array([-1, 1, 0, 0], dtype=np.int64)


class _BatchedLabyrinth(BatchedEnv, ABC):
    """N mazes; a subclass says what is rewarded and when an episode terminates."""

    fresh = True
    has_goal = False

    def __init__(self, num_envs: int, difficulty: str, /, **kwargs: Any) -> None:
        """Set up N mazes at ``difficulty``."""
        self.size = 2 * level(difficulty, LEVELS) + 1
        self.difficulty = difficulty
        self.single_observation_space = spaces.MultiDiscrete([5] * 10)
        self.single_action_space = spaces.Discrete(4)
        super().__init__(num_envs, **kwargs)
        n = self.num_envs
        # One row and one column of walls behind the grid, so that views at the far rims need no condition.
        self._width = self.size + 1
        self._grid = np.full((n, self._width, self._width), WALL, dtype=np.int8)
        self._explored = np.zeros((n, self._width, self._width), dtype=bool)
        self._y = np.zeros(n, dtype=np.int64)
        self._x = np.zeros(n, dtype=np.int64)
        self._t = np.zeros(n, dtype=np.int64)
        self._last = np.full(n, NO_ACTION, dtype=np.int64)
        self._free = np.zeros(n, dtype=np.int64)
        self._found = np.zeros(n, dtype=np.int64)
        self._offset = np.arange(n, dtype=np.int64) * self._width**2
        self._view = (np.arange(3)[:, None] * self._width + np.arange(3)).reshape(-1)

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        m = len(rows)
        grids = np.empty((m, self.size, self.size), dtype=np.int8)
        starts, ends = np.empty((m, 2), dtype=np.int64), np.empty((m, 2), dtype=np.int64)
        carve(keys, grids, starts, ends)
        every = np.arange(m)
        self._free[rows] = (grids == FREE).sum(axis=(1, 2))
        grids[every, starts[:, 0], starts[:, 1]] = START
        if self.has_goal:
            grids[every, ends[:, 0], ends[:, 1]] = GOAL
        self._grid[rows, : self.size, : self.size] = grids
        self._y[rows], self._x[rows] = starts[:, 0], starts[:, 1]
        self._explored[rows] = False
        self._explored[rows, starts[:, 0], starts[:, 1]] = True
        self._last[rows] = NO_ACTION
        self._found[rows] = 0
        self._t[rows] = 0

    def _move(self, actions: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Move the active rows; return what each stands on now (N,) int8 and whether it is there first (N,) bool."""
        y = np.clip(self._y + _DY[actions], 0, self.size - 1)
        x = np.clip(self._x + _DX[actions], 0, self.size - 1)
        stays = self._grid.reshape(-1)[self._offset + y * self._width + x] == WALL
        if not self.all_active:
            stays |= ~active
        self._y, self._x = np.where(stays, self._y, y), np.where(stays, self._x, x)
        place = self._offset + self._y * self._width + self._x
        explored = self._explored.reshape(-1)
        new = ~explored[place]
        explored[place] = True
        self._found += new
        self._last = actions.astype(np.int64) if self.all_active else np.where(active, actions, self._last)
        self._t += 1 if self.all_active else active
        return self._grid.reshape(-1)[place], new

    @abstractmethod
    def _reward(self, square: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return reward (N,) and whether the episode terminates (N,), given what `_move` returned."""

    def _advance(self, actions: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        reward, terminated = self._reward(*self._move(actions, active))
        truncated = self._t == LENGTH - 1
        reward = reward.astype(np.float32)
        if not self.all_active:
            reward *= active
            terminated &= active
            truncated &= active
        return reward, terminated, truncated

    def _observe(self) -> np.ndarray:
        observed = np.empty((self.num_envs, 10), dtype=np.int64)
        corner = self._offset + np.maximum(self._y - 1, 0) * self._width + np.maximum(self._x - 1, 0)
        observed[:, :9] = self._grid.reshape(-1)[corner[:, None] + self._view]
        observed[:, 9] = self._last
        rim = np.flatnonzero((self._y == 0) | (self._x == 0))
        if rim.size:
            view = observed[rim, :9].reshape(-1, 3, 3)
            view[self._y[rim] == 0, 2] = WALL
            view[self._x[rim] == 0, :, 2] = WALL
            observed[rim, :9] = view.reshape(-1, 9)
        return observed

    def privileged(self) -> dict[str, np.ndarray]:
        """Return the grid (N, G, G) int8, where the agent was (N, G, G) bool, and its square [row, column] (N, 2)."""
        return {
            "labyrinth_grid": self._grid[:, : self.size, : self.size].copy(),
            "labyrinth_explored": self._explored[:, : self.size, : self.size].copy(),
            "labyrinth_place": np.stack((self._y, self._x), axis=1),
        }


class BatchedLabyrinthExplore(_BatchedLabyrinth):
    """N mazes to be explored."""

    def __init__(self, num_envs: int = 1, *, difficulty: str = "easy", **kwargs: Any) -> None:
        """Set up N mazes at ``difficulty`` easy, medium or hard; ``kwargs`` as in `BatchedEnv`."""
        super().__init__(num_envs, difficulty, **kwargs)

    def _reward(self, square: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.where(new, 1.0 / self._free, -1.0 / LENGTH), self._found == self._free

    def _final_info(self) -> dict[str, np.ndarray]:
        return {"success": self._found == self._free, "accuracy": self._found / self._free}


class BatchedLabyrinthEscape(_BatchedLabyrinth):
    """N mazes to be left by the goal."""

    has_goal = True

    def __init__(self, num_envs: int = 1, *, difficulty: str = "easy", **kwargs: Any) -> None:
        """Set up N mazes at ``difficulty`` easy, medium or hard; ``kwargs`` as in `BatchedEnv`."""
        super().__init__(num_envs, difficulty, **kwargs)
        self._escaped = np.zeros(self.num_envs, dtype=bool)

    def _reward(self, square: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self._escaped = square == GOAL
        return self._escaped - 1.0 / LENGTH, self._escaped.copy()

    def _final_info(self) -> dict[str, np.ndarray]:
        return {"success": self._escaped.copy()}


class LabyrinthExplore(SingleEnv):
    """N=1 view of `BatchedLabyrinthExplore`."""

    batched = BatchedLabyrinthExplore


class LabyrinthEscape(SingleEnv):
    """N=1 view of `BatchedLabyrinthEscape`."""

    batched = BatchedLabyrinthEscape
