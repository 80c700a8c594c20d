"""Concentration: turn over two face-down cards at a time and find the pairs (POPGym's rules).

Easy: 1 deck, pairs of a colour; medium: 2 decks, colours; hard: 1 deck, ranks. Observation: MultiDiscrete, one number
per place: the card's kind where it lies face up or was turned in this phase, else the number of kinds (2 or 13).
Action: Discrete(c), the place to turn, c = 52 decks. A phase ends with its second card: a pair stays up and earns
2 / c, any other two (or the same place twice) cost 2 / L. A place that is already up ends the phase at once and costs
1 / L per card turned in it. An episode terminates with the last pair and is truncated after
L = ceil(2 c - c / (2 c - 1)) = 104, 208, 104 steps.

Correlation horizon: up to L steps. An oracle that knows the deck finds a pair in every phase: return 1. Without memory:
turning places at random among those that look face down earns 0.450, 0.465, -0.820 (measured by the test). That is the
natural reactive play, not the proven optimum: a choice of place can itself be a note for the next step.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import spaces

from embodied_mem.envs.base import BatchedEnv, SingleEnv
from embodied_mem.envs.probes.cards import DECK, DECK_STREAM, KINDS, level, shuffled

LEVELS = {"easy": (1, "colours"), "medium": (2, "colours"), "hard": (1, "ranks")}


class BatchedConcentration(BatchedEnv):
    """N games of Concentration."""

    def __init__(self, num_envs: int = 1, *, difficulty: str = "easy", **kwargs: Any) -> None:
        """Set up N games at ``difficulty`` easy, medium or hard; ``kwargs`` as in `BatchedEnv`."""
        self.decks, self.kind = level(difficulty, LEVELS)
        self.difficulty = difficulty
        self.cards, self.face_down = DECK * self.decks, KINDS[self.kind]
        self.single_observation_space = spaces.MultiDiscrete([self.face_down + 1] * self.cards)
        self.single_action_space = spaces.Discrete(self.cards)
        super().__init__(num_envs, **kwargs)
        n, places = self.num_envs, self.cards + 1
        self.limit = math.ceil(2 * self.cards - self.cards / (2 * self.cards - 1))
        self._gain, self._cost = np.float32(2.0 / self.cards), np.float32(1.0 / self.limit)
        # One place more than there are cards stands for "none", so that no write needs a condition.
        self._deck = np.zeros((n, places), dtype=np.uint8)
        self._view = np.full((n, places), self.face_down, dtype=np.int64)
        self._up = np.zeros((n, places), dtype=bool)
        self._first = np.full(n, self.cards, dtype=np.int64)
        self._hide = np.full((2, n), self.cards, dtype=np.int64)
        self._found = np.zeros(n, dtype=np.int64)
        self._t = np.zeros(n, dtype=np.int64)
        self._offset = np.arange(n, dtype=np.int64) * places

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        self._deck[rows, : self.cards] = shuffled(keys, DECK_STREAM, self.decks, self.kind)
        self._view[rows] = self.face_down
        self._up[rows] = False
        self._first[rows] = self.cards
        self._hide[:, rows] = self.cards
        self._found[rows] = 0
        self._t[rows] = 0

    def _advance(self, actions: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        n = self.num_envs
        rows = slice(None) if self.all_active else np.flatnonzero(active)
        offset, first, turned = self._offset[rows], self._first[rows], actions[rows]
        deck, view, up = self._deck.reshape(-1), self._view.reshape(-1), self._up.reshape(-1)
        view[offset + self._hide[0, rows]] = self.face_down
        view[offset + self._hide[1, rows]] = self.face_down

        second = first < self.cards
        here, there = offset + turned, offset + first
        already, kind = up[here], deck[here]
        pair = second & ~already & (kind == deck[there]) & (first != turned)
        ended = second | already
        missed = ended & ~pair
        view[here] = kind
        up[here] |= pair
        up[there] |= pair
        self._hide[0, rows] = np.where(missed, first, self.cards)
        self._hide[1, rows] = np.where(missed & ~already, turned, self.cards)
        self._first[rows] = np.where(ended, self.cards, turned)
        self._found[rows] += pair
        self._t[rows] += 1

        reward = np.zeros(n, dtype=np.float32)
        reward[rows] = pair * self._gain - missed * (1 + second) * self._cost
        terminated, truncated = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        terminated[rows] = 2 * self._found[rows] == self.cards
        truncated[rows] = self._t[rows] >= self.limit
        return reward, terminated, truncated

    def _observe(self) -> np.ndarray:
        return self._view[:, : self.cards]

    def _final_info(self) -> dict[str, np.ndarray]:
        return {"success": 2 * self._found == self.cards, "accuracy": 2 * self._found / self.cards}

    def privileged(self) -> dict[str, np.ndarray]:
        """Return the kinds of all cards (N, c) uint8, which are paired (N, c) bool, and the place turned first in this
        phase (N,) int64, -1 where there is none.
        """
        return {
            "concentration_deck": self._deck[:, : self.cards].copy(),
            "concentration_up": self._up[:, : self.cards].copy(),
            "concentration_first": np.where(self._first < self.cards, self._first, -1),
        }


class Concentration(SingleEnv):
    """N=1 view of `BatchedConcentration`."""

    batched = BatchedConcentration
