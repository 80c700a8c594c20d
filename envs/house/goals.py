"""Geodesic distance of every agent to its goal, from fields that are computed once per (plan, goal) and kept.

A goal is one box or any of several. It may be reached at every floor cell that lies within ``limit`` metres of such a
box (floor distance to its footprint) and from which the box can be seen by turning and looking up or down; the distance
there is that floor distance, elsewhere it is the shortest walk to such a cell plus its floor distance. So a distance of
at most ``limit`` says that the agent stands well.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embodied_mem.envs.house.batch import HouseWorld
from embodied_mem.geometry.grid import Grid
from embodied_mem.geometry.paths import distance_field

CELL = 0.1
"""Grid cell in metres."""
CACHE_BYTES = 256 << 20
"""Fields beyond this size are dropped, the longest unused first."""


@dataclass(frozen=True)
class GoalField:
    """One goal in one plan."""

    grid: Grid
    """Free floor."""
    costs: np.ndarray
    """(R, C) float32: floor distance to the goal where it can be reached, inf elsewhere."""
    field: np.ndarray
    """(R, C) float32: geodesic metres to the goal, inf where cut off."""

    @property
    def reachable(self) -> bool:
        """Whether any cell is a goal cell."""
        return bool(np.isfinite(self.costs).any())

    def at(self, x: float, z: float) -> float:
        """Return the distance in metres at a floor point; inf when cut off."""
        from embodied_mem.geometry.paths import field_at

        return float(field_at(self.field, self.grid, np.array([[x, z]]))[0])

    def nearest_stand(self) -> np.ndarray:
        """Return (2,) x, z of the goal cell nearest to the goal: where a leg to the next goal is measured from."""
        return self.grid.centres_of(np.array(np.unravel_index(int(self.costs.argmin()), self.costs.shape)))


class GoalFields:
    """The goals that the rows of a world have now, and their distances.

    Args:
        world: the rows.
        limit: metres within which a goal counts as reached.
    """

    def __init__(self, world: HouseWorld, limit: float) -> None:
        self.world = world
        self.limit = limit
        self._cache: OrderedDict[tuple[int, tuple[int, ...]], GoalField] = OrderedDict()
        self._bytes = 0
        self._probe: HouseWorld | None = None
        n = world.num_envs
        self.current: list[GoalField | None] = [None] * n
        self.version = np.zeros(n, np.int64)
        """(N,) int64, grows whenever the row gets another goal."""
        self.costs = np.full((n, 1), np.inf, np.float32)
        """(N, cells) float32: `GoalField.costs` of each row, flattened; the rest is unused."""
        self.free = np.zeros((n, 1), np.bool_)
        """(N, cells) bool: free floor of each row's house, flattened; the rest is unused."""
        self._fields = np.full((n, 1), np.inf, np.float32)
        self.shape = np.ones((n, 2), np.int64)
        """(N, 2) rows and columns of the grid."""
        self.frame = np.ones((n, 3))
        """(N, 3) float64 x0, z0, cell of the grid."""
        self.distance = np.full(n, np.inf)
        """(N,) float64 metres at the last `update`."""

    def of(self, plan_id: int, boxes: Sequence[int]) -> GoalField:
        """Return the field of a goal (any of ``boxes``) in a plan; cached."""
        key = (plan_id, tuple(int(box) for box in boxes))
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        made = self._cache[key] = self._make(*key)
        self._bytes += made.field.nbytes + made.costs.nbytes
        while self._bytes > CACHE_BYTES and len(self._cache) > 1:
            _, old = self._cache.popitem(last=False)
            self._bytes -= old.field.nbytes + old.costs.nbytes
        return made

    def assign(self, row: int, goal: GoalField) -> None:
        """Give a row its goal."""
        size = goal.field.size
        if size > self._fields.shape[1]:
            extra = ((0, 0), (0, size - self._fields.shape[1]))
            self._fields = np.pad(self._fields, extra, constant_values=np.inf)
            self.costs = np.pad(self.costs, extra, constant_values=np.inf)
            self.free = np.pad(self.free, extra)
        self._fields[row, :size] = goal.field.reshape(-1)
        self.costs[row, :size] = goal.costs.reshape(-1)
        self.free[row, :size] = goal.grid.free.reshape(-1)
        self.shape[row] = goal.field.shape
        self.frame[row] = goal.grid.x0, goal.grid.z0, goal.grid.cell
        self.current[row] = goal
        self.version[row] += 1

    def update(self, rows: np.ndarray) -> np.ndarray:
        """Measure ``rows`` (M,) int64 anew and return `distance` (N,)."""
        from embodied_mem.envs.house.goal_kernels import look_up

        look_up(self._fields, self.shape, self.frame, self.world.arrays.position, rows, self.distance)
        return self.distance

    def _make(self, plan_id: int, boxes: tuple[int, ...]) -> GoalField:
        from embodied_mem.envs.house.goal_kernels import mark_goals

        if self._probe is None:
            self._probe = HouseWorld(1, self.world.library, self.world.config)
        probe, grid = self._probe, self.world.free_grid(plan_id, CELL)
        probe.load(np.zeros(1, np.int64), np.array([plan_id]))
        costs = np.full(grid.free.shape, np.inf, np.float32)
        for box in boxes:
            mark_goals(
                probe.plans, probe.arrays, probe.rules, box, self.limit, grid.free, grid.x0, grid.z0, grid.cell, costs
            )
        cells = np.argwhere(np.isfinite(costs))
        field = distance_field(grid, cells, costs=costs[tuple(cells.T)])
        return GoalField(grid, costs, field)
