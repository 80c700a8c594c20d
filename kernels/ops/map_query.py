"""Look voxels up in the maps of `unproject_insert`, and walk along rays to the first voxel that is occupied.

`map_query` returns, per query point, its own voxel, its 6 or 26 neighbours, or all voxels whose centres lie within a
radius of that of its own: the cells walked are given by the radius, not by what the map holds. `map_cast` visits the
voxels of a ray in order (Amanatides and Woo 1987); of borders met at the same time that of the first axis counts.
Distances are in lengths of the direction, from the start to the border of the voxel, 0 where the start is occupied.

What lies outside the map is not occupied; a ray that leaves it, or starts outside, ends. There is no gradient.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from embodied_mem.kernels._dispatch import inline, run_triton, unsupported_dtype
from embodied_mem.kernels.ops._voxel_map import VoxelMap, check_map
from embodied_mem.kernels.reference import map_query as reference

__all__ = ["Found", "Hit", "map_cast", "map_query"]

AROUND = ("own", "faces", "all")
_OUTSIDE = -(2**22)
_MOST_CELLS = 4096


class Found(NamedTuple):
    """Voxels around Q points, K each."""

    slots: Tensor
    """(B, Q, K) int64 cells of the table, -1 where the voxel is not occupied."""
    points: Tensor
    """(B, Q, K) int32 points of the voxel, 0 where it is not occupied."""
    mean: Tensor
    """(B, Q, K, F) mean features of the voxel, 0 where it is not occupied."""
    offsets: Tensor
    """(K, 3) int64 voxel of each column relative to that of the point."""


class Hit(NamedTuple):
    """First occupied voxels along Q rays."""

    slots: Tensor
    """(B, Q) int64 cells of the table, -1 where the ray meets none."""
    distance: Tensor
    """(B, Q) in lengths of the direction, inf where the ray meets none."""


def map_query(map: VoxelMap, where: Tensor, around: str = "own", *, radius: float | None = None) -> Found:
    """Look up the voxels around points.

    Args:
        map: of `unproject_insert`.
        where: (B, Q, 3) points in metres (float), or voxels (integer).
        around: "own" (K = 1), "faces" (its 6 neighbours) or "all" (its 26 neighbours); ignored with ``radius``.
        radius: metres; all voxels whose centre is at most that far from the centre of the point's own, itself first.

    Raises:
        ValueError: shapes or arguments are wrong, or an input requires a gradient.

    >>> from embodied_mem.kernels import unproject_insert, voxel_map
    >>> map = voxel_map(1, 8, size=1.0)
    >>> unproject_insert(torch.ones(1, 1, 1), torch.zeros(1, 5), torch.tensor([[1.0, 1.0, 0.5, 0.5]]), map)
    >>> map_query(map, torch.tensor([[[0.2, 0.2, 1.5], [5.0, 0.0, 0.0]]])).points.flatten().tolist()
    [1, 0]
    """
    check_map(map)
    _check(map.keys, where, None)
    if around not in AROUND or (radius is not None and not radius >= 0):
        raise ValueError(f"expected around of {', '.join(AROUND)} and radius >= 0, got {around!r} and {radius}")
    voxels = where if not where.is_floating_point() else _voxels(map, where)
    reach = None if radius is None else radius / map.size
    if where.is_cuda and not torch.compiler.is_compiling():
        # held, so that a graph that is captured copies nothing from the host
        offsets = _offsets_on(around, reach, where.device)
    else:
        offsets = torch.tensor(_offsets(around, reach), device=where.device)
    arguments = (map.keys, voxels.to(torch.int64), offsets, map.bits)
    find = reference.find if inline("map_find", map.keys, traceable=False) else torch.ops.embodied_mem.map_find
    slots = find(*arguments)
    there, flat = slots >= 0, slots.clamp(min=0).flatten(1)
    points = torch.where(there, map.points.gather(1, flat).view_as(slots), 0)
    F = map.total.shape[2]
    total = map.total.gather(1, flat.unsqueeze(-1).expand(-1, -1, F)).view(*slots.shape, F)
    mean = torch.where(there.unsqueeze(-1), total / points.clamp(min=1).unsqueeze(-1), 0)
    return Found(slots, points, mean, offsets)


def map_cast(map: VoxelMap, start: Tensor, direction: Tensor, *, steps: int = 256) -> Hit:
    """Walk along rays to the first occupied voxel.

    Args:
        map: of `unproject_insert`.
        start, direction: (B, Q, 3) float; metres, and any length but 0.
        steps: voxels that a ray visits at most.

    Raises:
        ValueError: shapes are wrong, or an input requires a gradient.
    """
    check_map(map)
    _check(map.keys, start, direction)
    if steps < 1:
        raise ValueError(f"expected steps >= 1, got {steps}")
    wide = torch.float64 if start.dtype == torch.float64 else torch.float32
    place = (start.to(wide) - map.origin.to(wide).unsqueeze(1)) / map.size
    arguments = (map.keys, place, direction.to(wide) / map.size, map.bits, steps)
    cast = reference.cast if inline("map_cast", map.keys, traceable=False) else torch.ops.embodied_mem.map_cast
    return Hit(*cast(*arguments))


def _voxels(map: VoxelMap, where: Tensor) -> Tensor:
    """Return the voxels of points; those of points outside or not finite have no neighbour inside either."""
    wide = torch.float64 if where.dtype == torch.float64 else torch.float32
    place = ((where.to(wide) - map.origin.to(wide).unsqueeze(1)) / map.size).floor()
    near = torch.isfinite(place) & (place.abs() < -_OUTSIDE)
    return torch.where(near, place, _OUTSIDE).to(torch.int64)


def _offsets(around: str, radius: float | None) -> tuple[tuple[int, int, int], ...]:
    """Return offsets in voxels, nearest first."""
    if radius is None and around == "own":
        return ((0, 0, 0),)
    reach = 1 if radius is None else math.floor(radius)
    if (2 * reach + 1) ** 3 > 8 * _MOST_CELLS:
        raise ValueError(f"expected a radius of at most 15 voxels, got {radius}")
    axis = range(-reach, reach + 1)
    cells = [(x, y, z) for z in axis for y in axis for x in axis]
    if radius is not None:
        near = [cell for cell in cells if sum(x * x for x in cell) <= radius * radius]
        return tuple(sorted(near, key=lambda cell: sum(x * x for x in cell)))
    far = 1 if around == "faces" else 3
    return tuple(cell for cell in cells if 1 <= sum(map(abs, cell)) <= far)


@cache
def _offsets_on(around: str, radius: float | None, device: torch.device) -> Tensor:
    return torch.tensor(_offsets(around, radius), device=device)


def _check(keys: Tensor, where: Tensor, direction: Tensor | None) -> None:
    B = keys.shape[0]
    if where.dim() != 3 or where.shape[0] != B or where.shape[2] != 3:
        raise ValueError(f"expected points ({B}, Q, 3), got {tuple(where.shape)}")
    if direction is not None and (direction.shape != where.shape or direction.dtype != where.dtype):
        raise ValueError(
            f"expected start and direction of one shape and dtype, got {tuple(where.shape)} {where.dtype} and "
            f"{tuple(direction.shape)} {direction.dtype}"
        )
    if torch.is_grad_enabled() and (where.requires_grad or (direction is not None and direction.requires_grad)):
        raise ValueError("expected points without gradient, since a look-up has none; detach them")


@torch.library.custom_op(
    "embodied_mem::map_find",
    mutates_args=(),
    schema="(Tensor keys, Tensor voxels, Tensor offsets, int bits) -> Tensor",
)
def _find_op(keys: Tensor, voxels: Tensor, offsets: Tensor, bits: int) -> Tensor:
    if run_triton("map_find", keys):
        from embodied_mem.kernels.triton_ops import map_query as kernel

        return kernel.find(keys, voxels, offsets, bits)
    return reference.find(keys, voxels, offsets, bits)


@_find_op.register_fake
def _(keys: Tensor, voxels: Tensor, offsets: Tensor, bits: int) -> Tensor:
    return voxels.new_empty((*voxels.shape[:2], len(offsets)), dtype=torch.int64)


@torch.library.custom_op(
    "embodied_mem::map_cast",
    mutates_args=(),
    schema="(Tensor keys, Tensor start, Tensor direction, int bits, int steps) -> (Tensor, Tensor)",
)
def _cast_op(keys: Tensor, start: Tensor, direction: Tensor, bits: int, steps: int) -> tuple[Tensor, Tensor]:
    if run_triton("map_cast", keys, unsupported_dtype(start)):
        from embodied_mem.kernels.triton_ops import map_query as kernel

        return kernel.cast(keys, start, direction, bits, steps)
    return reference.cast(keys, start, direction, bits, steps)


@_cast_op.register_fake
def _(keys: Tensor, start: Tensor, direction: Tensor, bits: int, steps: int) -> tuple[Tensor, Tensor]:
    return start.new_empty(start.shape[:2], dtype=torch.int64), start.new_empty(start.shape[:2])
