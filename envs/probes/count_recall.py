"""CountRecall: say how many cards of a queried kind have been dealt so far (POPGym's rules).

Easy: 1 deck, colours; medium: 2 decks, suits; hard: 4 decks, ranks. Two decks of c = 52 decks cards are dealt in step,
one of values and one of queries. Observation: [value, query], both of k kinds (2, 4, 13). Action: the count of the
queried kind among the values dealt, the present one included, from 0 to c / k (26, 26, 16). An episode has c - 1 steps,
each worth +-1 / (c - 1).

Correlation horizon: the whole episode, which the counts sum up. Best return 1. Best without memory: one answer where
value and query are alike and one where they differ. A count after h cards is hypergeometric (1 + the draws of h - 1
others where they are alike) and h is spread evenly, which gives -0.923, -0.924, -0.881 (the test computes it).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.probes.cards import DECK, KINDS, BatchedQuiz, level, shuffled

LEVELS = {"easy": (1, "colours"), "medium": (2, "suits"), "hard": (4, "ranks")}
_QUERY_STREAM = 1


class BatchedCountRecall(BatchedQuiz):
    """N games of CountRecall."""

    def __init__(self, num_envs: int = 1, *, difficulty: str = "easy", **kwargs: Any) -> None:
        """Set up N games at ``difficulty`` easy, medium or hard; ``kwargs`` as in `BatchedEnv`."""
        decks, self.kind = level(difficulty, LEVELS)
        self.difficulty = difficulty
        kinds, cards = KINDS[self.kind], DECK * decks
        self.single_observation_space = spaces.MultiDiscrete([kinds, kinds])
        self.single_action_space = spaces.Discrete(cards // kinds + 1)
        super().__init__(num_envs, decks, cards, 1, **kwargs)
        self._queries = np.zeros_like(self._deck)
        self._tally = np.zeros((self.num_envs, kinds), dtype=np.int64)
        self._corner = np.arange(self.num_envs, dtype=np.int64) * kinds

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        super()._begin(rows, keys)
        self._queries[rows] = shuffled(keys, _QUERY_STREAM, self.decks, self.kind)
        self._tally[rows] = 0
        self._tally[rows, self._deck[rows, 0]] = 1

    def _query(self) -> np.ndarray:
        return self._queries.reshape(-1).take(self._offset + self._seen - 1)

    def _target(self) -> np.ndarray:
        return self._tally.reshape(-1).take(self._corner + self._query())

    def _advance(self, actions: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        results = super()._advance(actions, active)
        place = self._corner + self._card(self._seen - 1)
        # One place per row, so that no place is counted twice.
        self._tally.reshape(-1)[place] += 1 if self.all_active else active
        return results

    def _observe(self) -> np.ndarray:
        observed = np.empty((self.num_envs, 2), dtype=np.int64)
        observed[:, 0] = self._card(self._seen - 1)
        observed[:, 1] = self._query()
        return observed

    def privileged(self) -> dict[str, np.ndarray]:
        """Return the right answer (N,) int64 and both decks, values and queries, (N, cards) uint8."""
        return {
            "count_target": self._answer(),
            "count_values": self._deck.copy(),
            "count_queries": self._queries.copy(),
        }


class CountRecall(SingleEnv):
    """N=1 view of `BatchedCountRecall`."""

    batched = BatchedCountRecall
