"""Encoder ``text_bytes``: UTF-8 bytes (`instruction`), zero-padded, without a vocabulary.

Every run of three bytes is hashed into a table of vectors and the vectors of the text are averaged (a bag of character
trigrams, as in Wieting et al. 2016 and fastText). It needs no download and costs one gather per step. Limit: word order
beyond three bytes is not seen, which goals such as "find the red mug" do not need.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.perception.base import Encoder
from embodied_mem.registry import register


@dataclass(frozen=True)
class TextBytesConfig:
    """Options of the encoder ``text_bytes``."""

    width: int = 32
    """Size of a text vector."""
    table: int = 2048
    """Rows of the hash table."""


@register("encoder", "text_bytes", about="UTF-8 bytes (L,) uint8 as a bag of hashed trigrams")
class TextBytesEncoder(Encoder):
    """Bag of hashed byte trigrams."""

    Config = TextBytesConfig

    def __init__(self, config: TextBytesConfig, space: spaces.Box) -> None:
        """Build the table for an (L,) uint8 Box.

        Raises:
            UsageError: another shape or dtype.
        """
        super().__init__()
        if len(space.shape) != 1 or space.dtype != np.uint8:
            raise UsageError(f"expected text as (L,) uint8, got {space.shape} {space.dtype}")
        self.table = config.table
        self.embedding = nn.Embedding(config.table, config.width)
        self.out_dim = config.width

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, width) float32 for ``x`` (N, L) uint8; an empty text gives zeros."""
        codes = nn.functional.pad(x.long(), (1, 1))
        left, here, right = codes[:, :-2], codes[:, 1:-1], codes[:, 2:]
        # Odd multipliers below 2^21 keep the products inside int64 and spread neighbouring bytes over the table.
        hashed = (left * 1_000_003 + here * 999_983 + right * 786_433 + 12_289) % self.table
        present = (here != 0).unsqueeze(-1)
        total = torch.where(present, self.embedding(hashed), 0.0).sum(1)
        return total / present.sum(1).clamp(min=1).sqrt()
