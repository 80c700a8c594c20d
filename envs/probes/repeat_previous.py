"""RepeatPrevious: name the suit of the card seen k - 1 cards before the latest one (POPGym's rules).

Easy: 1 deck, k = 4; medium: 2 decks, k = 32; hard: 3 decks, k = 64. An episode of c = 52 decks cards has c - 1 steps;
the action after h cards have been seen is judged against card h - k when h >= k and earns +-1 / (c - k), else 0.

Correlation horizon: k - 1 steps. Best return 1; random play -0.5. Best without memory: name another suit than the one
on the table, which is right with probability 13/51 on one deck (26/103, 39/155 on two, three): about -0.490, -0.495,
-0.497.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.probes.cards import BatchedSuits, level

LEVELS = {"easy": (1, 4), "medium": (2, 32), "hard": (3, 64)}


class BatchedRepeatPrevious(BatchedSuits):
    """N games of RepeatPrevious."""

    def __init__(self, num_envs: int = 1, *, difficulty: str = "easy", **kwargs: Any) -> None:
        """Set up N games at ``difficulty`` easy, medium or hard; ``kwargs`` as in `BatchedEnv`."""
        decks, self.k = level(difficulty, LEVELS)
        self.difficulty = difficulty
        super().__init__(num_envs, decks, self.k, **kwargs)

    def _target(self) -> np.ndarray:
        return self._card(np.maximum(self._seen - self.k, 0))


class RepeatPrevious(SingleEnv):
    """N=1 view of `BatchedRepeatPrevious`."""

    batched = BatchedRepeatPrevious
