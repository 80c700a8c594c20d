"""``shuffled``: at every step each row takes another row's state. What survives does not need the *own* memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from embodied_mem.evaluation.controls.contract import Control
from embodied_mem.policies.rows import take_rows
from embodied_mem.registry import register


@register("control", "shuffled", about="every step each row takes another row's state")
class Shuffled(Control):
    """The agent with the right kind of memory of the wrong episode, by a fresh seeded derangement at every step."""

    disturbs_memory = True
    min_rows = 8

    def __init__(self, argument: str | None = None) -> None:
        """Take no argument."""
        super().__init__(argument)
        self._rng = np.random.default_rng(0)

    def begin(self, fresh: Any, n: int, seed: int) -> None:
        """Seed the derangements of this block."""
        self._rng = np.random.default_rng(seed)

    def disturb(self, state: Any, step: np.ndarray) -> Any:
        """Return the state with its rows exchanged, none left in its place."""
        return take_rows(state, derangement(step.shape[0], self._rng))


def derangement(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return a uniformly drawn permutation of range(n), n >= 2, without a fixed point: (n,) int64.

    A permutation has none with probability about 1/e, so redrawing ends soon.
    """
    identity = np.arange(n)
    while True:
        drawn = rng.permutation(n)
        if not (drawn == identity).any():
            return drawn
