"""Masks of objects against the true ones: region overlap J, boundary accuracy F, and their mean, as DAVIS scores them.

    J   |A and B| / |A or B|; 1 where both are empty
    F   2 P R / (P + R): P the share of boundary pixels of A within ``tolerance`` pixels of a boundary pixel of B, R the
        other way round; tolerance = ceil(0.008 * diagonal)

Perazzi et al. 2016 (A benchmark dataset and evaluation methodology for video object segmentation).
"""

from __future__ import annotations

import math

import numpy as np

from embodied_mem.errors import UsageError

_TOLERANCE = 0.008


def region_overlap(found: np.ndarray, true: np.ndarray) -> float:
    """Return J of two masks (H, W) bool.

    >>> region_overlap(np.array([[1, 1, 0]], bool), np.array([[0, 1, 1]], bool))
    0.3333333333333333
    """
    _same(found, true)
    either = np.logical_or(found, true).sum()
    return float(np.logical_and(found, true).sum() / either) if either else 1.0


def boundary_accuracy(found: np.ndarray, true: np.ndarray, tolerance: int | None = None) -> float:
    """Return F of two masks (H, W) bool.

    Args:
        found: the mask to be scored.
        true: the true one.
        tolerance: pixels; None for the share of the diagonal that DAVIS takes.
    """
    _same(found, true)
    reach = math.ceil(_TOLERANCE * math.hypot(*found.shape)) if tolerance is None else tolerance
    edges = boundary(found), boundary(true)
    if not edges[0].any() or not edges[1].any():
        return float(edges[0].any() == edges[1].any())
    precision = float((edges[0] & widened(edges[1], reach)).sum() / edges[0].sum())
    recall = float((edges[1] & widened(edges[0], reach)).sum() / edges[1].sum())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(mask: np.ndarray) -> np.ndarray:
    """Return (H, W) bool: pixels of the mask with a neighbour (right, below, or both) on the other side of its edge."""
    mask = mask.astype(bool)
    right, below, across = mask.copy(), mask.copy(), mask.copy()
    right[:, :-1], below[:-1], across[:-1, :-1] = mask[:, 1:], mask[1:], mask[1:, 1:]
    return (mask ^ right) | (mask ^ below) | (mask ^ across)


def widened(mask: np.ndarray, reach: int) -> np.ndarray:
    """Return (H, W) bool: everything within ``reach`` pixels (round) of the mask."""
    padded = np.pad(mask.astype(bool), reach)
    out = np.zeros(mask.shape, bool)
    height, width = mask.shape
    for down in range(-reach, reach + 1):
        for along in range(-reach, reach + 1):
            if down * down + along * along <= reach * reach:
                out |= padded[reach + down : reach + down + height, reach + along : reach + along + width]
    return out


def _same(found: np.ndarray, true: np.ndarray) -> None:
    if found.shape != true.shape or found.ndim != 2:
        raise UsageError(f"expected two masks (H, W) of one shape, got {found.shape} and {true.shape}")
