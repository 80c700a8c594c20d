"""Depth pixels to points, in torch: the batched, differentiable twin of `embodied_mem.geometry.camera`.

Conventions: `intrinsics` (4,) fx, fy, cx, cy in pixels, pixel column i centred at i + 0.5; camera x right, y down, z
forward; `pose` (5,) camera x, y, z in metres, yaw and pitch in radians (yaw 0 = +z, clockwise; pitch positive =
down); world y up.
"""

from __future__ import annotations

import torch
from torch import Tensor

from embodied_mem.errors import UsageError


def unproject(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Return camera points (..., H, W, 3) for ``depth`` (..., H, W) metres along the optical axis.

    Args:
        depth: (..., H, W) float.
        intrinsics: (..., 4) float, same leading axes as ``depth``.

    Raises:
        UsageError: the leading axes differ or the last axis of ``intrinsics`` is not 4.

    >>> unproject(torch.full((2, 2), 3.0), torch.tensor([1.0, 1.0, 1.0, 1.0]))[0, 1].tolist()
    [1.5, -1.5, 3.0]
    """
    if intrinsics.shape != (*depth.shape[:-2], 4):
        raise UsageError(
            f"expected intrinsics {(*depth.shape[:-2], 4)} for depth {tuple(depth.shape)}, "
            f"got {tuple(intrinsics.shape)}"
        )
    height, width = depth.shape[-2:]
    fx, fy, cx, cy = intrinsics[..., None].unbind(-2)
    columns = torch.arange(width, device=depth.device, dtype=depth.dtype) + 0.5
    rows = torch.arange(height, device=depth.device, dtype=depth.dtype) + 0.5
    u, v = (columns - cx) / fx, (rows - cy) / fy
    return torch.stack([depth * u[..., None, :], depth * v[..., :, None], depth], dim=-1)


def camera_axes(pose: Tensor) -> Tensor:
    """Return (..., 3, 3): rows are the right, down and forward axes in the pose's frame, for ``pose`` (..., 5)."""
    yaw, pitch = pose[..., 3], pose[..., 4]
    sin, cos, sin_p, cos_p = yaw.sin(), yaw.cos(), pitch.sin(), pitch.cos()
    right = torch.stack([cos, torch.zeros_like(yaw), -sin], dim=-1)
    down = torch.stack([-sin * sin_p, -cos_p, -cos * sin_p], dim=-1)
    forward = torch.stack([sin * cos_p, -sin_p, cos * cos_p], dim=-1)
    return torch.stack([right, down, forward], dim=-2)


def to_world(points: Tensor, pose: Tensor) -> Tensor:
    """Return points (..., P, 3) in the frame of ``pose`` for camera points (..., P, 3).

    Args:
        points: (..., P, 3) float, camera frame.
        pose: (..., 5) float, same leading axes.

    Raises:
        UsageError: the axes do not fit.
    """
    if points.shape[-1] != 3 or pose.shape != (*points.shape[:-2], 5):
        raise UsageError(
            f"expected points (..., P, 3) and pose (..., 5) with equal leading axes, "
            f"got {tuple(points.shape)} and {tuple(pose.shape)}"
        )
    return points @ camera_axes(pose) + pose[..., None, :3]


def points_from_depth(
    depth: Tensor, intrinsics: Tensor, pose: Tensor, max_depth: float = 20.0
) -> tuple[Tensor, Tensor]:
    """Return points (..., H*W, 3) in the pose's frame and ``valid`` (..., H*W) bool: finite depth in (0, max_depth]."""
    valid = torch.isfinite(depth) & (depth > 0) & (depth <= max_depth)
    camera = unproject(torch.where(valid, depth, 0.0), intrinsics).flatten(-3, -2)
    return to_world(camera, pose), valid.flatten(-2)
