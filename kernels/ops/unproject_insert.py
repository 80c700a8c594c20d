"""Depth images into sparse voxel maps, one map per row, in place.

    p = R [(u - cx) z / fx, (v - cy) z / fy, z] + t,   voxel = floor((p - origin) / size),   key = its Morton code

Pixel column i is centred at i + 0.5; the camera looks along z with x right and y down. A voxel keeps the number of its
points and the sum of their features. Cells are found by linear probing; a voxel takes its cell by compare-and-swap and
counts are added atomically, so the result does not depend on the order of the points, except for where a voxel stands
and for the rounding of the sums. Points with no valid depth (<= 0, infinite, NaN, beyond ``max_depth``) or outside the
map are dropped and counted. Where the table is full, points are lost and counted; which ones depends on the order.

Positions are float32: a point within rounding of a border may go to either voxel. There is no gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from embodied_mem.kernels._dispatch import inline, run_triton, unsupported_dtype
from embodied_mem.kernels.ops._voxel_map import VoxelMap, check_map
from embodied_mem.kernels.reference import unproject_insert as reference
from embodied_mem.kernels.reference._voxels import EMPTY, morton_encode

__all__ = ["insert_voxels", "map_parents", "unproject_insert"]


def unproject_insert(
    depth: Tensor,
    pose: Tensor,
    intr: Tensor,
    map: VoxelMap,
    *,
    features: Tensor | None = None,
    max_depth: float = 20.0,
) -> None:
    """Insert every pixel of one view per row.

    Args:
        depth: (B, H, W) metres along the optical axis, float32, float16 or bfloat16.
        pose: (B, 5) camera x, y, z in metres, yaw and pitch in radians (`embodied_mem.geometry.camera`), or (B, 3, 4)
            camera to world, [R | t].
        intr: (B, 4) fx, fy, cx, cy in pixels.
        map: written in place.
        features: (B, H, W, F) summed per voxel, needed where the map has F > 0.
        max_depth: metres; pixels beyond are dropped.

    Raises:
        ValueError: shapes disagree, or an input requires a gradient.

    >>> from embodied_mem.kernels import voxel_map
    >>> map = voxel_map(1, 8, size=1.0)
    >>> unproject_insert(torch.ones(1, 1, 2), torch.zeros(1, 5), torch.tensor([[1.0, 1.0, 1.0, 0.5]]), map)
    >>> map.held.item(), map.points.sum().item()
    (2, 2)
    """
    check_map(map)
    _check(depth, intr, features, map.keys, map.total)
    B = len(depth)
    if tuple(pose.shape) not in ((B, 5), (B, 3, 4)):
        raise ValueError(f"expected pose ({B}, 5) or ({B}, 3, 4), got {tuple(pose.shape)}")
    if torch.is_grad_enabled() and any(z is not None and z.requires_grad for z in (depth, pose, intr, features)):
        raise ValueError("expected a view without gradient, which a write in place would cut; detach it")
    wide = torch.float64 if depth.dtype == torch.float64 else torch.float32
    camera = pose.to(wide) if pose.dim() == 3 else _camera(pose.to(wide))
    tables = (map.keys, map.points, map.total, map.dropped, map.lost, map.origin)
    arguments = (depth, camera, intr, features, *tables, map.size, map.bits, max_depth)
    if inline("unproject_insert", depth, traceable=False):
        reference.insert(*arguments)
    else:
        torch.ops.embodied_mem.unproject_insert(*arguments)


def insert_voxels(map: VoxelMap, voxels: Tensor, valid: Tensor | None = None) -> None:
    """Insert N points per row whose voxels are known; a map without feature sums.

    Args:
        map: written in place.
        voxels: (B, N, 3) int64 of [0, 2^bits); points outside are dropped and counted.
        valid: (B, N) bool, False where there is no point; None for all.

    Raises:
        ValueError: shapes disagree, or the map has feature sums.

    >>> from embodied_mem.kernels import voxel_map
    >>> map = voxel_map(1, 8, size=1.0, bits=4)
    >>> insert_voxels(map, torch.tensor([[[1, 2, 3], [1, 2, 3], [16, 0, 0]]]))
    >>> map.held.item(), map.points.sum().item(), map.dropped.item()
    (1, 2, 1)
    """
    check_map(map)
    B, F = len(map.keys), map.total.shape[2]
    if voxels.dim() != 3 or len(voxels) != B or voxels.shape[2] != 3 or voxels.is_floating_point() or F:
        raise ValueError(
            f"expected integer voxels ({B}, N, 3) and a map of 0 features, got {tuple(voxels.shape)} {voxels.dtype} "
            f"and {F} features"
        )
    if valid is not None and (valid.shape != voxels.shape[:2] or valid.dtype != torch.bool):
        raise ValueError(f"expected valid {tuple(voxels.shape[:2])} bool, got {tuple(valid.shape)} {valid.dtype}")
    inside = ((voxels >= 0) & (voxels < 2**map.bits)).all(-1)
    outside = ~inside if valid is None else ~inside & valid
    map.dropped.add_(outside.sum(1))
    code = morton_encode(voxels.clamp(0, 2**map.bits - 1))
    code = code.masked_fill(~inside if valid is None else ~(inside & valid), EMPTY)
    tables = (map.keys, map.points, map.total, map.lost)
    if inline("map_insert", map.keys, traceable=False):
        reference.add(code, None, None, *tables)
    else:
        one = torch.ones(code.shape, dtype=torch.int32, device=code.device)
        torch.ops.embodied_mem.map_insert(code, one, map.total.new_empty(*code.shape, 0), *tables)


def map_parents(map: VoxelMap, levels: int = 1) -> VoxelMap:
    """Return a new map of voxels of ``2 ** levels`` times the side, with the same capacity.

    A voxel holds the points and feature sums of those it is made of. ``dropped`` and ``lost`` are those of ``map``.

    Raises:
        ValueError: not 0 < levels < bits.
    """
    check_map(map)
    if not 0 < levels < map.bits:
        raise ValueError(f"expected 0 < levels < {map.bits}, got {levels}")
    code = torch.where(map.keys == EMPTY, EMPTY, map.keys >> (3 * levels))
    keys, count, total = torch.full_like(map.keys, EMPTY), torch.zeros_like(map.points), torch.zeros_like(map.total)
    dropped, lost = map.dropped.clone(), map.lost.clone()
    arguments = (code, map.points, map.total, keys, count, total, lost)
    if inline("map_insert", map.keys, traceable=False):
        reference.add(*arguments)
    else:
        torch.ops.embodied_mem.map_insert(*arguments)
    return VoxelMap(keys, count, total, map.origin, dropped, lost, map.size * 2**levels, map.bits - levels)


def _camera(pose: Tensor) -> Tensor:
    """(B, 5) -> (B, 3, 4): columns are the camera's right, down and forward axes and its position."""
    yaw, pitch = pose[:, 3], pose[:, 4]
    sin, cos, sin_p, cos_p, none = yaw.sin(), yaw.cos(), pitch.sin(), pitch.cos(), torch.zeros_like(yaw)
    right, down = (cos, none, -sin), (-sin * sin_p, -cos_p, -cos * sin_p)
    forward = (sin * cos_p, -sin_p, cos * cos_p)
    axes = [torch.stack(axis, 1) for axis in (right, down, forward)]
    return torch.stack([*axes, pose[:, :3]], 2)


def _check(depth: Tensor, intr: Tensor, features: Tensor | None, keys: Tensor, total: Tensor) -> None:
    (B, _), F = keys.shape, total.shape[2]
    if depth.dim() != 3 or depth.shape[0] != B or tuple(intr.shape) != (B, 4):
        raise ValueError(
            f"expected depth ({B}, H, W) and intr ({B}, 4) for a map of {B} rows, "
            f"got {tuple(depth.shape)} and {tuple(intr.shape)}"
        )
    want = (*depth.shape, F)
    if (features is None) != (F == 0) or (features is not None and tuple(features.shape) != want):
        raise ValueError(
            f"expected features of shape {want} for a map with {F} sums (None for 0), "
            f"got {'None' if features is None else tuple(features.shape)}"
        )


@torch.library.custom_op(
    "embodied_mem::unproject_insert",
    mutates_args=("keys", "count", "total", "dropped", "lost"),
    schema="(Tensor depth, Tensor camera, Tensor intr, Tensor? features, Tensor(a!) keys, Tensor(b!) count, "
    "Tensor(c!) total, Tensor(d!) dropped, Tensor(e!) lost, Tensor origin, float size, int bits, float max_depth) "
    "-> ()",
)
def _op(
    depth: Tensor,
    camera: Tensor,
    intr: Tensor,
    features: Tensor | None,
    keys: Tensor,
    count: Tensor,
    total: Tensor,
    dropped: Tensor,
    lost: Tensor,
    origin: Tensor,
    size: float,
    bits: int,
    max_depth: float,
) -> None:
    _check(depth, intr, features, keys, total)
    arguments = (depth, camera, intr, features, keys, count, total, dropped, lost, origin, size, bits, max_depth)
    if run_triton("unproject_insert", depth, unsupported_dtype(depth, camera, intr, features)):
        from embodied_mem.kernels.triton_ops import unproject_insert as kernel

        kernel.insert(*arguments)
    else:
        reference.insert(*arguments)


@_op.register_fake
def _(
    depth: Tensor,
    camera: Tensor,
    intr: Tensor,
    features: Tensor | None,
    keys: Tensor,
    count: Tensor,
    total: Tensor,
    dropped: Tensor,
    lost: Tensor,
    origin: Tensor,
    size: float,
    bits: int,
    max_depth: float,
) -> None:
    _check(depth, intr, features, keys, total)


@torch.library.custom_op(
    "embodied_mem::map_insert",
    mutates_args=("keys", "count", "total", "lost"),
    schema="(Tensor code, Tensor weight, Tensor features, Tensor(a!) keys, Tensor(b!) count, Tensor(c!) total, "
    "Tensor(d!) lost) -> ()",
)
def _insert_op(
    code: Tensor, weight: Tensor, features: Tensor, keys: Tensor, count: Tensor, total: Tensor, lost: Tensor
) -> None:
    arguments = (code, weight, features, keys, count, total, lost)
    if run_triton("map_insert", keys, unsupported_dtype(features)):
        from embodied_mem.kernels.triton_ops import unproject_insert as kernel

        kernel.add(*arguments)
    else:
        reference.add(*arguments)


@_insert_op.register_fake
def _(code: Tensor, weight: Tensor, features: Tensor, keys: Tensor, count: Tensor, total: Tensor, lost: Tensor) -> None:
    if code.shape != weight.shape:
        raise ValueError(f"expected weight of shape {tuple(code.shape)}, got {tuple(weight.shape)}")
