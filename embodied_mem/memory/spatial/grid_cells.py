"""Cells of a square floor grid around the episode's start, rays across it, and the view of it from where one stands.

The grid has R x R cells; cell (i, j) is centred at z = (i - R // 2) cell, x = (j - R // 2) cell, so the start lies on a
centre and not on an edge. A flat index is i R + j. Decided in float64, see `seen`.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["ego_cells", "flat_cells", "ray_points"]


def flat_cells(xz: Tensor, cell: float, size: int) -> tuple[Tensor, Tensor]:
    """Return flat indices (...) int64 of points (..., 2) float64 as (x, z), and which lie on the grid, (...) bool.

    Points outside get some index in range.
    """
    number = (xz / cell + 0.5).floor() + size // 2
    inside = ((number >= 0) & (number < size)).all(-1)
    column, row = torch.where(inside.unsqueeze(-1), number, 0).long().unbind(-1)
    return row * size + column, inside


def ray_points(camera: Tensor, points: Tensor, samples: int) -> Tensor:
    """Return (..., P * samples, D): places evenly spread on the way from camera (..., D) to points (..., P, D).

    The points themselves are left out.
    """
    share = torch.arange(samples, device=points.device, dtype=points.dtype) / samples
    start = camera.unsqueeze(-2).unsqueeze(-2)
    return (start + share.unsqueeze(-1) * (points.unsqueeze(-2) - start)).flatten(-3, -2)


def ego_cells(pose: Tensor, cell: float, size: int, view: int) -> tuple[Tensor, Tensor]:
    """Return flat indices (..., view * view) and which lie on the grid: the cells seen from pose (..., 5) float64.

    Row 0 is farthest ahead, column 0 farthest left; the middle cell is the camera's own. Nearest cell, not resampled.
    """
    steps = (torch.arange(view, device=pose.device, dtype=pose.dtype) - view // 2) * cell
    ahead, right = torch.meshgrid(-steps, steps, indexing="ij")
    ahead, right = ahead.flatten(), right.flatten()
    sin, cos = pose[..., 3, None].sin(), pose[..., 3, None].cos()
    x = pose[..., 0, None] + sin * ahead + cos * right
    z = pose[..., 2, None] + cos * ahead - sin * right
    return flat_cells(torch.stack([x, z], -1), cell, size)
