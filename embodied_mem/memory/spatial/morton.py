"""Morton codes: one int64 for a cell of a cube, whose order is the depth-first order of an octree.

A cube of side W is cut into 2^depth cells per axis. The bits of the three cell numbers are interleaved, x lowest, so a
parent's code is ``code >> 3`` and the cells below a node are one contiguous range of codes. Depth is at most 21: 63
bits fit an int64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from embodied_mem.errors import UsageError
from embodied_mem.kernels import morton_decode as decode
from embodied_mem.kernels import morton_encode as encode

__all__ = ["MAX_DEPTH", "cells_of", "centres_of", "check_depth", "children", "decode", "encode", "parent"]

MAX_DEPTH = 21
"""Bits per axis that an int64 code can hold."""


def check_depth(depth: int) -> None:
    """Raise unless 1 <= depth <= 21."""
    if not 1 <= depth <= MAX_DEPTH:
        raise UsageError(f"expected an octree depth in [1, {MAX_DEPTH}], got {depth}; choose a larger cell")


def parent(codes: Tensor, levels: int = 1) -> Tensor:
    """Return the codes (...) of the nodes ``levels`` above."""
    return codes >> (3 * levels)


def children(codes: Tensor, levels: int = 1) -> tuple[Tensor, Tensor]:
    """Return the range [first, last) (...) of the codes that lie below nodes (...) ``levels`` above them."""
    return codes << (3 * levels), (codes + 1) << (3 * levels)


def cells_of(points: Tensor, cell: float, depth: int) -> tuple[Tensor, Tensor]:
    """Return the cells (..., 3) int64 of points (..., 3) metres, and which points lie in the cube, (...) bool.

    The cube is centred on the origin. The origin is the *centre* of a cell, so that an agent that moves by whole cells
    stands on centres and never on an edge, where rounding would decide. Computed in float64, for the same reason.
    Points outside are clipped to the cube's rim.
    """
    half, last = 1 << (depth - 1), (1 << depth) - 1
    number = (points.double() / cell + 0.5).floor()
    # a NaN has no cell: it compares as outside
    inside = ((number >= -half) & (number <= last - half)).all(-1)
    number = torch.where(inside.unsqueeze(-1), number, number.nan_to_num(0.0, last, -half).clamp(-half, last - half))
    return number.long() + half, inside


def centres_of(cells: Tensor, cell: float, depth: int) -> Tensor:
    """Return the centres (..., 3) float64 metres of cells (..., 3) int64."""
    return (cells - (1 << (depth - 1))).double() * cell
