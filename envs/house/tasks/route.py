"""Routes of the tour: where to stop in every room, the walk between two stops, and the poses of a camera on its way."""

from __future__ import annotations

import math

import numpy as np

from embodied_mem.envs.house.check import inside
from embodied_mem.envs.house.plan import HousePlan
from embodied_mem.geometry.camera import wrap_angle
from embodied_mem.geometry.grid import Grid
from embodied_mem.geometry.paths import distance_field, field_at, grid_path


class Routes:
    """Stops and walks of one house.

    Args:
        plan: the house.
        grid: its free floor.
        floor: (F, 2) free places of one connected part.
        stops: places to stop at per room.
    """

    def __init__(self, plan: HousePlan, grid: Grid, floor: np.ndarray, stops: int) -> None:
        from scipy import ndimage

        self.grid = grid
        room_for = ndimage.distance_transform_edt(grid.free) * grid.cell
        cells = grid.cells_of(floor)
        wide = room_for[cells[:, 0], cells[:, 1]]
        chosen, rooms = [], []
        for room in range(plan.num_rooms):
            within = np.flatnonzero(inside(plan.room_polygon(room), floor))
            for place in _spread(floor[within], wide[within], stops):
                chosen.append(floor[within[place]])
                rooms.append(room)
        self.stops = np.array(chosen).reshape(-1, 2)
        """(S, 2) x, z."""
        self.rooms = np.array(rooms, np.int64)
        """(S,) room of each stop."""
        fields = [distance_field(grid, grid.cells_of(stop)[None]) for stop in self.stops]
        self._fields = fields
        self.lengths = np.array([field_at(field, grid, self.stops) for field in fields]).T
        """(S, S) metres from stop to stop."""
        self._walks: dict[tuple[int, int], np.ndarray] = {}

    def order(self, first: int) -> list[int]:
        """Return all stops, each the nearest one left (rooms are finished before they are left)."""
        left, order = set(range(len(self.stops))) - {first}, [first]
        while left:
            here = order[-1]
            same = [stop for stop in left if self.rooms[stop] == self.rooms[here]]
            order.append(min(same or left, key=lambda stop: (self.lengths[here, stop], stop)))
            left.remove(order[-1])
        return order

    def walk(self, start: int, end: int) -> np.ndarray:
        """Return the (V, 2) corners of a walk from stop to stop; cached."""
        if (start, end) not in self._walks:
            path = grid_path(self._fields[end], self.grid, self.stops[start])
            path = np.concatenate([self.stops[start][None], path, self.stops[end][None]])
            self._walks[start, end] = _pulled(path, self.grid)
        return self._walks[start, end]


def camera_poses(corners: np.ndarray, yaw: float, step: float, turn: float) -> np.ndarray:
    """Return (T, 3) x, z, yaw (degrees) along ``corners`` (V, 2): turn towards the next corner, then walk there.

    Args:
        yaw: heading at the start, degrees; the start pose itself is left out.
        step: longest move per pose, metres.
        turn: largest turn per pose, degrees.
    """
    parts = []
    for start, end in zip(corners[:-1], corners[1:]):
        length = float(np.hypot(*(end - start)))
        if length < 1e-6:
            continue
        wanted = math.degrees(math.atan2(end[0] - start[0], end[1] - start[1]))
        change = math.degrees(float(wrap_angle(np.radians(wanted - yaw))))
        turns = math.ceil(abs(change) / turn - 1e-9)
        angles = yaw + change * np.arange(1, turns + 1) / max(turns, 1)
        moves = math.ceil(length / step - 1e-9)
        shares = np.arange(1, moves + 1) / moves
        yaw = yaw + change
        parts.append(np.column_stack([np.full(turns, start[0]), np.full(turns, start[1]), angles]))
        walked = start + shares[:, None] * (end - start)
        parts.append(np.column_stack([walked, np.full(moves, yaw)]))
    return np.concatenate(parts) if parts else np.zeros((0, 3))


def _spread(places: np.ndarray, wide: np.ndarray, count: int) -> list[int]:
    """Return indices of up to ``count`` places (P, 2): the one with most room around, then those far apart."""
    if len(places) == 0:
        return []
    chosen = [int(wide.argmax())]
    usable = wide >= min(0.3, float(wide.max()))
    for _ in range(count - 1):
        gaps = np.min([np.hypot(*(places - places[index]).T) for index in chosen], axis=0)
        best = int(np.where(usable, gaps, -1.0).argmax())
        if gaps[best] < 1.0:
            break
        chosen.append(best)
    return chosen


def _pulled(path: np.ndarray, grid: Grid) -> np.ndarray:
    """Return the path (L, 2) with every corner dropped that a straight free line can leave out."""
    kept, here = [path[0]], 0
    while here < len(path) - 1:
        low, high = here + 1, len(path) - 1
        # Not every prefix is free, but bisection finds a long free one, and a step of one cell always is.
        while low < high:
            middle = (low + high + 1) // 2
            if _free_line(path[here], path[middle], grid):
                low = middle
            else:
                high = middle - 1
        here = low
        kept.append(path[here])
    return np.array(kept)


def _free_line(start: np.ndarray, end: np.ndarray, grid: Grid) -> bool:
    count = max(2, math.ceil(float(np.hypot(*(end - start))) / (0.4 * grid.cell)))
    cells = grid.cells_of(start + np.linspace(0.0, 1.0, count)[:, None] * (end - start))
    return bool(grid.free[cells[:, 0], cells[:, 1]].all())
