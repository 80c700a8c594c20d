"""What the stream probes share: every row reads a sequence of T symbols and answers at some of them.

A subclass draws whole episodes at once, as codes into a table of observations and the right answer per step, so a step
is three look-ups. Cost: one draw, one look-up and one compared answer per row and step, whatever the task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from gymnasium import spaces

from embodied_mem.envs.base import BatchedEnv
from embodied_mem.errors import UsageError

BLANK = 0
"""Code of the observation that follows the last answer; its row of the table is zero."""
UNASKED = -1


class BatchedStream(BatchedEnv, ABC):
    """N streams of T symbols; a subclass writes `_draw`.

    Observation: (F,) float32, a row of the table. Action: Discrete(A). An episode has T steps; the action on symbol t
    is judged where the stream asks there: right 1 / (questions of the episode), wrong 0. So the return is the share
    of right answers. ``success``: all of them right.
    """

    fresh = True

    def __init__(self, num_envs: int, *, table: np.ndarray, answers: int, steps: int, **kwargs: Any) -> None:
        """Set up N streams.

        Args:
            num_envs: N.
            table: (C, F) float32, the observation of every code; row 0 is zero.
            answers: number of actions A.
            steps: T.
            kwargs: see `BatchedEnv`.
        """
        self.table = np.ascontiguousarray(table, dtype=np.float32)
        self.answers, self.steps = int(answers), int(steps)
        low, high = float(self.table.min()), float(self.table.max())
        self.single_observation_space = spaces.Box(low, high, (self.table.shape[1],), np.float32)
        self.single_action_space = spaces.Discrete(self.answers)
        super().__init__(num_envs, **kwargs)
        n = self.num_envs
        # One column more than steps: the blank after the last answer, which asks nothing.
        self._codes = np.full((n, self.steps + 1), BLANK, dtype=np.int32)
        self._targets = np.full((n, self.steps + 1), UNASKED, dtype=np.int32)
        self._offset = np.arange(n, dtype=np.int64) * (self.steps + 1)
        self._t = np.zeros(n, dtype=np.int64)
        self._right = np.zeros(n, dtype=np.int64)
        self._questions = np.ones(n, dtype=np.int64)
        self._scale = np.ones(n, dtype=np.float32)

    @abstractmethod
    def _draw(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return codes (M, T) and answers (M, T), -1 where nothing is asked, of the episodes of ``keys`` (M,)."""

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        codes, targets = self._draw(keys)
        self._codes[rows, :-1] = codes
        self._targets[rows, :-1] = targets
        questions = (targets >= 0).sum(axis=1)
        self._questions[rows] = questions
        self._scale[rows] = 1.0 / questions
        self._t[rows] = 0
        self._right[rows] = 0

    def _advance(self, actions: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        # Rows that wait stand on the last column, whose answer no action equals.
        right = actions == self._answer()
        self._right += right
        self._t += 1 if self.all_active else active
        terminated = self._t == self.steps
        if not self.all_active:
            terminated &= active
        return right * self._scale, terminated, np.zeros(self.num_envs, dtype=bool)

    def _observe(self) -> np.ndarray:
        return self.table.take(self._codes.reshape(-1).take(self._offset + self._t), axis=0)

    def _answer(self) -> np.ndarray:
        return self._targets.reshape(-1).take(self._offset + self._t)

    def _final_info(self) -> dict[str, np.ndarray]:
        return {"success": self._right == self._questions, "accuracy": self._right / self._questions}

    def privileged(self) -> dict[str, np.ndarray]:
        """Return the right answer (N,) int64 to the present symbol, -1 where nothing is asked."""
        return {"stream_answer": self._answer().astype(np.int64)}


def whole(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Return ``value`` as an int in [low, high].

    Raises:
        UsageError: it is none.
    """
    fits = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not fits or value < low or (high is not None and value > high):
        limit = f">= {low}" if high is None else f"in [{low}, {high}]"
        raise UsageError(f"expected {name} {limit} (int), got {value!r}")
    return int(value)
