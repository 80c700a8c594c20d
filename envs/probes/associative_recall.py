"""Associative recall with rewriting: key-value pairs are shown, some keys get a new value, then keys are asked.

Task as in associative-recall and memory-rewriting studies; the layout is ours. An episode shows W = pairs + rewrites
pairs one by one in random order, ``delay`` blanks, then ``queries`` of the keys, each once. Every key is written at
least once; a rewrite goes to a random one of the keys and always changes its value; only the latest value counts.

Observation: (keys + values + 1,) float32: one-hot key, one-hot value, 1 where the key is asked. Action: Discrete, the
value. Reward: 1 / queries per right answer. T = W + delay + queries steps.

Correlation horizon: between delay + 1 and T - 1 steps. Without memory 1 / values (values are uniform). Who keeps the
first value of every key and never rewrites: (1 - 1 / pairs)^rewrites. Oracle 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from embodied_mem.envs import rng
from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.probes.stream import UNASKED, BatchedStream, whole

_KEYS, _ORDER, _REWRITTEN, _SHIFT, _QUERIES = range(5)


class BatchedAssociativeRecall(BatchedStream):
    """N streams of pairs and queries."""

    def __init__(
        self,
        num_envs: int = 1,
        *,
        pairs: int = 6,
        rewrites: int = 4,
        keys: int = 8,
        values: int = 8,
        delay: int = 0,
        queries: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Set up N streams.

        Args:
            num_envs: number of rows N.
            pairs: distinct keys written in an episode, >= 1.
            rewrites: writes that replace a value, >= 0.
            keys: size of the key alphabet, >= pairs.
            values: size of the value alphabet, >= 2.
            delay: blank steps between the last write and the first query, >= 0.
            queries: keys asked, 1 to pairs; None asks all.
            kwargs: see `BatchedEnv`.

        Raises:
            UsageError: a value is out of range.
        """
        self.pairs, self.rewrites = whole("pairs", pairs, 1), whole("rewrites", rewrites, 0)
        self.keys_in_use, self.values = whole("keys", keys, self.pairs), whole("values", values, 2)
        self.delay = whole("delay", delay, 0)
        self.queries = self.pairs if queries is None else whole("queries", queries, 1, self.pairs)
        self.writes = self.pairs + self.rewrites
        table = _table(self.keys_in_use, self.values)
        steps = self.writes + self.delay + self.queries
        super().__init__(num_envs, table=table, answers=self.values, steps=steps, **kwargs)

    def _draw(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        m, pairs, values = len(keys), self.pairs, self.values
        writes = np.arange(self.writes)
        names = rng.permutation(keys, _KEYS, self.keys_in_use)[:, :pairs]
        # Items below `pairs` write their own key, the others a random one; the order of all is random.
        item = rng.permutation(keys, _ORDER, self.writes)
        again = rng.integers(keys[:, None], _REWRITTEN, 0, pairs, writes[None])
        place = np.where(item < pairs, item, again)
        hit = place[:, :, None] == np.arange(pairs)
        first = (np.cumsum(hit, axis=1) == 1) & hit
        # A later write moves the value by 1 .. values - 1, so that it always changes.
        low = np.where(first.any(axis=2), 0, 1)
        shift = rng.integers(keys[:, None], _SHIFT, low, values, writes[None])
        held = np.cumsum(hit * shift[:, :, None], axis=1) % values
        codes = np.zeros((m, self.steps), dtype=np.int64)
        targets = np.full((m, self.steps), UNASKED, dtype=np.int64)
        value = np.take_along_axis(held, place[:, :, None], axis=2)[:, :, 0]
        codes[:, : self.writes] = 1 + np.take_along_axis(names, place, axis=1) * values + value
        asked = rng.permutation(keys, _QUERIES, pairs)[:, : self.queries]
        codes[:, -self.queries :] = 1 + self.keys_in_use * values + np.take_along_axis(names, asked, axis=1)
        targets[:, -self.queries :] = np.take_along_axis(held[:, -1], asked, axis=1)
        return codes, targets


class AssociativeRecall(SingleEnv):
    """N=1 view of `BatchedAssociativeRecall`."""

    batched = BatchedAssociativeRecall


def _table(keys: int, values: int) -> np.ndarray:
    """Return the observations: code 0 blank, 1 + k values + v a pair, 1 + keys values + k a query."""
    table = np.zeros((1 + keys * values + keys, keys + values + 1), dtype=np.float32)
    pair = np.arange(keys * values)
    table[1 + pair, pair // values] = 1
    table[1 + pair, keys + pair % values] = 1
    query = np.arange(keys)
    table[1 + keys * values + query, query] = 1
    table[1 + keys * values + query, -1] = 1
    return table
