"""Plans packed into flat arrays that compiled code reads; each plan is packed once and then named by its plan id.

CSR layout: rooms -> walls (edges) -> openings, and per plan a run of doors, boxes and solid wall segments. Indices
inside the arrays are global, so a row needs nothing but its plan id. Box and door indices that users see are local to
the plan.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from embodied_mem.envs.house.arrays import PlanArrays
from embodied_mem.envs.house.plan import FIRST_INSTANCE, HousePlan
from embodied_mem.errors import UsageError

MAX_ROOMS = 64
ON_WALL = 0.05
"""A door or window lies on a wall when both its ends are within this many metres of it."""

PLAN_COLUMNS = ("room0", "rooms", "edge0", "edges", "door0", "doors", "box0", "boxes", "solid0", "solids")


class FlatArray:
    """A growing array: `add(rows)` appends in amortised constant time and returns the first new index."""

    def __init__(self, dtype: type, *shape: int) -> None:
        self._store: np.ndarray = np.zeros((64, *shape), dtype)
        self.size = 0

    def add(self, rows: np.ndarray) -> int:
        """Append (n, *shape) rows and return the index of the first."""
        first, end = self.size, self.size + len(rows)
        if end > len(self._store):
            grown = np.zeros((max(end, 2 * len(self._store)), *self._store.shape[1:]), self._store.dtype)
            grown[: self.size] = self._store[: self.size]
            self._store = grown
        self._store[first:end] = rows
        self.size = end
        return first

    @property
    def array(self) -> np.ndarray:
        """The filled part, a view that the next `add` may outdate."""
        return self._store[: self.size]

    @property
    def store(self) -> np.ndarray:
        """The whole allocation: contiguous, and its identity changes only when it grows."""
        return self._store


class PlanLibrary:
    """Packs `HousePlan`s and hands out plan ids.

    Args:
        limit: plans kept at most; `add` raises beyond it (a guard against unbounded growth).

    >>> from embodied_mem.envs.house.builder import PlanBuilder
    >>> builder = PlanBuilder("one room")
    >>> _ = builder.room("Bedroom", [(0, 0), (0, 3), (4, 3), (4, 0)])
    >>> library = PlanLibrary()
    >>> library.add(builder.build()), len(library)
    (0, 1)
    """

    def __init__(self, limit: int = 100_000) -> None:
        self.limit = limit
        self.plans: list[HousePlan] = []
        self._keys: dict[object, int] = {}
        self._arrays: PlanArrays | None = None
        self.max_boxes = 1
        self.max_doors = 1
        self.plan_int = FlatArray(np.int32, len(PLAN_COLUMNS))
        self.plan_float = FlatArray(np.float32, 5)
        """(P, 5): ceiling height, x0, z0, x1, z1."""
        self.room_int = FlatArray(np.int32, 4)
        """(R, 4): first edge, end edge, wall style, floor style."""
        self.room_rgb = FlatArray(np.uint8, 2, 3)
        self.edge_float = FlatArray(np.float32, 6)
        """(E, 6): x0, z0, x1, z1, unit direction x, z; the room lies to the right."""
        self.edge_int = FlatArray(np.int32, 3)
        """(E, 3): room, first opening, end opening."""
        self.opening_float = FlatArray(np.float32, 4)
        """(O, 4): start and end along the edge in metres, bottom and top height."""
        self.opening_int = FlatArray(np.int32, 6)
        """(O, 6): 0 door / 1 window, index, room behind (-1 outside), edge behind, instance, 1 = backwards."""
        self.door_float = FlatArray(np.float32, 6)
        """(D, 6): x0, z0, x1, z1, top, openness at the start."""
        self.door_int = FlatArray(np.int32, 4)
        """(D, 4): room 0, room 1 (global, -1 outside), openable, instance."""
        self.box_size = FlatArray(np.float32, 3)
        self.box_pose = FlatArray(np.float32, 4)
        self.box_rgb = FlatArray(np.uint8, 3)
        self.box_int = FlatArray(np.int32, 9)
        """(B, 9): class, instance, flags, parent, inside, room (global), open, tray (local, -1), shown."""
        self.solid = FlatArray(np.float32, 4)
        """(S, 4): wall segments without their door openings, x0, z0, x1, z1."""

    def __len__(self) -> int:
        return len(self.plans)

    def get(self, key: object, make: Callable[[], HousePlan]) -> int:
        """Return the plan id stored under ``key``, making and packing the plan on first use."""
        if key not in self._keys:
            self._keys[key] = self.add(make())
        return self._keys[key]

    def add(self, plan: HousePlan) -> int:
        """Pack one plan and return its id.

        Raises:
            UsageError: the library is full, or a door or window does not lie on a wall of its room.
        """
        if len(self.plans) >= self.limit:
            raise UsageError(f"the library holds its limit of {self.limit} plans; use fewer houses or raise the limit")
        if plan.num_rooms > MAX_ROOMS:
            raise UsageError(
                f"plan {plan.name!r} has {plan.num_rooms} rooms, more than the {MAX_ROOMS} a house may have"
            )
        edges = _edges(plan)
        openings = _openings(plan, edges)
        room0, edge0, open0 = self.room_int.size, self.edge_float.size, self.opening_float.size
        order = sorted(range(len(openings)), key=lambda k: (openings[k][0], openings[k][1]))
        starts = np.searchsorted([openings[k][0] for k in order], np.arange(len(edges) + 1))
        edge_room = np.repeat(np.arange(plan.num_rooms), np.diff(plan.room_start))
        self.room_int.add(np.column_stack([edge0 + plan.room_start[:-1], edge0 + plan.room_start[1:], plan.room_style]))
        self.room_rgb.add(plan.room_rgb)
        self.edge_float.add(edges)
        self.edge_int.add(np.stack([room0 + edge_room, open0 + starts[:-1], open0 + starts[1:]], 1))
        if openings:
            self.opening_float.add(np.array([openings[k][1:5] for k in order], np.float32))
            rows = np.array([openings[k][5:] for k in order], np.int32)
            rows[:, 2] = np.where(rows[:, 2] >= 0, rows[:, 2] + room0, -1)
            rows[:, 3] = np.where(rows[:, 3] >= 0, rows[:, 3] + edge0, -1)
            self.opening_int.add(rows)
        door0 = self.door_float.size
        self.door_float.add(
            np.concatenate([plan.door_ends.reshape(-1, 4), plan.door_top[:, None], plan.door_openness[:, None]], 1)
        )
        door_room = np.where(plan.door_room >= 0, plan.door_room + room0, -1)
        numbers = FIRST_INSTANCE + np.arange(plan.num_doors)
        self.door_int.add(np.column_stack([door_room, plan.door_openable, numbers]).reshape(-1, 4))
        box0 = self.box_size.size
        self.box_size.add(plan.box_size)
        self.box_pose.add(plan.box_pose)
        self.box_rgb.add(plan.box_rgb)
        self.box_int.add(
            np.column_stack(
                [
                    plan.box_class,
                    plan.box_instance,
                    plan.box_flags,
                    plan.box_parent,
                    plan.box_inside,
                    plan.box_room + room0,
                    plan.box_open,
                    plan.trays(),
                    _shown(plan),
                ]
            ).reshape(-1, 9)
        )
        solids = _solid_segments(edges, openings)
        solid0 = self.solid.add(solids)
        starts_counts = [room0, plan.num_rooms, edge0, len(edges), door0, plan.num_doors]
        self.plan_int.add(np.array([[*starts_counts, box0, plan.num_boxes, solid0, len(solids)]], np.int32))
        self.plan_float.add(np.array([[plan.height, *plan.bounds]], np.float32))
        self.max_boxes = max(self.max_boxes, plan.num_boxes)
        self.max_doors = max(self.max_doors, plan.num_doors)
        self.plans.append(plan)
        self._arrays = None
        return len(self.plans) - 1

    def arrays(self) -> PlanArrays:
        """Return the packed arrays for compiled code; they stay valid until the next `add`."""
        if self._arrays is None:
            self._arrays = PlanArrays(*(getattr(self, name).store for name in PlanArrays._fields))
        return self._arrays


def _shown(plan: HousePlan) -> np.ndarray:
    """Return (B,) bool: what lies in a container shows only while that container is open."""
    holder = np.maximum(plan.box_parent, 0)
    return ~plan.box_inside | plan.box_open[holder] if plan.num_boxes else np.zeros(0, np.bool_)


def _edges(plan: HousePlan) -> np.ndarray:
    """Return (C, 6) float32 wall edges in corner order: x0, z0, x1, z1, unit direction."""
    rows = []
    for room in range(plan.num_rooms):
        corners = plan.room_polygon(room).astype(np.float64)
        ends = np.roll(corners, -1, 0)
        along = ends - corners
        length = np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
        rows.append(np.concatenate([corners, ends, along / length], 1))
    return np.concatenate(rows).astype(np.float32)


def _on_edge(edge: np.ndarray, ends: np.ndarray) -> tuple[float, float] | None:
    """Return where two points lie along an edge (metres, ascending), None when they are off it."""
    origin, length = edge[:2].astype(np.float64), float(np.hypot(*(edge[2:4] - edge[:2])))
    delta = ends.astype(np.float64) - origin
    along = delta @ edge[4:6].astype(np.float64)
    across = delta @ np.array([-edge[5], edge[4]], np.float64)
    if np.abs(across).max() > ON_WALL or along.min() < -ON_WALL or along.max() > length + ON_WALL:
        return None
    low, high = sorted(np.clip(along, 0.0, length))
    return float(low), float(high)


def _openings(plan: HousePlan, edges: np.ndarray) -> list[tuple]:
    """Return (edge, s0, s1, y0, y1, kind, index, room behind, edge behind, instance, backwards) of every opening.

    A door shows on both rooms it joins, so it gives two rows; a window gives one.
    """
    rows: list[tuple] = []
    for door in range(plan.num_doors):
        found: list[tuple[int, float, float, int]] = []
        for room in plan.door_room[door]:
            place = _find(plan, edges, int(room), plan.door_ends[door]) if room >= 0 else None
            if room >= 0 and place is None:
                raise UsageError(f"plan {plan.name!r}: door {door} does not lie on a wall of room {room}")
            found.append((*place, int(room)) if place else (-1, 0.0, 0.0, -1))
        for here, there in ((0, 1), (1, 0)):
            edge, low, high, room = found[here]
            if room < 0 or (here == 1 and room == found[0][3]):
                continue
            behind = found[there] if found[there][3] != room else (-1, 0.0, 0.0, -1)
            backwards = int(float((plan.door_ends[door, 1] - plan.door_ends[door, 0]) @ edges[edge, 4:6]) < 0)
            top = min(float(plan.door_top[door]), plan.height)
            rows.append((edge, low, high, 0.0, top, 0, door, behind[3], behind[0], FIRST_INSTANCE + door, backwards))
    for window in range(plan.num_windows):
        place = _find(plan, edges, int(plan.window_room[window]), plan.window_ends[window])
        if place is None:
            raise UsageError(f"plan {plan.name!r}: window {window} does not lie on a wall of its room")
        instance = FIRST_INSTANCE + plan.num_doors + window
        low, high = (float(value) for value in plan.window_y[window])
        rows.append((*place, low, high, 1, window, -1, -1, instance, 0))
    return rows


def _find(plan: HousePlan, edges: np.ndarray, room: int, ends: np.ndarray) -> tuple[int, float, float] | None:
    for edge in range(plan.room_start[room], plan.room_start[room + 1]):
        place = _on_edge(edges[edge], ends)
        if place is not None:
            return edge, *place
    return None


def _solid_segments(edges: np.ndarray, openings: list[tuple]) -> np.ndarray:
    """Return (S, 4) float32: every wall edge with its door openings cut out."""
    out = []
    for index, edge in enumerate(edges):
        doors = sorted((row[1], row[2]) for row in openings if row[0] == index and row[5] == 0)
        length = float(np.hypot(*(edge[2:4] - edge[:2])))
        position = 0.0
        for low, high in [*doors, (length, length)]:
            if low - position > 1e-4:
                out.append([*(edge[:2] + position * edge[4:6]), *(edge[:2] + low * edge[4:6])])
            position = max(position, high)
    return np.array(out, np.float32).reshape(-1, 4)
