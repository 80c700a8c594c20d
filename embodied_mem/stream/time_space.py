"""One block that predicts the next slots of a scene from its slots now and before.

    space    x_s = S_t + attention of the slots of the frame among each other
    time     x_t = S_t + attention of slot o to its own history, with a code of age
    fuse     "sum": x_s + x_t;  "space_first" or "time_first": one after the other;  then a residual MLP, LayerNorm

STATM (Li et al. 2024): a slot keeps its place, so slot o at t is slot o at t - 1. The published code has no code of
time in the buffer, which makes the order of the past invisible; ``time_encoding=False`` gives that.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError

Fuse = Literal["sum", "space_first", "time_first"]


class TimeSpaceBlock(nn.Module):
    """Slots (B, O, D) and their history (B, L, O, D) to the slots of the next frame (B, O, D)."""

    def __init__(
        self, width: int, max_len: int = 6, *, heads: int = 2, fuse: Fuse = "sum", time_encoding: bool = True
    ) -> None:
        """Make the block.

        Args:
            width: D.
            max_len: longest history L.
            heads: of both attentions.
            fuse: how space and time come together.
            time_encoding: whether the order of the past is visible.

        Raises:
            UsageError: the width does not divide by the heads, or the fuse is unknown.
        """
        super().__init__()
        if width % heads or max_len < 1:
            raise UsageError(f"expected width divisible by heads = {heads} and max_len >= 1, got {width} and {max_len}")
        if fuse not in ("sum", "space_first", "time_first"):
            raise UsageError(f"expected fuse sum, space_first or time_first, got {fuse!r}")
        self.max_len, self.fuse = max_len, fuse
        self.space = nn.MultiheadAttention(width, heads, batch_first=True)
        self.time = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.norm = nn.LayerNorm(width)
        self.age = nn.Parameter(0.5 * torch.randn(max_len, width)) if time_encoding else None

    def forward(self, slots: Tensor, history: Tensor) -> Tensor:
        """Return the next slots (B, O, D).

        Args:
            slots: (B, O, D) float, now.
            history: (B, L, O, D) float, from old to new, ``slots`` the last of them; 1 <= L <= max_len.

        Raises:
            UsageError: shapes do not fit.
        """
        B, L, slots_each, D = history.shape
        if slots.shape != (B, slots_each, D) or not 1 <= L <= self.max_len:
            raise UsageError(
                f"expected history (B, L <= {self.max_len}, O, D) for slots {tuple(slots.shape)}, "
                f"got {tuple(history.shape)}"
            )
        if self.fuse == "sum":
            mixed = self._in_space(slots) + self._in_time(slots, history)
        elif self.fuse == "space_first":
            mixed = self._in_time(self._in_space(slots), history)
        else:
            mixed = self._in_space(self._in_time(slots, history))
        return self.norm(mixed + self.mlp(mixed))

    def _in_space(self, slots: Tensor) -> Tensor:
        return slots + self.space(slots, slots, slots, need_weights=False)[0]

    def _in_time(self, slots: Tensor, history: Tensor) -> Tensor:
        B, L, slots_each, D = history.shape
        past = history if self.age is None else history + self.age[:L].flip(0).view(1, L, 1, D)
        past = past.transpose(1, 2).reshape(B * slots_each, L, D)
        asked = slots.reshape(B * slots_each, 1, D)
        return slots + self.time(asked, past, past, need_weights=False)[0].view(B, slots_each, D)
