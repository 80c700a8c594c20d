"""Autoencode: watch a deck go by, then name its suits in reverse order (POPGym's rules).

Easy, medium, hard: 1, 2, 3 decks. All c = 52 decks cards are shown one by one; then come c questions, the last card
first, each worth +-1 / c: 2 c - 1 steps in all. Observation: [watch, suit], watch = 1 while cards are shown, 0 from
the last card on, when the first question is asked; at later questions the suit reads 0. POPGym's Tuple of two Discrete
spaces is one MultiDiscrete([2, 4]) here: the same two numbers in one array.

Correlation horizon: 0 to 2 (c - 1) steps. Best return 1; random play -0.5. Best without memory: repeat the suit on the
table, else say 0: the first answer is right, of the others 13 decks - 1/4 on average, so -1/2 + 3 / (2 c) = -0.471,
-0.486, -0.490.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.probes.cards import DECK, SUITS, BatchedQuiz, level

LEVELS = {"easy": 1, "medium": 2, "hard": 3}


class BatchedAutoencode(BatchedQuiz):
    """N games of Autoencode."""

    def __init__(self, num_envs: int = 1, *, difficulty: str = "easy", **kwargs: Any) -> None:
        """Set up N games at ``difficulty`` easy, medium or hard; ``kwargs`` as in `BatchedEnv`."""
        decks = level(difficulty, LEVELS)
        self.difficulty = difficulty
        self.single_observation_space = spaces.MultiDiscrete([2, SUITS])
        self.single_action_space = spaces.Discrete(SUITS)
        super().__init__(num_envs, decks, 2 * DECK * decks, DECK * decks, **kwargs)

    def _target(self) -> np.ndarray:
        # While watching nothing is asked, and after the last answer nothing any more: any card will do.
        place = np.maximum(2 * self.cards - 1 - self._seen, 0)
        return self._card(np.minimum(place, self.cards - 1))

    def _observe(self) -> np.ndarray:
        observed = np.zeros((self.num_envs, 2), dtype=np.int64)
        observed[:, 0] = self._seen < self.cards
        shown = self._seen <= self.cards
        observed[:, 1] = self._card(np.minimum(self._seen, self.cards) - 1) * shown
        return observed

    def privileged(self) -> dict[str, np.ndarray]:
        """Return the right answer (N,) int64, -1 where nothing is asked yet, and each row's whole deck (N, cards)."""
        return {"suit_target": self._answer(), "suit_deck": self._deck.copy()}


class Autoencode(SingleEnv):
    """N=1 view of `BatchedAutoencode`."""

    batched = BatchedAutoencode
