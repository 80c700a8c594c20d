"""Ring of the last M items of every row.

``head`` is the slot written last, ``fill`` the number of items that exist. A reset sets ``fill`` to 0 and touches
nothing else, so it costs O(1): what a slot holds counts only where `ring_mask` says so, and an empty ring is empty by
counter, never by content. Content left by an earlier episode may be anything, also NaN: mask it by ``where`` before
use.
"""

from __future__ import annotations

import torch
from torch import Tensor

from embodied_mem.kernels import bank_write

__all__ = ["ring_age", "ring_extend", "ring_mask", "ring_write"]


def ring_age(head: Tensor, M: int) -> Tensor:
    """Return how many writes ago each slot was written, were the ring full: (B,) int -> (B, M) int, 0 = the latest."""
    return (head.unsqueeze(1) - torch.arange(M, device=head.device, dtype=head.dtype)) % M


def ring_mask(head: Tensor, fill: Tensor, M: int) -> Tensor:
    """Return which slots hold an item: (B,) int heads and fills -> (B, M) bool, True = holds one.

    >>> ring_mask(torch.tensor([1]), torch.tensor([3]), 4).tolist()
    [[True, True, False, True]]
    """
    return ring_age(head, M) < fill.unsqueeze(1)


def ring_write(
    ring: Tensor, head: Tensor, fill: Tensor, item: Tensor, *, write: Tensor | None = None, donate: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Write one item per row.

    Args:
        ring: (B, M, ...). head, fill: (B,) int; set ``fill`` to 0 first in rows that reset.
        item: (B, ...).
        write: (B,) bool rows that write, None for all.
        donate: write into ``ring`` itself.

    Returns:
        ring, head and fill after the write, same shapes and dtypes.
    """
    B, M = ring.shape[:2]
    slot = (head + 1) % M
    if (
        donate
        and ring.is_cuda
        and ring.is_contiguous()
        and not torch.is_grad_enabled()
        and head.dtype == fill.dtype == torch.int32
    ):
        cursor, fill = slot.clone(), fill.clone()
        bank_write(ring, fill, cursor, None, item.to(ring.dtype), mask=write)
        return ring, (slot if write is None else torch.where(write, slot, head)), fill
    where = slot.to(torch.int64).view(B, *[1] * (ring.dim() - 1)).expand(B, 1, *ring.shape[2:])
    new = item.to(ring.dtype).unsqueeze(1)
    if write is None:
        head, fill = slot, (fill + 1).clamp(max=M)
    else:
        new = torch.where(write.view(B, *[1] * (ring.dim() - 1)), new, ring.gather(1, where))
        head, fill = torch.where(write, slot, head), torch.where(write, (fill + 1).clamp(max=M), fill)
    ring = ring.scatter_(1, where, new) if donate else ring.scatter(1, where, new)
    return ring, head, fill


def ring_extend(
    ring: Tensor,
    head: Tensor,
    fill: Tensor,
    items: Tensor,
    resets: Tensor | None = None,
    *,
    write: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what T calls of `ring_write` leave, in one gather.

    Args:
        ring: (B, M, ...). head, fill: (B,) int.
        items: (B, T, ...).
        resets: (B, T) bool, True where ``fill`` becomes 0 before the write of that token.
        write: (B, T) bool tokens that are written, None for all.

    Returns:
        ring, head and fill after the last token, same shapes and dtypes.
    """
    (B, M), T = ring.shape[:2], items.shape[1]
    if write is None:
        write = torch.ones(B, T, dtype=torch.bool, device=ring.device)
    count = write.sum(1)
    end = head.to(torch.int64) + count
    slots = torch.arange(M, device=ring.device)
    # the latest of the written tokens that fell on each slot; negative where none did
    latest = count.unsqueeze(1) - 1 - (end.unsqueeze(1) - slots) % M
    order = torch.argsort(~write, dim=1, stable=True)
    source = order.gather(1, latest.clamp(min=0))
    shape = (B, M, *[1] * (ring.dim() - 2))
    taken = items.to(ring.dtype).gather(1, source.view(shape).expand(B, M, *ring.shape[2:]))
    extended = torch.where((latest >= 0).view(shape), taken, ring)
    since, live = count, fill.to(torch.int64)
    if resets is not None:
        written = write.cumsum(1)
        before = torch.where(resets, written - write.to(torch.int64), 0).amax(1)
        since, live = count - before, torch.where(resets.any(1), 0, live)
    return extended, (end % M).to(head.dtype), (live + since).clamp(max=M).to(fill.dtype)
