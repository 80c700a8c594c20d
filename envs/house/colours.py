"""Sixteen named colours: the codes of the scan's colour channel, and words for text goals."""

from __future__ import annotations

import numpy as np

COLOUR_NAMES = (
    "black",
    "grey",
    "white",
    "red",
    "orange",
    "yellow",
    "green",
    "teal",
    "cyan",
    "blue",
    "purple",
    "magenta",
    "pink",
    "brown",
    "beige",
    "olive",
)
COLOUR_RGB = np.array(
    [
        (35, 35, 40),
        (128, 128, 130),
        (235, 235, 235),
        (205, 45, 45),
        (240, 130, 40),
        (240, 215, 70),
        (60, 150, 65),
        (50, 140, 135),
        (110, 200, 225),
        (65, 100, 200),
        (125, 75, 160),
        (215, 60, 170),
        (240, 180, 195),
        (120, 80, 55),
        (205, 170, 125),
        (120, 125, 50),
    ],
    dtype=np.int64,
)


def colour_codes(rgb: np.ndarray) -> np.ndarray:
    """Return the nearest named colour (...,) int32 of ``rgb`` (..., 3) in 0-255.

    >>> COLOUR_NAMES[int(colour_codes(np.array([250, 0, 10])))]
    'red'
    """
    gap = rgb[..., None, :].astype(np.int64) - COLOUR_RGB
    return np.argmin((gap**2).sum(-1), axis=-1).astype(np.int32)
