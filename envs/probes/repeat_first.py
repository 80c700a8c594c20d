"""RepeatFirst: name the suit of the first card at every step (POPGym's rules).

Easy, medium, hard: 1, 8, 16 decks. An episode of c = 52 decks cards has c - 1 steps, each worth +-1 / (c - 1).

Correlation horizon: the whole episode. Best return 1; random play -0.5. Best without memory, where the first step
cannot be told from the others: about -0.5 (a right first answer, then 12/51 on one deck: -0.499).
Success (every answer right) has chance 1/4: always name the same suit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.probes.cards import BatchedSuits, level

LEVELS = {"easy": 1, "medium": 8, "hard": 16}


class BatchedRepeatFirst(BatchedSuits):
    """N games of RepeatFirst."""

    def __init__(self, num_envs: int = 1, *, difficulty: str = "easy", **kwargs: Any) -> None:
        """Set up N games at ``difficulty`` easy, medium or hard; ``kwargs`` as in `BatchedEnv`."""
        self.difficulty = difficulty
        super().__init__(num_envs, level(difficulty, LEVELS), 1, **kwargs)

    def _target(self) -> np.ndarray:
        return self._deck[:, 0]


class RepeatFirst(SingleEnv):
    """N=1 view of `BatchedRepeatFirst`."""

    batched = BatchedRepeatFirst
