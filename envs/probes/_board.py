"""What the board games share: the compiled painter, a floor per row and a few sprites on it, and free movement."""

from __future__ import annotations

import math

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def paint(
    out: np.ndarray, floors: np.ndarray, which: np.ndarray, sprites: np.ndarray, kind: np.ndarray, corner: np.ndarray
) -> None:
    """Draw every row's picture; later sprites lie on top.

    Args:
        out: (N, H, 3 W) uint8, written; channels last in a row.
        floors: (F, H, 3 W) uint8.
        which: (N,) int64, the floor.
        sprites: (S, P, 3 P) uint8; zeros are transparent.
        kind: (N, K) int64, the sprites, -1 for none.
        corner: (N, K, 2) int64, top and left pixel of each; they must lie inside where drawn.
    """
    for i in range(out.shape[0]):
        floor = floors[which[i]]
        for y in range(floor.shape[0]):
            line, source = out[i, y], floor[y]
            for x in range(floor.shape[1]):
                line[x] = source[x]
        for k in range(kind.shape[1]):
            if kind[i, k] < 0:
                continue
            sprite = sprites[kind[i, k]]
            top, left = corner[i, k, 0], 3 * corner[i, k, 1]
            for y in range(sprite.shape[0]):
                for x in range(sprite.shape[1]):
                    if sprite[y, x]:
                        out[i, top + y, left + x] = sprite[y, x]


def velocity(actions: np.ndarray, speed: float) -> np.ndarray:
    """Return steps (N, 2) float64, (y, x), of ``speed`` pixels in the direction of free movement.

    Args:
        actions: (N, 2) int64: 0 none, 1 left, 2 right; 0 none, 1 up, 2 down.
    """
    way = ((actions == 2).astype(np.float64) - (actions == 1))[:, ::-1]
    diagonal = (actions != 0).all(axis=1)
    return way * np.where(diagonal, speed * math.sqrt(0.5), speed)[:, None]
