"""Grammar stream: say of every symbol whether the grammar allows it; those it does not allow are gaps to be ignored.

In the style of SelectivBench (arXiv 2601.12598): rule-based grammars of adjustable complexity, whose sequences are
broken by irregular gaps that violate the rules, so that what is noise depends on the context only. The paper's grammars
and gap statistics were not readable here: the ones below are ours.

A grammar over S symbols (fixed by ``grammar``, the same in all episodes) says for every context which ``branches`` of
the S steps from the latest allowed symbol to the next, modulo S, are allowed; the context is the last ``order - 1``
such steps. The first symbol is allowed. With probability ``gap`` the next one is a violation, drawn evenly from what
the grammar forbids there, and leaves the context as it was; else it is drawn evenly from what is allowed.

Observation: (S,) float32, one-hot symbol. Action: 1 allowed, 0 violation. Reward: 1 / (T - 1) per right answer; every
symbol but the first is asked; T = ``length`` steps.

Correlation horizon: back to the last ``order`` allowed symbols, over gaps: k steps with probability gap^(k - 1) for the
latest. Without memory max(gap, 1 - gap), as every symbol is equally likely in either case. Oracle 1.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from embodied_mem.envs import rng
from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.probes.stream import UNASKED, BatchedStream, whole
from embodied_mem.errors import UsageError

_START, _GAP, _PICK, _RULES = range(4)


@numba.njit(cache=True, nogil=True)
def _speak(
    codes: np.ndarray, violates: np.ndarray, pick: np.ndarray, rules: np.ndarray, branches: int, contexts: int
) -> None:
    """Write the symbols 1 .. S to ``codes`` (M, T), whose first column holds the first ones.

    Args:
        codes: (M, T) int64.
        violates: (M, T) bool.
        pick: (M, T) float64 in [0, 1), which of the allowed or forbidden steps is taken.
        rules: (contexts, S) int64, the steps in an order of which the first ``branches`` are allowed.
        branches: number of allowed steps.
        contexts: S^(order - 1).
    """
    symbols = rules.shape[1]
    for i in range(codes.shape[0]):
        latest, context = codes[i, 0] - 1, 0
        for t in range(1, codes.shape[1]):
            if violates[i, t]:
                step = rules[context, branches + int(pick[i, t] * (symbols - branches))]
                codes[i, t] = 1 + (latest + step) % symbols
            else:
                step = rules[context, int(pick[i, t] * branches)]
                latest = (latest + step) % symbols
                context = (context * symbols + step) % contexts
                codes[i, t] = 1 + latest


class BatchedGrammarStream(BatchedStream):
    """N streams of one grammar."""

    def __init__(
        self,
        num_envs: int = 1,
        *,
        symbols: int = 8,
        branches: int = 3,
        order: int = 2,
        gap: float = 0.5,
        length: int = 64,
        grammar: int = 0,
        **kwargs: Any,
    ) -> None:
        """Set up the streams.

        Args:
            num_envs: number of rows N.
            symbols: S >= 2.
            branches: allowed steps per context, 1 to S - 1.
            order: allowed symbols that decide what comes next, 1 to 4.
            gap: probability of a violation, in [0, 1).
            length: steps T of an episode, >= 2.
            grammar: seed >= 0 of the rules.
            kwargs: see `BatchedEnv`.

        Raises:
            UsageError: a value is out of range.
        """
        self.symbols = whole("symbols", symbols, 2)
        self.branches, self.order = whole("branches", branches, 1, self.symbols - 1), whole("order", order, 1, 4)
        if not 0 <= gap < 1:
            raise UsageError(f"expected 0 <= gap < 1, got {gap}")
        self.gap = float(gap)
        self.contexts = self.symbols ** (self.order - 1)
        seeds = rng.seed_keys(np.array([whole("grammar", grammar, 0)], dtype=np.uint64))
        self.rules = rng.permutation(rng.episode_keys(seeds, np.arange(self.contexts)), _RULES, self.symbols)
        table = np.concatenate([np.zeros((1, self.symbols)), np.eye(self.symbols)])
        super().__init__(num_envs, table=table, answers=2, steps=whole("length", length, 2), **kwargs)

    def _draw(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        step, column = np.arange(self.steps)[None], keys[:, None]
        violates = rng.uniform(column, _GAP, step) < self.gap
        codes = np.empty((len(keys), self.steps), dtype=np.int64)
        codes[:, 0] = 1 + rng.integers(keys, _START, 0, self.symbols)
        _speak(codes, violates, rng.uniform(column, _PICK, step), self.rules, self.branches, self.contexts)
        targets = (~violates).astype(np.int64)
        targets[:, 0] = UNASKED
        return codes, targets


class GrammarStream(SingleEnv):
    """N=1 view of `BatchedGrammarStream`."""

    batched = BatchedGrammarStream
