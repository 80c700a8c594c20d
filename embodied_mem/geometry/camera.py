"""Pose and camera conventions of the whole project, in NumPy.

World: metres, y up, left-handed (as AI2-THOR); yaw 0 looks along +z and grows clockwise seen from above, so
``forward = (sin yaw, 0, cos yaw)`` and ``right = (cos yaw, 0, -sin yaw)``. Camera: x right, y down, z forward.
A pose is (5,): camera x, y, z in metres, yaw and pitch in radians, pitch positive = looking down. Intrinsics are (4,):
fx, fy, cx, cy in pixels; the centre of pixel column i lies at i + 0.5. Depth is measured along the optical axis.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def wrap_angle(angle: Array | float) -> Array:
    """Return ``angle`` (radians, any shape) moved into [-pi, pi).

    >>> float(wrap_angle(1.5 * np.pi)) + np.pi / 2 < 1e-12
    True
    """
    return (np.asarray(angle) + np.pi) % (2 * np.pi) - np.pi


def heading(yaw: Array | float) -> tuple[Array, Array]:
    """Return floor-plane unit vectors ``forward`` and ``right``, each (..., 2) as (x, z), for ``yaw`` (...) radians."""
    sin, cos = np.sin(yaw), np.cos(yaw)
    return np.stack([sin, cos], axis=-1), np.stack([cos, -sin], axis=-1)


def intrinsics(width: int, height: int, hfov_degrees: float, look_degrees: float = 0.0) -> Array:
    """Return (4,) float64 fx, fy, cx, cy of a camera with square pixels and an upright image plane.

    Args:
        width: image columns.
        height: image rows.
        hfov_degrees: horizontal field of view.
        look_degrees: look angle, positive = down; it shifts the principal point and leaves the plane upright.
    """
    focal = width / (2.0 * np.tan(np.radians(hfov_degrees) / 2.0))
    cy = height / 2.0 - focal * np.tan(np.radians(look_degrees))
    return np.array([focal, focal, width / 2.0, cy])


def relative_pose(pose: Array, origin: Array) -> Array:
    """Return ``pose`` (..., 5) expressed in the frame of ``origin`` (..., 5).

    The frame has the origin's position and yaw; its axes stay upright, so pitch is kept as it is (absolute).
    """
    forward, right = heading(origin[..., 3])
    offset = pose[..., :3] - origin[..., :3]
    planar = offset[..., [0, 2]]
    x = (planar * right).sum(-1)
    z = (planar * forward).sum(-1)
    yaw = wrap_angle(pose[..., 3] - origin[..., 3])
    return np.stack([x, offset[..., 1], z, yaw, pose[..., 4]], axis=-1)


def camera_axes(pose: Array) -> Array:
    """Return (..., 3, 3): rows are the right, down and forward axes in world coordinates for ``pose`` (..., 5)."""
    yaw, pitch = pose[..., 3], pose[..., 4]
    sin, cos = np.sin(yaw), np.cos(yaw)
    sin_p, cos_p = np.sin(pitch), np.cos(pitch)
    zero = np.zeros_like(yaw)
    right = np.stack([cos, zero, -sin], axis=-1)
    forward = np.stack([sin * cos_p, -sin_p, cos * cos_p], axis=-1)
    down = np.stack([-sin * sin_p, -cos_p, -cos * sin_p], axis=-1)
    return np.stack([right, down, forward], axis=-2)


def camera_to_world(points: Array, pose: Array) -> Array:
    """Return world points (..., P, 3) for camera points (..., P, 3) seen from ``pose`` (..., 5)."""
    return points @ camera_axes(pose) + pose[..., None, :3]


def world_to_camera(points: Array, pose: Array) -> Array:
    """Return camera points (..., P, 3) for world points (..., P, 3) seen from ``pose`` (..., 5)."""
    return (points - pose[..., None, :3]) @ np.swapaxes(camera_axes(pose), -1, -2)


def unproject(depth: Array, intrinsics: Array) -> Array:
    """Return camera points (..., H, W, 3) for ``depth`` (..., H, W) metres along the optical axis.

    Args:
        depth: (..., H, W).
        intrinsics: (..., 4) fx, fy, cx, cy in pixels, same leading axes as ``depth``.
    """
    height, width = depth.shape[-2:]
    fx, fy, cx, cy = np.moveaxis(np.asarray(intrinsics), -1, 0)
    u = (np.arange(width) + 0.5 - cx[..., None]) / fx[..., None]
    v = (np.arange(height) + 0.5 - cy[..., None]) / fy[..., None]
    return np.stack([depth * u[..., None, :], depth * v[..., :, None], depth], axis=-1)


def project(points: Array, intrinsics: Array) -> tuple[Array, Array]:
    """Return pixel coordinates (..., P, 2) as (column, row) and depth (..., P) of camera points (..., P, 3).

    Points at or behind the camera (depth <= 0) give NaN coordinates.
    """
    depth = points[..., 2]
    safe = np.where(depth > 0, depth, np.nan)
    fx, fy, cx, cy = (value[..., None] for value in np.moveaxis(np.asarray(intrinsics), -1, 0))
    return np.stack([points[..., 0] / safe * fx + cx, points[..., 1] / safe * fy + cy], axis=-1), depth
