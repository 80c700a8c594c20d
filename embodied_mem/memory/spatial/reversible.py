"""Reversible stack: a bijection of a vector of two halves, inverted exactly up to rounding (Gomez et al. 2017).

    y1 = x1 + Attn(LN x2),   y2 = x2 + MLP(LN y1);      x2 = y2 - MLP(LN y1),   x1 = y1 - Attn(LN x2)

Attention over one position would be a linear map, so a half of width d is cut into ``pieces`` tokens that attend to
each other. There is no dropout and nothing else random: the inverse holds in training as in evaluation. Everything
runs in the dtype of the parameters, also under autocast, because a rounded residual stream cannot be inverted.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError

__all__ = ["ReversibleStack"]


class ReversibleStack(nn.Module):
    """Blocks that map (..., 2 d) to (..., 2 d) and back."""

    def __init__(self, dim: int, blocks: int = 6, heads: int = 8, pieces: int = 4, expand: int = 4) -> None:
        """Build the stack.

        Args:
            dim: width d of a half, divisible by ``pieces`` * ``heads``.
            blocks: reversible blocks.
            heads: attention heads of a piece.
            pieces: tokens that a half is cut into, at least 2.
            expand: inner width of the MLP over d.

        Raises:
            UsageError: the widths do not divide.
        """
        super().__init__()
        if blocks < 1 or heads < 1 or pieces < 2 or dim % (pieces * heads):
            raise UsageError(
                f"expected blocks, heads >= 1, pieces >= 2 and dim divisible by pieces * heads = {pieces * heads}, "
                f"got {blocks}, {heads}, {pieces} and {dim}"
            )
        self.dim = dim
        self.attend = nn.ModuleList([_Pieces(dim, heads, pieces) for _ in range(blocks)])
        self.mix = nn.ModuleList(
            [
                nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, expand * dim), nn.GELU(), nn.Linear(expand * dim, dim))
                for _ in range(blocks)
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return R(x) (..., 2 d)."""
        with torch.autocast(x.device.type, enabled=False):
            x1, x2 = self._halves(x)
            for attend, mix in zip(self.attend, self.mix):
                x1 = x1 + attend(x2)
                x2 = x2 + mix(x1)
            return torch.cat([x1, x2], -1)

    def inverse(self, y: Tensor) -> Tensor:
        """Return the x (..., 2 d) with R(x) = y."""
        with torch.autocast(y.device.type, enabled=False):
            y1, y2 = self._halves(y)
            for attend, mix in zip(reversed(self.attend), reversed(self.mix)):
                y2 = y2 - mix(y1)
                y1 = y1 - attend(y2)
            return torch.cat([y1, y2], -1)

    def _halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.shape[-1] != 2 * self.dim:
            raise UsageError(f"expected (..., {2 * self.dim}), two halves of {self.dim}, got {tuple(x.shape)}")
        x1, x2 = x.to(next(self.mix.parameters()).dtype).chunk(2, -1)
        return x1, x2


class _Pieces(nn.Module):
    """Attention among the pieces of one half."""

    def __init__(self, dim: int, heads: int, pieces: int) -> None:
        super().__init__()
        self.heads, self.pieces = heads, pieces
        self.norm = nn.LayerNorm(dim)
        # pieces are told apart by a learned place, else attention could not
        self.place = nn.Parameter(0.1 * torch.randn(pieces, dim // pieces))
        self.qkv = nn.Linear(dim // pieces, 3 * dim // pieces, bias=False)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).unflatten(-1, (self.pieces, -1)) + self.place
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(-2, -3) for part in self.qkv(tokens).chunk(3, -1))
        read = F.scaled_dot_product_attention(q, k, v)
        return self.out(read.transpose(-2, -3).flatten(-3))
