"""Morton codes and probing of a voxel table, shared by the kernels of `unproject_insert` and `map_query`."""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def spread(x):
    """Put two zeros between the bits of int64 numbers of [0, 2^21)."""
    x = (x | (x << 32)) & 0x1F00000000FFFF
    x = (x | (x << 16)) & 0x1F0000FF0000FF
    x = (x | (x << 8)) & 0x100F00F00F00F00F
    x = (x | (x << 4)) & 0x10C30C30C30C30C3
    return (x | (x << 2)) & 0x1249249249249249


@triton.jit
def encode(x, y, z):
    """Interleave the bits of int64 voxels."""
    return spread(x) | (spread(y) << 1) | (spread(z) << 2)


@triton.jit
def first_slot(code, C):
    """Return where probing starts, int32."""
    mixed = (code ^ (code >> 31)) * 0x7FB5D329728EA185
    return ((mixed ^ (mixed >> 32)) & (C - 1)).to(tl.int32)


@triton.jit
def take_cells(keys, code, pending, C):
    """Return the slots of codes, which take an empty cell where the table lacks them; -1 where it is full.

    ``keys`` points to the table of the row. The result differs from -1 only for lanes that were pending.
    """
    slot = first_slot(code, C)
    found = tl.full(code.shape, -1, tl.int32)
    step = 0
    while (tl.max(pending.to(tl.int32), 0) > 0) & (step < C):
        there = tl.load(keys + slot, mask=pending, other=0)
        free = pending & (there == -1)
        if tl.max(free.to(tl.int32), 0) > 0:
            # lanes that want no cell compare with a key that none has
            before = tl.atomic_cas(keys + slot, tl.where(free, -1, -2).to(tl.int64), code)
            there = tl.where(free & (before == -1), code, tl.where(free, before, there))
        here = pending & (there == code)
        found = tl.where(here, slot, found)
        pending = pending & (here == 0)
        slot = (slot + 1) & (C - 1)
        step += 1
    return found


@triton.jit
def cells_of(keys, code, pending, C):
    """Return the slots of codes, -1 where the table lacks them; ``keys`` points to the table of the row."""
    slot = first_slot(code, C)
    found = tl.full(code.shape, -1, tl.int32)
    step = 0
    while (tl.max(pending.to(tl.int32), 0) > 0) & (step < C):
        there = tl.load(keys + slot, mask=pending, other=-1)
        here = pending & (there == code)
        found = tl.where(here, slot, found)
        pending = pending & (there != -1) & (here == 0)
        slot = (slot + 1) & (C - 1)
        step += 1
    return found
