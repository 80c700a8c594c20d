"""N-parity: after every bit, say whether the number of ones among the last n bits is odd.

Task as in studies of how timescales emerge under curricula (Khajehabdollahi et al. 2023); steps and rewards are ours.
Bits are fair and independent. The first question comes with bit n; every later bit asks again.

Observation: (2,) float32: the bit as -1 or 1, and n / n_max (constant within an episode, 1 where n is fixed). Action: 1
odd, 0 even. Reward: 1 / (T - n + 1) per right answer; T = ``length`` steps.

Correlation horizon: n - 1 steps, sliding: the oldest bit must leave as the newest comes in. Without memory 0.5 for n >=
2 (the other bits are fair). Oracle 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from embodied_mem.envs import rng
from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.probes.stream import UNASKED, BatchedStream, whole

_BIT, _N = range(2)


class BatchedNParity(BatchedStream):
    """N streams of bits."""

    def __init__(
        self, num_envs: int = 1, *, n: int = 3, min_n: int | None = None, length: int = 64, **kwargs: Any
    ) -> None:
        """Set up the streams.

        Args:
            num_envs: number of rows.
            n: bits counted, >= 2; the largest number where ``min_n`` is given.
            min_n: where given, each episode draws its number uniformly from [min_n, n] (a curriculum).
            length: steps T of an episode, >= n.
            kwargs: see `BatchedEnv`.

        Raises:
            UsageError: a value is out of range.
        """
        self.n = whole("n", n, 2)
        self.min_n = self.n if min_n is None else whole("min_n", min_n, 2, self.n)
        levels = np.arange(self.n + 1) / self.n
        table = np.zeros((1 + 2 * (self.n + 1), 2), dtype=np.float32)
        # Code 1 + 2 n + bit.
        table[1::2, 0], table[2::2, 0] = -1, 1
        table[1::2, 1] = table[2::2, 1] = levels
        super().__init__(num_envs, table=table, answers=2, steps=whole("length", length, self.n), **kwargs)

    def _draw(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        step = np.arange(self.steps)
        bit = (rng.bits(keys[:, None], _BIT, step[None]) >> np.uint64(63)).astype(np.int64)
        n = rng.integers(keys, _N, self.min_n, self.n + 1)[:, None]
        total = np.zeros((len(keys), self.steps + 1), dtype=np.int64)
        np.cumsum(bit, axis=1, out=total[:, 1:])
        older = np.take_along_axis(total, np.maximum(step + 1 - n, 0), axis=1)
        target = np.where(step + 1 >= n, (total[:, 1:] - older) & 1, UNASKED)
        return 1 + 2 * n + bit, target


class NParity(SingleEnv):
    """N=1 view of `BatchedNParity`."""

    batched = BatchedNParity
