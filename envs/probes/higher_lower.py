"""HigherLower: say whether the next card's rank will be higher or lower than the one on the table (POPGym's rules).

Easy, medium, hard: 1, 2, 3 decks of c = 52 decks cards. Observation: Discrete(13), the rank. Action: 0 higher, 1 lower.
An episode has c - 1 steps, each worth +1 / c if right, -1 / c if wrong, 0 if both ranks are equal.

Correlation horizon: the whole episode: what has been dealt tells what is left. Best without memory: say higher below
the middle rank and lower above it, which earns 84 / 169 = 0.497 at every difficulty. Counting cards, the best that
memory can do, earns 0.53, 0.52, 0.51 (measured by the test). An oracle that sees the next card earns all but the ties:
12 / 13 = 0.923.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.probes.cards import DECK, KINDS, BatchedQuiz, level

LEVELS = {"easy": 1, "medium": 2, "hard": 3}
HIGHER, LOWER = 0, 1


class BatchedHigherLower(BatchedQuiz):
    """N games of HigherLower."""

    kind = "ranks"

    def __init__(self, num_envs: int = 1, *, difficulty: str = "easy", **kwargs: Any) -> None:
        """Set up N games at ``difficulty`` easy, medium or hard; ``kwargs`` as in `BatchedEnv`."""
        decks = level(difficulty, LEVELS)
        self.difficulty = difficulty
        self.single_observation_space = spaces.Discrete(KINDS["ranks"])
        self.single_action_space = spaces.Discrete(2)
        super().__init__(num_envs, decks, DECK * decks, 1, **kwargs)
        self._scale = np.float32(1.0 / self.cards)
        self._ties = np.zeros(self.num_envs, dtype=np.int64)

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        super()._begin(rows, keys)
        self._ties[rows] = 0

    def _ranks(self) -> tuple[np.ndarray, np.ndarray]:
        # After the last card the next one is read as the last again; nothing is asked there.
        return self._card(self._seen - 1), self._card(np.minimum(self._seen, self.cards - 1))

    def _target(self) -> np.ndarray:
        now, after = self._ranks()
        return np.where(after > now, HIGHER, LOWER)

    def _advance(self, actions: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        now, after = self._ranks()
        tie = now == after
        reward, terminated, truncated = super()._advance(actions, active)
        # A tie is judged as any other answer above; here its reward and its count are taken back.
        self._right -= tie & (reward > 0)
        self._ties += tie if self.all_active else tie & active
        reward[tie] = 0.0
        return reward, terminated, truncated

    def _observe(self) -> np.ndarray:
        return self._card(self._seen - 1).astype(np.int64)

    def _final_info(self) -> dict[str, np.ndarray]:
        judged = self.questions - self._ties
        return {"success": self._right == judged, "accuracy": self._right / judged}

    def privileged(self) -> dict[str, np.ndarray]:
        """Return the right answer (N,) int64 (either one before a tie) and each row's deck of ranks (N, cards)."""
        return {"rank_target": self._answer(), "rank_deck": self._deck.copy()}


class HigherLower(SingleEnv):
    """N=1 view of `BatchedHigherLower`."""

    batched = BatchedHigherLower
