"""The compiled painter of board games: a floor per row and a few sprites on it."""

from __future__ import annotations

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
