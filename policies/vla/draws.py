"""Random numbers of samples that are a part of a larger batch.

Those of the whole batch are drawn and those of the part are returned, so that N processes with the same seed draw
together what one process draws alone. That costs every process the draws of all, which is little beside a network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """Draws for the samples ``first`` to ``first + n - 1`` of ``total``, in the order of the calls."""

    generator: torch.Generator
    """Of all draws; its device is theirs."""
    first: int
    """Samples that stand before the part."""
    total: int
    """Samples of the whole batch."""

    def normal(self, like: Tensor) -> Tensor:
        """Return standard normal numbers in the shape of ``like`` (n, ...)."""
        drawn = like.new_empty(self.total, *like.shape[1:]).normal_(generator=self.generator)
        return drawn[self.first : self.first + len(like)]

    def uniform(self, n: int) -> Tensor:
        """Return (n,) float32 in [0, 1)."""
        drawn = torch.rand(self.total, generator=self.generator, device=self.generator.device)
        return drawn[self.first : self.first + n]

    def integers(self, high: int, n: int) -> Tensor:
        """Return (n,) int64 in [0, high)."""
        drawn = torch.randint(high, (self.total,), generator=self.generator, device=self.generator.device)
        return drawn[self.first : self.first + n]
