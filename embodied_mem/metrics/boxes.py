"""Upright boxes (turned about the vertical only): exact overlap, and the gap between their corners.

A footprint corner at local (x, z) lies at ``(cx + x cos a + z sin a, cz - x sin a + z cos a)`` for yaw a, with
y up. The overlap of two boxes is the overlap of their footprints (polygon clipping) times that of their heights.
"""

from __future__ import annotations

import math

import numpy as np


def corners(position: np.ndarray, size: np.ndarray, yaw: float) -> np.ndarray:
    """Return the corners of a box, (8, 3) float64; the first four are its bottom, in order around it.

    Args:
        position: (3,) float centre, metres.
        size: (3,) float extents along its own x, y, z, metres.
        yaw: degrees, clockwise seen from above.
    """
    angle = math.radians(yaw)
    c, s = math.cos(angle), math.sin(angle)
    x = np.array([-0.5, 0.5, 0.5, -0.5]) * size[0]
    z = np.array([-0.5, -0.5, 0.5, 0.5]) * size[2]
    flat = np.stack([position[0] + x * c + z * s, np.zeros(4), position[2] - x * s + z * c], axis=1)
    bottom, top = flat.copy(), flat.copy()
    bottom[:, 1] = position[1] - 0.5 * size[1]
    top[:, 1] = position[1] + 0.5 * size[1]
    return np.concatenate([bottom, top])


def box_iou(left: np.ndarray, right: np.ndarray) -> float:
    """Return intersection over union of two upright boxes given by their `corners` (8, 3).

    >>> one = corners(np.zeros(3), np.ones(3), 0.0)
    >>> box_iou(one, one), round(box_iou(one, corners(np.array([0.5, 0.0, 0.0]), np.ones(3), 0.0)), 6)
    (1.0, 0.333333)
    """
    height = min(left[4, 1], right[4, 1]) - max(left[0, 1], right[0, 1])
    if height <= 0.0:
        return 0.0
    foot_left, foot_right = left[:4, [0, 2]], right[:4, [0, 2]]
    shared = _area(_clip(foot_left, foot_right)) * height
    if shared <= 0.0:
        return 0.0
    volumes = [_area(box[:4, [0, 2]]) * (box[4, 1] - box[0, 1]) for box in (left, right)]
    return float(min(1.0, shared / (sum(volumes) - shared)))


def corner_gap(left: np.ndarray, right: np.ndarray) -> float:
    """Return the smallest distance between a corner of one box and a corner of the other, both (8, 3), metres."""
    return float(np.linalg.norm(left[:, None] - right[None], axis=2).min())


def _clip(polygon: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Return the part of a convex polygon (n, 2) inside a convex window (m, 2), (k, 2), k may be 0."""
    if _signed(window) < 0:
        window = window[::-1]
    points = list(polygon)
    for start, end in zip(window, np.roll(window, -1, axis=0)):
        direction = end - start
        sides = [direction[0] * (p[1] - start[1]) - direction[1] * (p[0] - start[0]) for p in points]
        kept = []
        for k, point in enumerate(points):
            before, here = sides[k - 1], sides[k]
            if (before < 0) != (here < 0):
                kept.append(points[k - 1] + (point - points[k - 1]) * (before / (before - here)))
            if here >= 0:
                kept.append(point)
        points = kept
        if not points:
            return np.zeros((0, 2))
    return np.array(points)


def _area(polygon: np.ndarray) -> float:
    return abs(_signed(polygon)) if len(polygon) >= 3 else 0.0


def _signed(polygon: np.ndarray) -> float:
    x, z = polygon[:, 0], polygon[:, 1]
    return 0.5 * float(np.dot(x, np.roll(z, -1)) - np.dot(z, np.roll(x, -1)))
