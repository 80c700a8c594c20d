"""Fixed-capacity tables addressed by key: merge what falls into one key, find its slot or make room, write.

A table of S slots holds one key per slot (-1 where empty). At each step P items arrive, each with a key. Everything is
batched over rows and of fixed shape; no step depends on how many keys are new.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["EMPTY", "Placed", "merge_items", "place", "write_slots"]

EMPTY = -1
"""Key of a slot that holds nothing."""


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
