"""Plain torch form of `ops.unproject_insert`."""

from __future__ import annotations

import torch
from torch import Tensor

from embodied_mem.kernels.reference._voxels import EMPTY, spread, take_cells

__all__ = ["add", "codes", "insert"]


def codes(
    depth: Tensor, camera: Tensor, intr: Tensor, origin: Tensor, size: float, bits: int, max_depth: float
) -> Tensor:
    """Return the Morton code of every pixel's voxel (B, H * W) int64, -1 where there is none; shapes as in the op."""
    wide = torch.float64 if depth.dtype == torch.float64 else torch.float32
    depth, camera, intr, origin = (z.to(wide) for z in (depth, camera, intr, origin))
    B, H, W = depth.shape
    fx, fy, cx, cy = intr.unsqueeze(-1).unbind(1)
    u = (torch.arange(W, device=depth.device, dtype=wide) + 0.5 - cx) / fx
    v = (torch.arange(H, device=depth.device, dtype=wide) + 0.5 - cy) / fy
    # voxel coordinates are linear in depth: z * (ray / size) + (position - origin) / size, per axis (3, B, H, W)
    axes = (camera[:, :, :3] / size).permute(1, 2, 0).reshape(3, 3, B, 1, 1)
    place = axes[:, 0] * u.view(B, 1, W) + (axes[:, 1] * v.view(B, H, 1) + axes[:, 2])
    place.mul_(depth).add_(((camera[:, :, 3] - origin) / size).T.reshape(3, B, 1, 1)).floor_()
    valid = (depth > 0) & (depth <= max_depth) & ((place >= 0) & (place < 2**bits)).all(0)
    # what is not valid may be NaN or too large for an integer
    narrow = torch.int32 if bits <= 10 else torch.int64
    x, y, z = spread(place.masked_fill_(~valid, 0).to(narrow)).unbind(0)
    code = y.bitwise_left_shift_(1).bitwise_or_(x).bitwise_or_(z.bitwise_left_shift_(2))
    return code.masked_fill_(~valid, EMPTY).reshape(B, H * W).to(torch.int64)


def insert(
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
    """Insert the pixels of one view per row, in place; shapes as in `ops.unproject_insert`."""
    code = codes(depth, camera, intr, origin, size, bits, max_depth)
    dropped += (code < 0).sum(1)
    add(code, None, None if features is None else features.flatten(1, 2), keys, count, total, lost)


def add(
    code: Tensor,
    weight: Tensor | None,
    features: Tensor | None,
    keys: Tensor,
    count: Tensor,
    total: Tensor,
    lost: Tensor,
) -> None:
    """Add entries to a table, in place.

    Args:
        code: (B, N) int64, negative for none.
        weight: (B, N) int32 points of an entry, None for one each.
        features: (B, N, F) sums of an entry's features, None for none.
        keys, count, total, lost: keys, points, total and lost of `ops._voxel_map.VoxelMap`.
    """
    (B, C), N = keys.shape, code.shape[1]
    row = torch.arange(B, device=keys.device).unsqueeze(1).expand(B, N).reshape(-1)
    slot = take_cells(keys, row, code.flatten()).view(B, N)
    there = slot >= 0
    points = there.to(torch.int32)
    full = bool(points.sum() < (code >= 0).sum())
    if weight is not None:
        points *= weight
    if full:
        lost += torch.where(~there & (code >= 0), 1 if weight is None else weight, 0).sum(1)
    slot = slot.clamp_(min=0)
    count.scatter_add_(1, slot, points)
    if features is not None and features.shape[2]:
        rows = features.to(total.dtype)
        if not bool(there.all()):
            rows = torch.where(there.unsqueeze(-1), rows, 0)
        total.view(B * C, -1).index_add_(0, row.mul_(C).add_(slot.view(-1)), rows.flatten(0, 1))
