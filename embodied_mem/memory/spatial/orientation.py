"""Relative and absolute orientation: where something is seen from here, and where that is on the compass.

    theta_abs = wrap(theta_robot + theta_rel)          radians, 0 ahead (relative) or +z (absolute), clockwise

Both are kept in [-pi, pi). Words divide the circle evenly and are what a language model is told.
"""

from __future__ import annotations

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.geometry.camera import wrap_angle

__all__ = ["absolute_angle", "bearing", "relative_angle", "word"]

RELATIVE = ("front", "right", "back", "left")
ABSOLUTE = ("north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest")


def absolute_angle(robot: np.ndarray | float, relative: np.ndarray | float) -> np.ndarray:
    """Return the compass direction of what is seen at ``relative`` radians by a robot with yaw ``robot``."""
    return wrap_angle(np.asarray(robot) + relative)


def relative_angle(robot: np.ndarray | float, absolute: np.ndarray | float) -> np.ndarray:
    """Return where a compass direction lies for a robot with yaw ``robot``, the inverse of `absolute_angle`."""
    return wrap_angle(np.asarray(absolute) - robot)


def bearing(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the compass direction (...) from ``start`` to ``end``, (..., 2) as (x, z)."""
    offset = np.asarray(end, np.float64) - start
    return wrap_angle(np.arctan2(offset[..., 0], offset[..., 1]))


def word(angle: float, frame: str = "relative") -> str:
    """Return the nearest direction as a word, of four (relative) or eight (absolute).

    >>> word(0.1), word(-1.5), word(3.1, "absolute")
    ('front', 'left', 'south')
    """
    if frame not in ("relative", "absolute"):
        raise UsageError(f"expected frame 'relative' or 'absolute', got {frame!r}")
    words = RELATIVE if frame == "relative" else ABSOLUTE
    return words[round(float(wrap_angle(angle)) / (2 * np.pi / len(words))) % len(words)]
