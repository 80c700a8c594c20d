"""What the card probes share: shuffled decks, and quizzes with one right answer per step.

POPGym's decks hold 52 cards each, 13 of every suit, 4 of every rank, 26 of every colour; cards are dealt without
replacement, so every row's sequence is a permutation with equal counts. Rules as in POPGym 1.0.7 (Morad et al. 2023),
written anew for batches.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from gymnasium import spaces

from embodied_mem.envs import rng
from embodied_mem.envs.base import BatchedEnv
from embodied_mem.errors import UsageError, nearest

SUITS = 4
DECK = 52
KINDS = {"colours": 2, "suits": SUITS, "ranks": 13}
"""What a game looks at on a card, and how many values it has."""
DECK_STREAM = 0


def shuffled(keys: np.ndarray, stream: int, decks: int, kind: str) -> np.ndarray:
    """Return (M, 52 decks) uint8 colours, suits or ranks (see `KINDS`) of shuffled cards, one order per key (M,)."""
    cards = rng.permutation(keys, stream, DECK * decks)
    # Four cards of a rank lie beside each other in a new deck; suits alternate, and so do colours.
    values = cards // SUITS if kind == "ranks" else cards
    return (values % KINDS[kind]).astype(np.uint8)


class BatchedQuiz(BatchedEnv, ABC):
    """N card games in which, from some step on, every action is an answer that is right or wrong.

    An episode shows ``observations`` observations and lasts one step less. The action that follows the h-th observation
    is judged where h >= ``first_question``: +1 / questions if right, -1 / questions if wrong; before that it earns 0.
    A subclass sets both spaces and ``kind``, and writes `_target` and `_observe`.
    """

    fresh = True
    kind = "suits"

    def __init__(self, num_envs: int, decks: int, observations: int, first_question: int, /, **kwargs: Any) -> None:
        """Set up N rows of ``52 decks`` cards."""
        super().__init__(num_envs, **kwargs)
        self.decks, self.cards = decks, DECK * decks
        self.observations, self.first_question = observations, first_question
        self.questions = observations - first_question
        self._scale = np.float32(1.0 / self.questions)
        self._deck = np.zeros((self.num_envs, self.cards), dtype=np.uint8)
        self._seen = np.zeros(self.num_envs, dtype=np.int64)
        self._right = np.zeros(self.num_envs, dtype=np.int64)
        self._offset = np.arange(self.num_envs, dtype=np.int64) * self.cards

    @abstractmethod
    def _target(self) -> np.ndarray:
        """Return the (N,) right answer now; any value where fewer than ``first_question`` observations were made."""

    def _card(self, place: np.ndarray) -> np.ndarray:
        """Return the (N,) uint8 value of every row's card at ``place`` (N,) int64."""
        return self._deck.reshape(-1).take(self._offset + place)

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        self._deck[rows] = shuffled(keys, DECK_STREAM, self.decks, self.kind)
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
        terminated = self._seen == self.observations
        if not self.all_active:
            terminated &= active
        return reward, terminated, np.zeros(self.num_envs, dtype=bool)

    def _final_info(self) -> dict[str, np.ndarray]:
        return {"success": self._right == self.questions, "accuracy": self._right / self.questions}

    def _answer(self) -> np.ndarray:
        """Return the right answer (N,) int64, -1 where nothing is asked yet."""
        return np.where(self._seen >= self.first_question, self._target().astype(np.int64), -1)


class BatchedSuits(BatchedQuiz):
    """N decks dealt face up; a subclass says which card's suit is to be named at each step.

    Observation and action: Discrete(4), the suit. An episode deals every card: ``cards - 1`` steps after the first
    card, which `reset` shows.
    """

    def __init__(self, num_envs: int, decks: int, first_question: int, /, **kwargs: Any) -> None:
        """Set up N rows of ``52 decks`` cards; the first question is asked when ``first_question`` cards have been
        seen.
        """
        self.single_observation_space = spaces.Discrete(SUITS)
        self.single_action_space = spaces.Discrete(SUITS)
        super().__init__(num_envs, decks, DECK * decks, first_question, **kwargs)

    def _observe(self) -> np.ndarray:
        return self._card(self._seen - 1).astype(np.int64)

    def privileged(self) -> dict[str, np.ndarray]:
        """Return the right answer (N,) int64, -1 where nothing is asked yet, and each row's whole deck (N, cards)."""
        return {"suit_target": self._answer(), "suit_deck": self._deck.copy()}


def level(difficulty: str, levels: dict[str, Any]) -> Any:
    """Return the settings of a difficulty.

    Raises:
        UsageError: there is no such difficulty.
    """
    if difficulty not in levels:
        known = ", ".join(levels)
        raise UsageError(f"unknown difficulty {difficulty!r}{nearest(str(difficulty), levels)}; available: {known}")
    return levels[difficulty]
