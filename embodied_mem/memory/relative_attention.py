"""Multi-head attention with the relative positions of Transformer-XL, over a sliding window of layer inputs.

    score(t, s) = ((q_t + u) . k_s + (q_t + v) . (W_r R_{t-s})) / sqrt(K),     R sinusoidal in the distance t - s

q = W_q x, k = W_k x, v = W_v x. The cache holds layer inputs, not keys and values: half the bytes. A single query maps
itself through W_k and W_r instead of mapping every cached input (the products are the same), so a step costs
H D per cached input and no D^2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from embodied_mem.memory.sliding import Sliding, masked_softmax, skew

__all__ = ["RelativeAttention", "sinusoid"]

_BASE = 10_000.0


class RelativeAttention(nn.Module):
    """Attention of one layer; the biases u and v are its own."""

    def __init__(self, width: int, heads: int, ages: int) -> None:
        """Build the maps for ``ages`` distances 0 .. ages - 1; ``width`` D must be divisible by ``heads``."""
        super().__init__()
        K = width // heads
        self.query, self.key, self.value, self.place = (
            nn.Parameter(torch.empty(heads, width, K).uniform_(-1, 1) * width**-0.5) for _ in range(4)
        )
        self.content_bias, self.place_bias = (nn.Parameter(torch.zeros(heads, K)) for _ in range(2))
        self.out = nn.Linear(width, width, bias=False)
        self.code: Tensor
        self.register_buffer("code", sinusoid(ages, width).flip(0), persistent=False)

    def one(self, x: Tensor, items: Tensor, visible: Tensor) -> Tensor:
        """Attend with one query per row.

        Args:
            x: (n, D). items: (n, A, D) cached inputs, the oldest first and x itself last. visible: (n, A) bool.

        Returns:
            (n, D).
        """
        q = torch.einsum("nd,hdk->nhk", x, self.query)
        content = torch.einsum("nhk,hdk->nhd", q + self.content_bias, self.key) @ items.transpose(1, 2)
        place = torch.einsum("nhk,hdk->nhd", q + self.place_bias, self.place) @ self.code.T
        weights = masked_softmax((content + place) * q.shape[-1] ** -0.5, visible.unsqueeze(1))
        return self.out(torch.einsum("nhd,hdk->nhk", weights @ items, self.value).flatten(1))

    def many(self, x: Tensor, items: Tensor, sliding: Sliding, reach: Tensor, size: int) -> Tensor:
        """Attend with T queries per row, ``size`` at a time.

        Args:
            x: (n, T, D). items: (n, W + T, D) carried inputs, the oldest first, and the queries' own.
            sliding: which items belong to the episode of a query.
            reach: (n, T) int64 age of the oldest item that a query may see, or (1, 1) for all.
            size: queries of a block.

        Returns:
            (n, T, D).
        """
        q = torch.einsum("ntd,hdk->nhtk", x, self.query)
        k = torch.einsum("nsd,hdk->nhsk", items, self.key)
        v = torch.einsum("nsd,hdk->nhsk", items, self.value)
        place = torch.einsum("ad,hdk->hka", self.code, self.place)
        scale, reach = q.shape[-1] ** -0.5, reach.expand(x.shape[:2])
        reads = []
        for block in sliding.blocks(size):
            asked = q[:, :, block.asking]
            scores = (asked + self.content_bias.unsqueeze(1)) @ k[:, :, block.asked].transpose(2, 3)
            scores = scores + skew((asked + self.place_bias.unsqueeze(1)) @ place)
            visible = block.same & (block.age >= 0) & (block.age <= reach[:, block.asking, None])
            reads.append(masked_softmax(scores * scale, visible.unsqueeze(1)) @ v[:, :, block.asked])
        read = reads[0] if len(reads) == 1 else torch.cat(reads, 2)
        return self.out(read.transpose(1, 2).flatten(2))


def sinusoid(ages: int, width: int) -> Tensor:
    """Return the code of distances 0 .. ages - 1, (ages, width): sines, then cosines, of time scales 1 .. 10 000."""
    scales = _BASE ** -(torch.arange(0, width, 2) / width)
    angle = torch.arange(ages).unsqueeze(1) * scales
    return torch.cat([angle.sin(), angle.cos()], 1)
