"""What the card probes share: a shuffled deck per row, dealt one card per step, of which only the suit is seen.

POPGym's decks hold 52 cards each, 13 of every suit; cards are dealt without replacement, so every row's sequence of
suits is a permutation with equal counts. Rules as in POPGym 1.0.7 (Morad et al. 2023), written anew for batches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from embodied_mem.envs import rng
from embodied_mem.envs.base import BatchedEnv
from embodied_mem.errors import UsageError, nearest

SUITS = 4
DECK = 52
_DECK_STREAM = 0


class BatchedSuits(BatchedEnv):
    """N decks dealt face up; a subclass says which card's suit is to be named at each step.

    Observation and action: Discrete(4), the suit. An episode deals every card: ``cards - 1`` steps after the first
    card, which `reset` shows. A right answer earns ``scale``, a wrong one loses it; steps without a question earn 0.
    """

    fresh = True

    def __init__(self, num_envs: int, *, decks: int, first_question: int, **kwargs: Any) -> None:
        """Set up N rows of ``52 decks`` cards; the first question is asked when ``first_question`` cards have been
        seen.
        """
        self.single_observation_space = spaces.Discrete(SUITS)
        self.single_action_space = spaces.Discrete(SUITS)
        super().__init__(num_envs, **kwargs)
        self.cards = DECK * decks
        self.first_question = first_question
        self.questions = self.cards - first_question
        self._scale = np.float32(1.0 / self.questions)
        self._deck = np.zeros((self.num_envs, self.cards), dtype=np.uint8)
        self._seen = np.zeros(self.num_envs, dtype=np.int64)
        self._right = np.zeros(self.num_envs, dtype=np.int64)
        self._offset = np.arange(self.num_envs, dtype=np.int64) * self.cards

    def _target(self) -> np.ndarray:
        """Return the (N,) suit to name now; any value where fewer than ``first_question`` cards have been seen."""
        raise NotImplementedError

    def _card(self, place: np.ndarray) -> np.ndarray:
        """Return the (N,) uint8 suit of every row's card at ``place`` (N,) int64."""
        return self._deck.reshape(-1).take(self._offset + place)

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        self._deck[rows] = rng.permutation(keys, _DECK_STREAM, self.cards) % SUITS
        self._seen[rows] = 1
        self._right[rows] = 0

    def _advance(self, actions: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        asked = self._seen >= self.first_question
        if not self.all_active:
            asked &= active
        right = (actions == self._target()) & asked
        self._right += right
        # Twice the right answers less all answers: +1 right, -1 wrong, 0 where nothing was asked.
        reward = (right * np.float32(2.0) - asked) * self._scale
        self._seen += 1 if self.all_active else active
        terminated = self._seen == self.cards
        if not self.all_active:
            terminated &= active
        return reward, terminated, np.zeros(self.num_envs, dtype=bool)

    def _observe(self) -> np.ndarray:
        return self._card(self._seen - 1).astype(np.int64)

    def _final_info(self) -> dict[str, np.ndarray]:
        return {"success": self._right == self.questions, "accuracy": self._right / self.questions}

    def privileged(self) -> dict[str, np.ndarray]:
        """Return the right answer (N,) int64, -1 where nothing is asked yet, and each row's whole deck (N, cards)."""
        target = np.where(self._seen >= self.first_question, self._target().astype(np.int64), -1)
        return {"suit_target": target, "suit_deck": self._deck.copy()}


def level(difficulty: str, levels: dict[str, Any]) -> Any:
    """Return the settings of a difficulty.

    Raises:
        UsageError: there is no such difficulty.
    """
    if difficulty not in levels:
        known = ", ".join(levels)
        raise UsageError(f"unknown difficulty {difficulty!r}{nearest(str(difficulty), levels)}; available: {known}")
    return levels[difficulty]
