"""What tracks learn from each other: the block that makes the next frame's queries out of short and long memories.

    w = sigmoid(MLP(o)),  m = MLP([w o ; o_before])             the short memory, weighted by confidence
    Q = m + p,  K = M + p,  V = o;   a = LN(o + MHA(Q, K, V));   a = FFN(a)      attention across tracks
    q_next = FFN(LN(M + dropout(a)))
    M_next = M + (1 - exp(-dt / horizon)) (o - M)                for tracks whose score exceeds the gate

o outputs of the detector, M long memories (no gradient reaches them through time), p codes of the boxes. MeMOTR (Gao &
Wang 2023, arXiv 2307.15700); its rate 0.01 per frame at 30 frames per second is ``horizon_s`` of 3.3 here, so that the
frame rate does not matter. To be trained with a detector; the stream memory ``tracks`` follows without it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError


class TrackInteraction(nn.Module):
    """Outputs of K tracks to the queries of the next frame and the new long memories; a row per video."""

    def __init__(
        self, width: int, heads: int = 8, *, horizon_s: float = 10 / 3, gate: float = 0.5, dropout: float = 0.0
    ) -> None:
        """Build the block.

        Args:
            width: D of outputs and memories; a multiple of ``heads`` and of 8.
            heads: of the attention.
            horizon_s: seconds over which the long memory fades.
            gate: score that has to be exceeded for a long memory to change.
            dropout: of the attended part.

        Raises:
            UsageError: sizes do not divide, or a value is out of range.
        """
        super().__init__()
        if width % heads or width % 8 or width < 8:
            raise UsageError(f"expected a width that {heads} heads and 8 codes divide, got {width}")
        if horizon_s <= 0 or not 0 <= gate <= 1:
            raise UsageError(f"expected horizon_s > 0 and 0 <= gate <= 1, got {horizon_s} and {gate}")
        self.width, self.horizon_s, self.gate = width, horizon_s, gate
        self.confidence = _mlp(width, width)
        self.merge = _mlp(2 * width, width)
        self.place = _mlp(width, width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm_attended, self.norm_memory = nn.LayerNorm(width), nn.LayerNorm(width)
        self.feed_attended, self.feed_query = _Residual(width), _Residual(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        output: Tensor,
        before: Tensor,
        long: Tensor,
        boxes: Tensor,
        scores: Tensor,
        dt_s: float,
        alive: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return queries (B, K, D) of the next frame and long memories (B, K, D).

        Args:
            output: o (B, K, D) of this frame.
            before: o of the frame before (B, K, D).
            long: M (B, K, D).
            boxes: (B, K, 4) float, 0..1: centre x, y, width, height.
            scores: (B, K) float, 0..1.
            dt_s: seconds since the frame before.
            alive: (B, K) bool, False for rows without a track; None for all. A row without one is attended by none.

        Raises:
            UsageError: shapes differ, or the time does not run forward.
        """
        rows = output.shape[:2]
        if output.shape != (*rows, self.width) or {before.shape, long.shape} != {output.shape}:
            raise UsageError(
                f"expected outputs and memories (B, K, {self.width}), got {tuple(output.shape)}, "
                f"{tuple(before.shape)} and {tuple(long.shape)}"
            )
        if boxes.shape != (*rows, 4) or scores.shape != rows or not dt_s >= 0:
            raise UsageError(f"expected boxes (B, K, 4), scores (B, K) and dt_s >= 0, got {boxes.shape}, {dt_s}")
        held = long.detach()
        short = self.merge(torch.cat([torch.sigmoid(self.confidence(output)) * output, before], -1))
        place = self.place(sine_codes(boxes, self.width))
        hidden = None
        if alive is not None:
            # a row of videos without any track would attend to nothing and give NaN: it attends to all
            hidden = ~alive & alive.any(1, keepdim=True)
        mixed, _ = self.attention(short + place, held + place, output, key_padding_mask=hidden, need_weights=False)
        attended = self.feed_attended(self.norm_attended(output + mixed))
        query = self.feed_query(self.norm_memory(held + self.dropout(attended)))
        return query, self.remembered(output, held, scores, dt_s, alive)

    def remembered(
        self, output: Tensor, long: Tensor, scores: Tensor, dt_s: float, alive: Tensor | None = None
    ) -> Tensor:
        """Return the long memories (B, K, D): those at or below the gate are as they were, bit by bit."""
        share = 1 - math.exp(-dt_s / self.horizon_s)
        sure = scores > self.gate
        if alive is not None:
            sure = sure & alive
        return torch.where(sure[..., None], long + share * (output - long), long)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.norm = _mlp(width, width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.inner(x))


def sine_codes(boxes: Tensor, width: int) -> Tensor:
    """Return (..., width): sines and cosines of every number of boxes (..., 4), width / 8 frequencies each."""
    count = width // 8
    frequency = 2 * math.pi * 20.0 ** -(torch.arange(count, device=boxes.device, dtype=boxes.dtype) / max(1, count))
    angles = boxes[..., None] * frequency
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(-2)


def _mlp(inner: int, outer: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inner, outer), nn.ReLU(), nn.Linear(outer, outer))
