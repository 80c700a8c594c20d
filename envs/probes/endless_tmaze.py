"""Endless T-Maze: corridor after corridor, each with a new cue that makes the old one void (memory rewriting).

After "Memory Retention Is Not Enough to Master Memory Tasks in Reinforcement Learning" (arXiv 2601.15086). n corridors;
the cue, left or right, shows only at x = 0 of each corridor and is fair and independent. In the corridor, forward
moves; a turn there changes nothing. At the junction x = l, the turn of the cue earns 1 and leads to x = 0 of the next
corridor, the other turn terminates; forward changes nothing. The n-th right turn is success and terminates. Moves
that change nothing and wrong turns cost ``penalty`` and ``wrong_turn``; published versions differ on both, so these
are options of ours. Truncated after 6 (l_max + 1) n steps.

Observation: (3,) float32 = [x / l_max, cue left, cue right]. Where lengths vary, the junction is not marked: forward is
tried in vain there, once. Actions: 0 forward, 1 left, 2 right.

Correlation horizon: l steps, n times; of n cues the latest counts. Return of the oracle n, success 1. Success without
memory 2^-n; with the first cue only 2^-(n - 1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from embodied_mem.envs import rng
from embodied_mem.envs.base import BatchedEnv, SingleEnv
from embodied_mem.envs.probes.stream import whole
from embodied_mem.errors import UsageError

FORWARD, LEFT, RIGHT = range(3)
_CUE, _LENGTH = range(2)


class BatchedEndlessTMaze(BatchedEnv):
    """N endless T-Mazes; every row has its own corridors."""

    fresh = True

    def __init__(
        self,
        num_envs: int = 1,
        *,
        corridors: int = 3,
        length: int = 10,
        min_length: int | None = None,
        penalty: float = -0.01,
        wrong_turn: float = -0.01,
        **kwargs: Any,
    ) -> None:
        """Set up the mazes.

        Args:
            num_envs: number of rows N.
            corridors: n >= 1.
            length: corridor length l, >= 1; the longest one where ``min_length`` is given.
            min_length: where given, each corridor draws its length uniformly from [min_length, length].
            penalty: reward of a move that changes nothing, <= 0.
            wrong_turn: reward of the wrong turn at a junction, <= 0.
            kwargs: see `BatchedEnv`.

        Raises:
            UsageError: a value is out of range.
        """
        self.corridors, self.length = whole("corridors", corridors, 1), whole("length", length, 1)
        self.min_length = self.length if min_length is None else whole("min_length", min_length, 1, self.length)
        if penalty > 0 or wrong_turn > 0:
            raise UsageError(f"expected penalty <= 0 and wrong_turn <= 0, got {penalty} and {wrong_turn}")
        self.penalty, self.wrong_turn = float(penalty), float(wrong_turn)
        self.limit = 6 * (self.length + 1) * self.corridors
        self.single_observation_space = spaces.Box(0.0, 1.0, (3,), np.float32)
        self.single_action_space = spaces.Discrete(3)
        super().__init__(num_envs, **kwargs)
        n = self.num_envs
        self._x, self._t, self._passed = (np.zeros(n, dtype=np.int64) for _ in range(3))
        self._junction = np.ones(n, dtype=np.int64)
        self._turn = np.full(n, LEFT, dtype=np.int64)

    def _enter(self, rows: np.ndarray, keys: np.ndarray, corridor: np.ndarray) -> None:
        """Put ``rows`` (M,) at the start of their ``corridor`` (M,)."""
        self._x[rows] = 0
        self._passed[rows] = corridor
        self._turn[rows] = rng.integers(keys, _CUE, LEFT, RIGHT + 1, corridor)
        self._junction[rows] = rng.integers(keys, _LENGTH, self.min_length, self.length + 1, corridor)

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        self._t[rows] = 0
        self._enter(rows, keys, np.zeros(len(rows), dtype=np.int64))

    def _advance(self, actions: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        at_junction = self._x == self._junction
        walks = (actions == FORWARD) & ~at_junction
        turns = (actions != FORWARD) & at_junction
        right = turns & (actions == self._turn)
        if not self.all_active:
            walks &= active
            turns &= active
            right &= active
        reward = np.where(walks, 0.0, self.penalty)
        reward[turns] = self.wrong_turn
        reward[right] = 1.0
        if not self.all_active:
            reward[~active] = 0.0
        self._x += walks
        self._t += 1 if self.all_active else active
        won = right & (self._passed == self.corridors - 1)
        rows = np.flatnonzero(right & ~won)
        if len(rows):
            self._enter(rows, self.keys[rows], self._passed[rows] + 1)
        self._passed[won] = self.corridors
        terminated = won | (turns & ~right)
        truncated = (self._t >= self.limit) & ~terminated
        if not self.all_active:
            truncated &= active
        return reward.astype(np.float32), terminated, truncated

    def _observe(self) -> np.ndarray:
        observed = np.zeros((self.num_envs, 3), dtype=np.float32)
        observed[:, 0] = self._x * np.float32(1.0 / self.length)
        shown = self._x == 0
        observed[:, 1] = shown & (self._turn == LEFT)
        observed[:, 2] = shown & (self._turn == RIGHT)
        return observed

    def _final_info(self) -> dict[str, np.ndarray]:
        return {"success": self._passed == self.corridors, "corridors_passed": self._passed}

    def privileged(self) -> dict[str, np.ndarray]:
        """Return the right turn, the cell and the junction of the present corridor, each (N,)."""
        return {
            "endless_turn": self._turn.copy(),
            "endless_x": self._x.copy(),
            "endless_junction": self._junction.copy(),
        }


class EndlessTMaze(SingleEnv):
    """N=1 view of `BatchedEndlessTMaze`."""

    batched = BatchedEndlessTMaze
