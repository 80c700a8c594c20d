"""Two ways to compare sequences: dynamic time warping over a distance table, and edit distance.

    C[0,0] = 0,  C[i,0] = C[0,j] = inf,  C[i,j] = d(i,j) + min(C[i-1,j], C[i,j-1], C[i-1,j-1]),  DTW = C[n,m]

The table is filled exactly; approximations such as FastDTW overestimate it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embodied_mem.errors import UsageError

EDITS = ("osa", "levenshtein")


def dtw(distances: np.ndarray) -> float:
    """Return the dynamic-time-warping cost of a table of distances.

    Args:
        distances: (n, m) float, n and m >= 1; inf is allowed.

    Raises:
        UsageError: the table is empty or not of rank 2.

    >>> dtw(np.array([[0.0, 1.0], [1.0, 0.0]]))
    0.0
    """
    table = np.ascontiguousarray(distances, dtype=np.float64)
    if table.ndim != 2 or table.size == 0:
        raise UsageError(f"expected a distance table of shape (n, m) with n, m >= 1, got {table.shape}")
    from embodied_mem.metrics import _sequence_kernels

    return float(_sequence_kernels.dtw(table))


def edit_distance(left: Sequence[int] | np.ndarray, right: Sequence[int] | np.ndarray, edit: str = "osa") -> int:
    """Return the number of edits that turn one sequence of whole numbers into another.

    Args:
        left: (n,) integers.
        right: (m,) integers.
        edit: "osa": insert, delete, substitute and swap of two adjacent entries cost 1 each, and a swapped pair is not
            edited again; "levenshtein": no swap.

    Raises:
        UsageError: another ``edit``.

    >>> edit_distance([3, 1], [1, 2, 3]), edit_distance([1, 2], [2, 1]), edit_distance([1, 2], [2, 1], "levenshtein")
    (3, 1, 2)
    """
    if edit not in EDITS:
        raise UsageError(f"expected edit to be one of {EDITS}, got {edit!r}")
    from embodied_mem.metrics import _sequence_kernels

    a, b = (np.ascontiguousarray(item, dtype=np.int64) for item in (left, right))
    return int(_sequence_kernels.edit_distance(a, b, edit == "osa"))


def collapse(path: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return a path (n,) without consecutive repeats, (k,) int64: standing still adds nothing.

    >>> collapse([1, 1, 2, 2, 1]).tolist()
    [1, 2, 1]
    """
    array = np.asarray(path, dtype=np.int64)
    return array[np.concatenate([[True], array[1:] != array[:-1]])] if array.size else array
