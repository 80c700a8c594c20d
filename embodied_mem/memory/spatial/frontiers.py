"""Frontiers of a grid map: known free cells that border on the unknown, and the groups they form (Yamauchi 1997)."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.geometry.grid import Grid

__all__ = ["frontier_cells", "frontier_groups", "occupancy", "to_grid"]

FREE, UNKNOWN, OCCUPIED = -1, 0, 1


def occupancy(odds: Tensor) -> Tensor:
    """Return -1 free, 0 unknown, 1 occupied (n, R, R) int64 for log-odds (n, R^2) or (n, R, R).

    Raises:
        UsageError: the cells do not form a square.
    """
    if odds.dim() == 2:
        size = round(odds.shape[1] ** 0.5)
        if size * size != odds.shape[1]:
            raise UsageError(f"expected log-odds (n, R * R) or (n, R, R), got {tuple(odds.shape)}")
        odds = odds.unflatten(1, (size, size))
    return odds.sign().long()


def frontier_cells(state: Tensor) -> Tensor:
    """Return which cells (n, R, R) bool are free and have an unknown 4-neighbour, for `occupancy` (n, R, R).

    The rim of the grid is no frontier by itself: what lies outside counts as known.
    """
    unknown = F.pad((state == UNKNOWN).float(), (1, 1, 1, 1))
    beside = unknown[:, :-2, 1:-1] + unknown[:, 2:, 1:-1] + unknown[:, 1:-1, :-2] + unknown[:, 1:-1, 2:]
    return (state == FREE) & (beside > 0)


def frontier_groups(frontier: np.ndarray, least: int = 1) -> list[np.ndarray]:
    """Return the 8-connected groups of at least ``least`` frontier cells, largest first.

    Args:
        frontier: (R, R) bool.

    Returns:
        Per group its cells (m, 2) int64 as (row, column), the one nearest to the group's mean first.
    """
    from scipy.ndimage import label

    numbers, count = label(frontier, structure=np.ones((3, 3)))
    groups = []
    for number in range(1, count + 1):
        cells = np.argwhere(numbers == number)
        if len(cells) >= least:
            order = np.linalg.norm(cells - cells.mean(0), axis=1).argsort(kind="stable")
            groups.append(cells[order])
    return sorted(groups, key=len, reverse=True)


def to_grid(state: Tensor, cell: float) -> Grid:
    """Return one map (R, R) of `occupancy` as a `Grid` whose free cells are those known to be free."""
    size = state.shape[-1]
    edge = -(size // 2 + 0.5) * cell
    return Grid((state == FREE).cpu().numpy(), cell, edge, edge)
