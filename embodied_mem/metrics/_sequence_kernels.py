"""Compiled part of `sequences`."""

from __future__ import annotations

import numba
import numpy as np

_jit = numba.njit(cache=True, nogil=True)


@_jit
def dtw(distances: np.ndarray) -> float:
    """Return the warping cost of (n, m) float64 distances."""
    n, m = distances.shape
    above = np.full(m + 1, np.inf)
    above[0] = 0.0
    row = np.empty(m + 1)
    for i in range(n):
        row[0] = np.inf
        for j in range(m):
            row[j + 1] = distances[i, j] + min(above[j + 1], row[j], above[j])
        above[:] = row
    return float(above[m])


@_jit
def edit_distance(a: np.ndarray, b: np.ndarray, swaps: bool) -> int:
    """Return the edits from ``a`` (n,) to ``b`` (m,), both int64; ``swaps`` lets adjacent entries change places."""
    n, m = a.shape[0], b.shape[0]
    table = np.empty((n + 1, m + 1), np.int64)
    for i in range(n + 1):
        table[i, 0] = i
    for j in range(m + 1):
        table[0, j] = j
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            cost = 0 if a[i - 1] == b[j - 1] else 1
            best = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + cost)
            if swaps and i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                best = min(best, table[i - 2, j - 2] + 1)
            table[i, j] = best
    return int(table[n, m])
