"""Fixed-capacity tables addressed by key: merge what falls into one key, find its slot or make room, write.

A table of S slots holds one key per slot (-1 where empty). At each step P items arrive, each with a key. Everything is
batched over rows and of fixed shape; no step depends on how many keys are new.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from embodied_mem.kernels import insert_voxels, map_query, morton_encode, voxel_map

__all__ = ["EMPTY", "Placed", "merge_items", "merge_voxels", "place", "write_slots"]

EMPTY = -1
"""Key of a slot that holds nothing."""
PAIRS = 48
"""Items of a step up to which comparing all pairs is faster than a table: 4 times at 16, equal at 64 (one CPU core)."""


class Placed(NamedTuple):
    """Where the items of a step go."""

    slot: Tensor
    """(n, P) int64 slot of each item."""
    found: Tensor
    """(n, P) bool, True where that slot held the item's key already."""


def merge_items(keys: Tensor, real: Tensor, *values: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Average the items that share a key within a step.

    Args:
        keys: (n, P) int64. real: (n, P) bool, False where there is no item.
        values: tensors (n, P, D).

    Returns:
        ``first`` (n, P) bool, True for the first item of each key; and the means (n, P, D), right where ``first``.
    """
    same = (keys.unsqueeze(1) == keys.unsqueeze(2)) & real.unsqueeze(1) & real.unsqueeze(2)
    first = real & (same.int().argmax(2) == torch.arange(keys.shape[1], device=keys.device))
    count = same.sum(2, keepdim=True).clamp(min=1)
    return first, tuple(torch.bmm(same.to(value.dtype), value) / count.to(value.dtype) for value in values)


def merge_voxels(voxels: Tensor, real: Tensor, depth: int, *values: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """As `merge_items` for voxels (n, P, 3) int64 of [0, 2^depth): up to ``PAIRS`` items by pairs, else by a table.

    The table is that of `embodied_mem.kernels.unproject_insert`, one per row and step, filled with the voxels that are
    known already, and `map_query` says in which of its slots each item is: P look-ups instead of P^2 comparisons.
    """
    P = voxels.shape[1]
    if P <= PAIRS:
        return merge_items(morton_encode(voxels), real, *values)
    n, C = len(voxels), 1 << (2 * P - 1).bit_length()
    table = voxel_map(n, C, size=1.0, bits=depth, device=voxels.device)
    insert_voxels(table, voxels, real)
    found = map_query(table, voxels)
    slot = found.slots.squeeze(2).clamp(min=0)
    order = torch.where(real, torch.arange(P, device=voxels.device), P)
    earliest = torch.full((n, C), P, device=voxels.device).scatter_reduce_(1, slot, order, "amin")
    first = real & (earliest.gather(1, slot) == order)
    count = found.points.clamp(min=1)
    at = (slot + C * torch.arange(n, device=voxels.device).unsqueeze(1)).flatten()
    means = []
    for value in values:
        rows = torch.where(real.unsqueeze(-1), value, 0).flatten(0, 1)
        total = value.new_zeros(n * C, value.shape[-1]).index_add(0, at, rows)
        means.append(total[at].view_as(value) / count.to(value.dtype))
    return first, tuple(means)


def place(keys: Tensor, first: Tensor, held: Tensor, order: Tensor) -> Placed:
    """Find the slot of every item; new keys take the slots of lowest order.

    Args:
        keys: (n, P) int64; ``first`` (n, P) bool as of `merge_items`, P <= S.
        held: (n, S) int64 keys of the table. order: (n, S) int64, distinct within a row: what is given up first.
    """
    hit = (held.unsqueeze(1) == keys.unsqueeze(2)) & first.unsqueeze(2)
    found = hit.any(2)
    # slots that are written to anyway are not given up
    spared = order.masked_fill(hit.any(1), torch.iinfo(torch.int64).max)
    victims = spared.topk(keys.shape[1], dim=1, largest=False, sorted=True).indices
    rank = ((first & ~found).cumsum(1) - 1).clamp(min=0)
    return Placed(torch.where(found, hit.int().argmax(2), victims.gather(1, rank)), found)


def write_slots(
    table: Tensor, slot: Tensor, first: Tensor, new: Tensor, share: Tensor | None = None, *, donate: bool = False
) -> Tensor:
    """Return table (n, S, D) with ``new`` (n, P, D) mixed in at ``slot`` (n, P) where ``first``.

    ``share`` (n, P, 1 or D) is the weight of the new value, None for all of it. Written as an addition of the
    difference: its gradient needs no copy of the table. With ``donate`` in place.
    """
    index = slot.unsqueeze(-1).expand(-1, -1, table.shape[-1])
    change = new - table.gather(1, index)
    change = torch.where(first.unsqueeze(-1), change if share is None else share * change, 0)
    return table.scatter_add_(1, index, change) if donate else table.scatter_add(1, index, change)
