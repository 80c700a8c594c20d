"""Episodes of a batch as rows of their own, so that a recurrent loop meets no reset.

`find_episodes` lists the episodes of (B, T) rows, longest first. Two layouts follow from it:

* stairs: all tokens at position 0 of their episode, then all at position 1, ...; since the longest come first, the
  episodes still running at position p are the first ``sizes[p]``. A loop over positions then works on contiguous
  slices, takes as many steps as the longest episode, and wastes nothing (`to_stairs`, `from_stairs`). It is also the
  order of torch's packed sequences;
* padded rows: (E, L, ...) with right padding, for kernels that want rectangles (`repack_episodes`, `unpack_episodes`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["Episodes", "find_episodes", "from_stairs", "repack_episodes", "to_stairs", "unpack_episodes"]


@dataclass(frozen=True)
class Episodes:
    """Where the E episodes of a (B, T) batch lie, longest first; N real tokens in all."""

    shape: tuple[int, int]
    """B and T."""
    row: Tensor
    """(E,) int64 row of each episode."""
    live: Tensor
    """(E,) bool, True where the episode continues the carried state of its row."""
    length: Tensor
    """(E,) int64 tokens of each episode."""
    sizes: list[int]
    """Number of episodes longer than p tokens, for every position p; non-increasing."""
    tokens: Tensor
    """(N,) int64 place b * T + t of each token, in stairs order."""
    places: Tensor
    """(B * T,) int64 stairs place of each token; 0 where padded."""
    last: Tensor
    """(B,) int64 last episode of each row; -1 where the row has no real token."""
    valid: Tensor | None
    """(B, T) bool real tokens, None when all are."""


def find_episodes(resets: Tensor, valid: Tensor | None = None) -> Episodes:
    """List the episodes of every row.

    Args:
        resets: (B, T) bool, True where a token opens an episode; False where padded.
        valid: (B, T) bool real tokens (right padding), None when all are.
    """
    B, T = resets.shape
    device = resets.device
    resets = resets.contiguous()
    starts = resets.clone()
    starts[:, 0] = True
    if valid is not None:
        starts &= valid
    start = starts.view(-1).nonzero()[:, 0]
    row = start // T
    count = torch.full((B,), T, device=device) if valid is None else valid.sum(1)
    following = torch.cat([start[1:], start.new_full((1,), B * T)])
    length = torch.minimum(following, row * T + count[row]) - start
    length, order = length.sort(descending=True, stable=True)
    start, row = start[order], row[order]
    E = len(start)
    longest = int(length[0]) if E else 0
    # episodes longer than p: all but those of length <= p
    sizes = E - torch.bincount(length, minlength=longest + 1)[:longest].cumsum(0)
    offsets = sizes.cumsum(0) - sizes
    rank = torch.arange(E, device=device).repeat_interleave(length)
    position = torch.arange(len(rank), device=device) - (length.cumsum(0) - length).repeat_interleave(length)
    place, token = offsets[position] + rank, start[rank] + position
    latest = torch.full((B,), -1, device=device).scatter_reduce(0, row, start, "amax")
    by_start = torch.zeros(B * T, dtype=torch.int64, device=device)
    by_start[start] = torch.arange(E, device=device)
    return Episodes(
        shape=(B, T),
        row=row,
        live=~resets.view(-1)[start] & (start % T == 0),
        length=length,
        sizes=sizes.tolist(),
        tokens=torch.empty_like(token).index_copy_(0, place, token),
        places=torch.zeros(B * T, dtype=torch.int64, device=device).index_copy_(0, token, place),
        last=torch.where(latest >= 0, by_start[latest.clamp(min=0)], -1),
        valid=valid,
    )


def to_stairs(x: Tensor, episodes: Episodes) -> Tensor:
    """(B, T, ...) -> (N, ...): the real tokens in stairs order."""
    return _Permute.apply(x.flatten(0, 1), episodes.tokens, episodes.places, episodes.valid)


def from_stairs(x: Tensor, episodes: Episodes) -> Tensor:
    """(N, ...) -> (B, T, ...), the inverse of `to_stairs`; padded places hold some token, for the caller to mask."""
    return _Permute.apply(x, episodes.places, episodes.tokens, None).unflatten(0, episodes.shape)


class _Permute(torch.autograd.Function):
    """Gather whose gradient is the inverse gather: no scatter, no atomic addition."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor, valid: Tensor | None) -> Tensor:
        ctx.save_for_backward(inverse, valid)
        return x.index_select(0, index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inverse, valid = ctx.saved_tensors
        dx = grad.index_select(0, inverse)
        if valid is not None:
            dx = dx.masked_fill(~valid.view(-1, *[1] * (dx.dim() - 1)), 0)
        return dx, None, None, None


def repack_episodes(x: Tensor, resets: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor, Episodes]:
    """Give every episode a row of its own.

    Args:
        x: (B, T, ...). resets: (B, T) bool. valid: (B, T) bool right padding, or None.

    Returns:
        rows (E, L, ...) padded with zeros on the right, which of them are real (E, L) bool, and the episodes.

    >>> x = torch.arange(4.0).view(1, 4)
    >>> rows, real, episodes = repack_episodes(x, torch.tensor([[False, True, False, False]]))
    >>> rows.tolist(), bool((unpack_episodes(rows, episodes) == x).all())
    ([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]], True)
    """
    episodes = find_episodes(resets, valid)
    rows = x.new_zeros(len(episodes.row) * len(episodes.sizes), *x.shape[2:])
    rows = rows.index_copy(0, _padded_places(episodes), to_stairs(x, episodes))
    rows = rows.unflatten(0, (len(episodes.row), len(episodes.sizes)))
    real = torch.arange(len(episodes.sizes), device=x.device) < episodes.length.unsqueeze(1)
    return rows, real, episodes


def unpack_episodes(rows: Tensor, episodes: Episodes) -> Tensor:
    """(E, L, ...) -> (B, T, ...), the inverse of `repack_episodes`; 0 where padded."""
    x = from_stairs(rows.flatten(0, 1).index_select(0, _padded_places(episodes)), episodes)
    if episodes.valid is None:
        return x
    return torch.where(episodes.valid.view(*episodes.shape, *[1] * (x.dim() - 2)), x, 0)


def _padded_places(episodes: Episodes) -> Tensor:
    """(N,) place e * L + p of each stairs token in the padded rows."""
    device = episodes.row.device
    sizes = torch.tensor(episodes.sizes, dtype=torch.int64, device=device)
    position = torch.arange(len(sizes), device=device).repeat_interleave(sizes)
    rank = torch.arange(len(position), device=device) - (sizes.cumsum(0) - sizes)[position]
    return rank * len(sizes) + position
