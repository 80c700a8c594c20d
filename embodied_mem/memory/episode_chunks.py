"""Episodes of a batch cut into chunks of C tokens counted from the start of each episode, longest episode first.

Chunks that count from the episode's start make a reset exactly a fresh start, but fall on different steps in every row.
So every episode becomes a chain of chunks of its own: chunk j of all chains is one contiguous block, the chains still
running at j are its first ``sizes[j]``, and a loop over chunks meets no reset and wastes nothing but the last chunk's
empty slots. A chain that continues the carried state of its row starts inside a chunk: its first slots, ``held`` of
them, stand for tokens that the state has already taken in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from embodied_mem.memory.segments import reset_distance, segment_ids

__all__ = [
    "EpisodeChunks",
    "HeadPlaces",
    "find_chunks",
    "from_chunks",
    "from_heads",
    "head_places",
    "to_chunks",
    "to_heads",
]


@dataclass(frozen=True)
class EpisodeChunks:
    """Where the M chunks of the E episodes of a (B, T) batch lie."""

    shape: tuple[int, int]
    """B and T."""
    chunk: int
    """Slots of a chunk, C."""
    sizes: list[int]
    """Chains with more than j chunks, for every j; non-increasing."""
    last_sizes: list[int]
    """How many of the chains that end with chunk j are the last of their row; they come first among those that end."""
    row: Tensor
    """(E,) int64 row of each chain."""
    live: Tensor
    """(E,) bool, True where the chain continues the carried state of its row."""
    held: Tensor
    """(E,) int64 slots of the first chunk that the carried state holds, 0 unless ``live``."""
    filled: Tensor
    """(E,) int64 slots of the last chunk that are taken, 1 .. C."""
    last: Tensor
    """(B,) int64 place of each row's last chain among those that are last of their row; -1 where no token is real."""
    token: Tensor
    """(M * C,) int64 place b * T + t of the token of each slot; 0 where there is none."""
    real: Tensor
    """(M, C) bool, True where a slot has a token of this batch."""
    place: Tensor
    """(B * T,) int64 slot of each token; 0 where padded."""
    valid: Tensor | None
    """(B, T) bool real tokens, None when all are."""


def find_chunks(resets: Tensor, phase: Tensor, chunk: int, valid: Tensor | None = None) -> EpisodeChunks:
    """List the chunks of every episode.

    Args:
        resets: (B, T) bool, True where a token opens an episode; False where padded.
        phase: (B,) int64 tokens that the carried state has taken in since its last full chunk, 0 .. chunk - 1.
        chunk: C >= 1.
        valid: (B, T) bool real tokens (right padding), None when all are.

    >>> chunks = find_chunks(torch.tensor([[False, False, True, False, False]]), torch.tensor([1]), 2)
    >>> chunks.sizes, chunks.token.view(-1, 2).tolist(), chunks.real.tolist()
    ([2, 2], [[2, 3], [0, 0], [4, 0], [1, 0]], [[True, True], [False, True], [True, False], [True, False]])
    """
    B, T = resets.shape
    device = resets.device
    step = torch.arange(T, device=device)
    count = torch.where(segment_ids(resets) > 0, reset_distance(resets), phase.unsqueeze(1) + step)
    starts = resets.clone()
    starts[:, 0] = True
    if valid is not None:
        starts &= valid
    start = starts.view(-1).nonzero()[:, 0]
    E, row = len(start), start // T
    length = torch.full((B,), T, device=device) if valid is None else valid.sum(1)
    following = torch.cat([start[1:], start.new_full((1,), B * T)])
    final = torch.minimum(following, row * T + length[row]) - 1
    is_last = torch.cat([row[1:] != row[:-1], torch.ones(min(E, 1), dtype=torch.bool, device=device)])
    count_flat = count.view(-1)
    chunks = count_flat[final] // chunk + 1
    _, order = (2 * chunks + is_last).sort(descending=True, stable=True)
    rank = torch.empty_like(order).index_copy_(0, order, torch.arange(E, device=device))
    longest = int(chunks.max()) if E else 0
    sizes = E - torch.bincount(chunks, minlength=longest + 1)[:longest].cumsum(0)
    sizes = torch.cat([sizes, sizes.new_zeros(1)])
    # sizes[j] counts chains of more than j chunks; chunk 0 of all of them comes first, then chunk 1, ...
    offsets = sizes.cumsum(0) - sizes
    chain = starts.view(-1).cumsum(0) - 1
    where = torch.arange(B * T, device=device) if valid is None else valid.reshape(-1).nonzero()[:, 0]
    counted = count_flat[where]
    slot = (offsets[counted // chunk] + rank[chain[where]]) * chunk + counted % chunk
    place = torch.zeros(B * T, dtype=torch.int64, device=device).index_copy_(0, where, slot)
    M = int(sizes.sum())
    token = torch.zeros(M * chunk, dtype=torch.int64, device=device).index_copy_(0, slot, where)
    real = torch.zeros(M * chunk, dtype=torch.bool, device=device).index_fill_(0, slot, True)
    ended = torch.bincount(chunks[is_last], minlength=longest + 1)[1:].tolist() if E else []
    live = ~resets.reshape(-1)[start] & (start % T == 0)
    last = torch.full((B,), -1, dtype=torch.int64, device=device)
    # finished chains are collected chunk by chunk, the ones that end with chunk 0 first
    ends_at = chunks[order][is_last[order]]
    _, collected = ends_at.sort(stable=True)
    last[row[order][is_last[order]][collected]] = torch.arange(len(collected), device=device)
    return EpisodeChunks(
        shape=(B, T),
        chunk=chunk,
        sizes=sizes[:-1].tolist(),
        last_sizes=ended,
        row=row[order],
        live=live[order],
        held=torch.where(live, phase[row], 0)[order],
        filled=(count_flat[final] % chunk + 1)[order],
        last=last,
        token=token,
        real=real.view(-1, chunk),
        place=place,
        valid=valid,
    )


def to_chunks(x: Tensor, chunks: EpisodeChunks) -> Tensor:
    """(B, T, ...) -> (M, C, ...); 0 where a slot has no token of this batch."""
    flat = _Place.apply(x.flatten(0, 1), chunks.token, chunks.place, chunks.real.view(-1), chunks.valid)
    return flat.unflatten(0, (-1, chunks.chunk))


def from_chunks(x: Tensor, chunks: EpisodeChunks) -> Tensor:
    """(M, C, ...) -> (B, T, ...), the inverse of `to_chunks`; 0 where padded."""
    flat = _Place.apply(x.flatten(0, 1), chunks.place, chunks.token, chunks.valid, chunks.real.view(-1))
    return flat.unflatten(0, chunks.shape)


class HeadPlaces(NamedTuple):
    """Where the rows of H heads lie in a layout that has the head before the slot, (M, H, C, ...)."""

    source: Tensor
    """(M * H * C,) int64 row (b * T + t) * H + h of each slot; 0 where there is none."""
    inverse: Tensor
    """(B * T * H,) int64 slot of each row; 0 where padded."""
    empty: Tensor
    """(S,) int64 slots without a token."""
    padded: Tensor
    """(P,) int64 rows that are padding."""


def head_places(chunks: EpisodeChunks, heads: int) -> HeadPlaces:
    """Return the places of ``heads`` heads."""
    C, head = chunks.chunk, torch.arange(heads, device=chunks.token.device)
    index = (chunks.token.view(-1, 1, C) * heads + head.view(1, -1, 1)).view(-1)
    inverse = ((chunks.place // C * heads).unsqueeze(1) + head) * C + (chunks.place % C).unsqueeze(1)
    chunk, slot = (~chunks.real).nonzero().unbind(1)
    empty = ((chunk.unsqueeze(1) * heads + head) * C + slot.unsqueeze(1)).view(-1)
    padded = empty[:0]
    if chunks.valid is not None:
        padded = (((~chunks.valid).view(-1).nonzero() * heads) + head).view(-1)
    return HeadPlaces(index, inverse.view(-1), empty, padded)


def to_heads(x: Tensor, places: HeadPlaces, chunk: int) -> Tensor:
    """(B, T, H, d) -> (M, H, chunk, d), contiguous; 0 where a slot has no token of this batch."""
    flat = _HeadPlace.apply(x.flatten(0, 2), places.source, places.inverse, places.empty, places.padded)
    return flat.view(-1, x.shape[2], chunk, x.shape[3])


def from_heads(x: Tensor, places: HeadPlaces, shape: tuple[int, int]) -> Tensor:
    """(M, H, C, d) -> (B, T, H, d), the inverse of `to_heads`; 0 where padded."""
    flat = _HeadPlace.apply(x.flatten(0, 2), places.inverse, places.source, places.padded, places.empty)
    return flat.view(*shape, x.shape[1], x.shape[3])


class _HeadPlace(torch.autograd.Function):
    """As `_Place`; the few rows that mean nothing are set to 0 by their numbers."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor, empty: Tensor, empty_inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse, empty_inverse)
        return x.index_select(0, index).index_fill_(0, empty, 0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inverse, empty = ctx.saved_tensors
        return (grad.index_select(0, inverse).index_fill_(0, empty, 0), None, None, None, None)


class _Place(torch.autograd.Function):
    """Gather, 0 where nothing is meant, whose gradient is the inverse gather."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, index: Tensor, inverse: Tensor, keep: Tensor | None, keep_inverse: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(inverse, keep_inverse)
        return _gather(x, index, keep)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (_gather(grad, *ctx.saved_tensors), None, None, None, None)


def _gather(x: Tensor, index: Tensor, keep: Tensor | None) -> Tensor:
    if not len(x):
        return x.new_zeros(len(index), *x.shape[1:])
    found = x.index_select(0, index)
    return found if keep is None else found.masked_fill_(~keep.reshape(-1, *[1] * (x.dim() - 1)), 0)
