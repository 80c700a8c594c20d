"""Compiled part of `hops`."""

from __future__ import annotations

import numba
import numpy as np

from embodied_mem.geometry.hops import HopArrays

_jit = numba.njit(cache=True, nogil=True)


@_jit
def hop(arrays: HopArrays, u: int, v: int) -> int:
    """Return the fewest edges between two nodes, -1 where there is no way."""
    if u == v:
        return 0
    best = -1
    if arrays.chain[u] >= 0 and arrays.chain[u] == arrays.chain[v]:
        best = abs(arrays.gaps[u, 0] - arrays.gaps[v, 0])
    for i in range(2):
        for j in range(2):
            between = arrays.table[arrays.ends[u, i], arrays.ends[v, j]]
            if between >= 0:
                total = arrays.gaps[u, i] + between + arrays.gaps[v, j]
                if best < 0 or total < best:
                    best = total
    return best


@_jit
def hop_pairs(arrays: HopArrays, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return (M,) int64 hops between ``u`` and ``v`` (M,) int64, -1 where there is no way."""
    found = np.empty(u.shape[0], np.int64)
    for k in range(u.shape[0]):
        found[k] = hop(arrays, u[k], v[k])
    return found
