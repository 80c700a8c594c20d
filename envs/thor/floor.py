"""The floor as the player reports it: reachable grid points, and geodesic distances over them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.geometry.grid import Grid
from embodied_mem.geometry.paths import distance_field, field_at


class Floor:
    """Reachable points of one scene.

    Args:
        positions: what ``GetReachablePositions`` returned.
        step: spacing in metres.

    >>> floor = Floor([{"x": 0.0, "y": 0.9, "z": 0.25 * k} for k in range(3)], 0.25)
    >>> field = floor.field(np.array([[0.0, 0.0]]))
    >>> round(floor.distance(field, np.array([0.0, 0.5])), 2)
    0.5
    """

    def __init__(self, positions: Sequence[dict[str, float]], step: float) -> None:
        if not positions:
            raise UsageError("the player reports no reachable position")
        points = np.array([(p["x"], p["z"]) for p in positions], dtype=np.float64)
        # Players list them in any order; episodes must not depend on it.
        self.points: np.ndarray = points[np.lexsort((points[:, 1].round(3), points[:, 0].round(3)))]
        """(P, 2) x, z in metres."""
        self.height = float(positions[0]["y"])
        low = self.points.min(axis=0) - 0.5 * step
        cells = np.floor((self.points - low) / step + 1e-6).astype(np.int64)
        free = np.zeros((cells[:, 1].max() + 1, cells[:, 0].max() + 1), np.bool_)
        free[cells[:, 1], cells[:, 0]] = True
        self.grid = Grid(free, step, float(low[0]), float(low[1]))

    def field(self, goals: np.ndarray) -> np.ndarray:
        """Return (R, C) float32 geodesic metres to the nearest of ``goals`` (G, 2) x, z."""
        return distance_field(self.grid, self.grid.cells_of(goals))

    def distance(self, field: np.ndarray, place: np.ndarray) -> float:
        """Return the metres from a floor point (2,) to the goals of a field; inf where cut off."""
        return float(field_at(field, self.grid, place[None])[0])

    def distances(self, field: np.ndarray) -> np.ndarray:
        """Return (P,) float64 metres from every point."""
        return field_at(field, self.grid, self.points)
