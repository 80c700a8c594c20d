"""N-delayed match: at every step, say whether the symbol equals the one shown ``delay`` steps earlier.

Task as in studies of how timescales emerge under curricula (Khajehabdollahi et al. 2023); balance, steps and rewards
are ours: a match has probability 1/2 whatever was shown, else another symbol follows, each equally likely.

Observation: (symbols + 1,) float32: one-hot symbol, and delay / longest delay (constant within an episode). Action: 1
match, 0 none. Reward: 1 / (T - delay) per right answer; T = ``length`` steps, the first question at symbol delay + 1.

Correlation horizon: ``delay`` steps, sliding; all ``delay`` symbols must be held in order. Without memory 0.5, oracle
1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from embodied_mem.envs import rng
from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.probes.stream import UNASKED, BatchedStream, whole

_DELAY, _FIRST, _MATCH, _OTHER = range(4)


class BatchedDelayedMatch(BatchedStream):
    """N streams of symbols."""

    def __init__(
        self,
        num_envs: int = 1,
        *,
        delay: int = 3,
        min_delay: int | None = None,
        symbols: int = 2,
        length: int = 64,
        **kwargs: Any,
    ) -> None:
        """Set up the streams.

        Args:
            num_envs: number of rows N.
            delay: steps between the two symbols compared, >= 1; the longest one where ``min_delay`` is given.
            min_delay: where given, each episode draws its delay uniformly from [min_delay, delay] (a curriculum).
            symbols: size of the alphabet, >= 2.
            length: steps T of an episode, > delay.
            kwargs: see `BatchedEnv`.

        Raises:
            UsageError: a value is out of range.
        """
        self.delay, self.symbols = whole("delay", delay, 1), whole("symbols", symbols, 2)
        self.min_delay = self.delay if min_delay is None else whole("min_delay", min_delay, 1, self.delay)
        # Code 1 + delay symbols + symbol.
        code = np.arange((self.delay + 1) * self.symbols)
        table = np.zeros((1 + len(code), self.symbols + 1), dtype=np.float32)
        table[1 + code, code % self.symbols] = 1
        table[1 + code, -1] = code // self.symbols / self.delay
        super().__init__(num_envs, table=table, answers=2, steps=whole("length", length, self.delay + 1), **kwargs)

    def _draw(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        step, column = np.arange(self.steps), keys[:, None]
        delay = rng.integers(keys, _DELAY, self.min_delay, self.delay + 1)[:, None]
        match = rng.bits(column, _MATCH, step[None]) >> np.uint64(63) == 1
        other = rng.integers(column, _OTHER, 1, self.symbols, step[None])
        opened = step < delay
        symbol = np.where(opened, rng.integers(column, _FIRST, 0, self.symbols, step[None]), np.where(match, 0, other))
        # Each symbol is the one `delay` steps earlier plus a shift: a running sum of stride `delay`, by doubling.
        stride = delay
        for _ in range((self.steps // self.min_delay).bit_length()):
            before = np.take_along_axis(symbol, np.maximum(step - stride, 0), axis=1)
            symbol = symbol + np.where(step >= stride, before, 0)
            stride = stride * 2
        return 1 + delay * self.symbols + symbol % self.symbols, np.where(opened, UNASKED, match)


class DelayedMatch(SingleEnv):
    """N=1 view of `BatchedDelayedMatch`."""

    batched = BatchedDelayedMatch
