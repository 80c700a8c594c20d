"""Morton codes and the hash table of a voxel map, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["EMPTY", "cells_of", "first_slot", "morton_decode", "morton_encode", "take_cells"]

EMPTY = -1
"""Key of an empty cell."""
_MIX = 0x7FB5D329728EA185
# A number of 21 bits with two zeros between its bits, by steps: (shift, mask).
_SPREAD = (
    (32, 0x1F00000000FFFF),
    (16, 0x1F0000FF0000FF),
    (8, 0x100F00F00F00F00F),
    (4, 0x10C30C30C30C30C3),
    (2, 0x1249249249249249),
)
# The same for 10 bits, which int32 holds.
_SPREAD_10 = ((16, 0x030000FF), (8, 0x0300F00F), (4, 0x030C30C3), (2, 0x09249249))
_GATHER = ((2, 0x10C30C30C30C30C3), (4, 0x100F00F00F00F00F), (8, 0x1F0000FF0000FF), (16, 0x1F00000000FFFF))


def morton_encode(voxels: Tensor) -> Tensor:
    """Interleave the bits of voxels (..., 3) integer of [0, 2^21) to codes (...) int64, those of x lowest.

    ``code >> 3`` is the code of the voxel of twice the side that holds it.

    >>> morton_encode(torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [3, 3, 3]])).tolist()
    [1, 2, 4, 63]
    """
    x, y, z = spread(voxels.movedim(-1, 0).to(torch.int64, copy=True)).unbind(0)
    return x | (y << 1) | (z << 2)


def spread(x: Tensor) -> Tensor:
    """Put two zeros between the bits of numbers of [0, 2^21) int64, or of [0, 2^10) int32, in place."""
    for shift, bits in _SPREAD_10 if x.dtype == torch.int32 else _SPREAD:
        x.bitwise_or_(x << shift).bitwise_and_(bits)
    return x


def morton_decode(codes: Tensor) -> Tensor:
    """Return the voxels (..., 3) int64 of codes (...) int64.

    >>> morton_decode(torch.tensor([5])).tolist()
    [[1, 0, 1]]
    """
    x = torch.stack([codes, codes >> 1, codes >> 2], -1) & _SPREAD[-1][1]
    for shift, bits in _GATHER:
        x = (x | (x >> shift)) & bits
    return (x | (x >> 32)) & 0x1FFFFF


def first_slot(codes: Tensor, capacity: int) -> Tensor:
    """Return where probing starts, of [0, capacity), capacity a power of two."""
    mixed = (codes ^ (codes >> 31)) * _MIX
    return (mixed ^ (mixed >> 32)) & (capacity - 1)


def cells_of(keys: Tensor, row: Tensor, codes: Tensor) -> Tensor:
    """Look codes up.

    Args:
        keys: (B, C) int64 table. row: (N,) int64 line of the table of every code. codes: (N,) int64, negative for none.

    Returns:
        (N,) int64 slots, -1 where the line does not hold the code.
    """
    return _probe(keys, row, codes, take=False)


def take_cells(keys: Tensor, row: Tensor, codes: Tensor) -> Tensor:
    """As `cells_of`, but codes that the table does not hold take an empty cell, in place; -1 where it is full."""
    return _probe(keys, row, codes, take=True)


def _probe(keys: Tensor, row: Tensor, codes: Tensor, *, take: bool) -> Tensor:
    C, table = keys.shape[1], keys.view(-1)
    row, at = row * C, first_slot(codes, C)
    # the first cell of all codes at once; those that must go on are compacted
    found, going = _visit(table, row + at, codes, take)
    slots = torch.where(found, at, -1)
    left = (going & (codes >= 0)).nonzero().squeeze(1)
    at, code, row = at[left], codes[left], row[left]
    for _ in range(C - 1):
        if not len(left):
            break
        at = (at + 1) & (C - 1)
        found, going = _visit(table, row + at, code, take)
        slots[left[found]] = at[found]
        left, at, code, row = left[going], at[going], code[going], row[going]
    return slots


def _visit(table: Tensor, cell: Tensor, code: Tensor, take: bool) -> tuple[Tensor, Tensor]:
    """Return which codes (N,) stand in their cells, and which must look further."""
    there = table[cell]
    found = (there == code) & (code >= 0)
    free = there == EMPTY
    if not take:
        return found, ~found & ~free
    free = (free & (code >= 0)).nonzero().squeeze(1)
    if len(free):
        at, wanted = cell[free], code[free]
        # of several codes that want one cell one gets it; the others see that and go on
        table[at] = wanted
        found[free] = table[at] == wanted
    return found, ~found
