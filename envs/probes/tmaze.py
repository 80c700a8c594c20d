"""T-Maze: a cue at the start of a corridor says which arm to take at its end (Bakker 2001, as set up by Ni et al.
2023).

Cells lie on a line: oracle cell x = 0, start cell x = o, junction x = o + length; two arms leave the junction at y =
+-1. ``passive`` starts on the oracle cell (o = 0), ``active`` one step to its right (o = 1): there the agent must
first go left.

Observation: (2,) float32 = [1 at the junction and in the arms else 0, cue + y]. The cue, +1 or -1, shows once, at the
first visit of the oracle cell; y is the arm after the choice. Nothing else in it depends on position, time or length.
Actions: 0 right, 1 up (+1), 2 left, 3 down (-1); a move into a wall changes nothing. Horizon: T = length + 2 o + 1
steps, the fewest that reach an arm, plus ``slack``. The episode terminates in an arm or at the horizon (which is part
of the task, so it is no truncation). Reward: at the end 1 if in the arm of the cue, else 0; before it -lag_penalty /
(T - 1) at each step t after which x < t - o, which pays for walking straight.

Correlation horizon: length + o steps. Best return 1. Best without memory 0.5: go right, then guess (start and
corridor cells look alike, so in the active variant a memoryless agent cannot fetch the cue first).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from embodied_mem.envs import rng
from embodied_mem.envs.base import BatchedEnv, SingleEnv
from embodied_mem.errors import UsageError

VARIANTS = {"passive": 0, "active": 1}
RIGHT, UP, LEFT, DOWN = range(4)
_DX = np.array([1, 0, -1, 0], dtype=np.int64)
_DY = np.array([0, 1, 0, -1], dtype=np.int64)
_GOAL_STREAM, _LENGTH_STREAM, _START_STREAM = 0, 1, 2


class BatchedTMaze(BatchedEnv):
    """N T-Mazes; every row has its own length."""

    fresh = True

    def __init__(
        self,
        num_envs: int = 1,
        *,
        variant: str = "passive",
        length: int = 10,
        min_length: int | None = None,
        slack: int = 0,
        lag_penalty: float = 1.0,
        oracle_starts: float = 0.0,
        **kwargs: Any,
    ) -> None:
        """Set up the mazes.

        Args:
            num_envs: number of rows N.
            variant: "passive" or "active".
            length: corridor length, >= 1; the longest one where ``min_length`` is given.
            min_length: where given, each episode draws its length uniformly from [min_length, length] (a curriculum).
            slack: steps granted beyond the fewest needed, >= 0.
            lag_penalty: what never moving costs in a whole episode without slack, >= 0.
            oracle_starts: share of the episodes that begin on the oracle cell, in [0, 1] (a curriculum for the active
                variant: what the cue is good for is learned before how to get it).
            kwargs: see `BatchedEnv`.

        Raises:
            UsageError: a value is out of range.
        """
        if variant not in VARIANTS:
            raise UsageError(f"expected variant 'passive' or 'active', got {variant!r}")
        shortest = length if min_length is None else min_length
        if not 1 <= shortest <= length:
            raise UsageError(f"expected 1 <= min_length <= length, got min_length={shortest}, length={length}")
        if slack < 0 or lag_penalty < 0:
            raise UsageError(f"expected slack >= 0 and lag_penalty >= 0, got {slack} and {lag_penalty}")
        if not 0 <= oracle_starts <= 1:
            raise UsageError(f"expected 0 <= oracle_starts <= 1, got {oracle_starts}")
        self.oracle_starts = float(oracle_starts)
        self.variant, self.length, self.min_length = variant, int(length), int(shortest)
        self.slack, self.lag_penalty = int(slack), float(lag_penalty)
        self.single_observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.single_action_space = spaces.Discrete(4)
        super().__init__(num_envs, **kwargs)
        n = self.num_envs
        self._start_x = VARIANTS[variant]
        self._x = np.zeros(n, dtype=np.int64)
        self._y = np.zeros(n, dtype=np.int64)
        self._t = np.zeros(n, dtype=np.int64)
        self._junction = np.zeros(n, dtype=np.int64)
        self._horizon = np.zeros(n, dtype=np.int64)
        self._lag = np.zeros(n, dtype=np.float32)
        self._goal = np.zeros(n, dtype=np.int64)
        self._visited = np.zeros(n, dtype=bool)
        self._cue = np.zeros(n, dtype=np.int64)

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        o = self._start_x
        length = rng.integers(keys, _LENGTH_STREAM, self.min_length, self.length + 1)
        fewest = length + 2 * o + 1
        goal = rng.integers(keys, _GOAL_STREAM, 0, 2) * 2 - 1
        shown = (o == 0) | (rng.uniform(keys, _START_STREAM) < self.oracle_starts)
        self._x[rows] = np.where(shown, 0, o)
        self._y[rows] = 0
        self._t[rows] = 0
        self._junction[rows] = o + length
        self._horizon[rows] = fewest + self.slack
        self._lag[rows] = -self.lag_penalty / (fewest - 1)
        self._goal[rows] = goal
        self._visited[rows] = shown
        self._cue[rows] = goal * shown

    def _advance(self, actions: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        dx, dy = _DX[actions], _DY[actions]
        if not self.all_active:
            dx, dy = dx * active, dy * active
        in_junction = self._x == self._junction
        self._y += dy * in_junction
        self._x += dx
        np.maximum(self._x, 0, out=self._x)
        np.minimum(self._x, self._junction, out=self._x)
        self._t += 1 if self.all_active else active
        terminated = (self._y != 0) | (self._t >= self._horizon)
        first = (self._x == 0) & ~self._visited
        shown = self._goal * first
        self._cue = shown if self.all_active else np.where(active, shown, self._cue)
        self._visited |= first
        lagging = self._x < self._t - self._start_x
        reward = np.where(terminated, self._y == self._goal, self._lag * lagging).astype(np.float32)
        if not self.all_active:
            terminated &= active
            reward *= active
        return reward, terminated, np.zeros(self.num_envs, dtype=bool)

    def _observe(self) -> np.ndarray:
        observed = np.empty((self.num_envs, 2), dtype=np.float32)
        observed[:, 0] = self._x == self._junction
        observed[:, 1] = self._cue + self._y
        return observed

    def _final_info(self) -> dict[str, np.ndarray]:
        return {"success": self._y == self._goal, "corridor_length": self._junction - self._start_x}

    def privileged(self) -> dict[str, np.ndarray]:
        """Return cue, cell, junction and whether the cue has been shown, each (N,)."""
        return {
            "tmaze_goal": self._goal.copy(),
            "tmaze_x": self._x.copy(),
            "tmaze_junction": self._junction.copy(),
            "tmaze_cue_shown": self._visited.copy(),
        }


class TMaze(SingleEnv):
    """N=1 view of `BatchedTMaze`."""

    batched = BatchedTMaze
