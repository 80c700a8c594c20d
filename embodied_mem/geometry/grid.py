"""A floor grid: which cells a point agent may stand in, and how cells map to metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Grid:
    """Free space over the floor plane; cell (row i, column j) is centred at x0 + (j + .5) cell, z0 + (i + .5) cell."""

    free: np.ndarray
    """(R, C) bool, True = the agent's centre may be there."""
    cell: float
    """Edge of a cell in metres."""
    x0: float = 0.0
    """World x of the grid's lower edge, metres."""
    z0: float = 0.0
    """World z of the grid's lower edge, metres."""

    def cells_of(self, xz: np.ndarray) -> np.ndarray:
        """Return the (..., 2) int64 cell (row, column) of world points ``xz`` (..., 2), clipped to the grid."""
        column = np.floor((np.asarray(xz)[..., 0] - self.x0) / self.cell)
        row = np.floor((np.asarray(xz)[..., 1] - self.z0) / self.cell)
        rows, columns = self.free.shape
        clipped = [np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)]
        return np.stack(clipped, axis=-1).astype(np.int64)

    def centres_of(self, cells: np.ndarray) -> np.ndarray:
        """Return world (x, z) (..., 2) float64 of the centres of ``cells`` (..., 2) given as (row, column)."""
        cells = np.asarray(cells, dtype=np.float64)
        return np.stack([self.x0 + (cells[..., 1] + 0.5) * self.cell, self.z0 + (cells[..., 0] + 0.5) * self.cell], -1)
