"""Make a `HousePlan` piece by piece: rooms, doors, windows, boxes (openable ones get their tray by themselves)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embodied_mem.envs.house import classes as K
from embodied_mem.envs.house.plan import HousePlan
from embodied_mem.errors import UsageError

TRAY_REACH = 0.3
"""Metres that an opened tray stands out of its container."""
TRAY_LEVEL = 0.75
"""Metres above the floor of a tray, where the container is high enough."""
TRAY_THICKNESS = 0.05


@dataclass
class _Box:
    cls: int
    pose: tuple[float, float, float, float]
    size: tuple[float, float, float]
    rgb: tuple[int, ...]
    flags: int
    parent: int
    inside: bool
    room: int
    open: bool


class PlanBuilder:
    """Collects the parts of one house; `build()` checks them and returns the immutable plan.

    >>> builder = PlanBuilder("hand-made", height=2.7)
    >>> kitchen = builder.room("Kitchen", [(0, 0), (0, 4), (4, 4), (4, 0)])
    >>> fridge = builder.box("Fridge", kitchen, x=2.0, z=3.6, yaw=math.pi)
    >>> apple = builder.box("Apple", kitchen, parent=fridge, inside=True)
    >>> builder.build()
    HousePlan('hand-made', rooms=1, doors=0, windows=0, boxes=3)
    """

    def __init__(self, name: str, height: float = 2.7) -> None:
        self.name = name
        self.height = height
        self.start: tuple[float, float, float] | None = None
        self.meta: dict[str, str] = {}
        self._rooms: list[tuple[int, np.ndarray, tuple[int, int], tuple[Sequence[int], Sequence[int]]]] = []
        self._doors: list[tuple[np.ndarray, tuple[int, int], float, float, bool]] = []
        self._windows: list[tuple[np.ndarray, int, tuple[float, float]]] = []
        self._boxes: list[_Box] = []
        self._trays: dict[int, int] = {}

    def room(
        self,
        kind: str,
        polygon: Sequence[tuple[float, float]] | np.ndarray,
        *,
        style: tuple[int, int] = (0, 0),
        wall_rgb: Sequence[int] = (214, 208, 196),
        floor_rgb: Sequence[int] = (166, 128, 92),
    ) -> int:
        """Add a room and return its index.

        Args:
            kind: a name of `classes.ROOM_TYPES`.
            polygon: (C, 2) corners x, z in either sense, C >= 3.
            style: wall and floor texture numbers (`textures.WALL_STYLES`, `textures.FLOOR_STYLES`).
            wall_rgb: 0-255.
            floor_rgb: 0-255.

        Raises:
            UsageError: unknown kind, or fewer than three corners.
        """
        if kind not in K.ROOM_TYPES:
            raise UsageError(f"expected a room type of {K.ROOM_TYPES}, got {kind!r}")
        corners = np.asarray(polygon, np.float64)
        if corners.ndim != 2 or len(corners) < 3 or corners.shape[1] != 2:
            raise UsageError(f"expected a (C >= 3, 2) polygon, got shape {corners.shape}")
        if _signed_area(corners) > 0:
            corners = corners[::-1]
        self._rooms.append((K.ROOM_TYPES.index(kind), corners, style, (wall_rgb, floor_rgb)))
        return len(self._rooms) - 1

    def door(
        self,
        end0: tuple[float, float],
        end1: tuple[float, float],
        room0: int,
        room1: int = -1,
        *,
        top: float = 2.1,
        openness: float = 1.0,
        openable: bool = True,
    ) -> int:
        """Add a door whose opening runs between two points of a wall, and return its index. ``room1=-1``: outside."""
        self._doors.append((np.array([end0, end1], np.float64), (room0, room1), top, openness, openable))
        return len(self._doors) - 1

    def window(
        self, end0: tuple[float, float], end1: tuple[float, float], room: int, *, sill: float = 0.9, top: float = 2.1
    ) -> int:
        """Add a window to an outer wall and return its index."""
        self._windows.append((np.array([end0, end1], np.float64), room, (sill, top)))
        return len(self._windows) - 1

    def box(
        self,
        name: str,
        room: int,
        *,
        x: float | None = None,
        z: float | None = None,
        y: float | None = None,
        yaw: float = 0.0,
        size: Sequence[float] | None = None,
        rgb: Sequence[int] | None = None,
        flags: int | None = None,
        parent: int = -1,
        inside: bool = False,
        open: bool = False,
    ) -> int:
        """Add a prism and return its index; an openable one gets its tray as the next box.

        Args:
            name: object class.
            room: room index.
            x: centre, metres; default the parent's centre (its tray's, if inside).
            z: as x.
            y: base height; default the parent's top (its tray's, if inside), else 0.
            yaw: radians, clockwise from above; the front looks along (sin yaw, cos yaw).
            size: width, height, depth; default the usual size of the class.
            rgb: default the class colour.
            flags: default the flags of the class.
            parent: the box it lies on or in.
            inside: it lies in ``parent``, which must be openable.
            open: the container starts open.

        Raises:
            UsageError: unknown class, or inside a box that cannot be opened.
        """
        if name not in K.BY_NAME:
            raise UsageError(f"unknown object class {name!r}; see classes.CLASS_NAMES")
        kind = K.BY_NAME[name]
        if inside and parent not in self._trays:
            raise UsageError(f"{name} cannot lie inside box {parent}: that is not an openable container")
        width, height, depth = size if size is not None else kind.size
        bits = kind.flags if flags is None else flags
        support = self._trays[parent] if inside else parent
        if support >= 0:
            base = self._boxes[support]
            px, py, pz, _ = base.pose
            x, z = (px if x is None else x), (pz if z is None else z)
            y = py + base.size[1] if y is None else y
        pose = (float(x or 0.0), float(y or 0.0), float(z or 0.0), float(yaw))
        colour = tuple(rgb if rgb is not None else kind.rgb)
        index = len(self._boxes)
        extent = (float(width), float(height), float(depth))
        self._boxes.append(_Box(kind.id, pose, extent, colour, bits, parent, inside, room, open))
        if bits & K.OPENABLE:
            self._add_tray(index)
        return index

    def _add_tray(self, index: int) -> None:
        box = self._boxes[index]
        x, y, z, yaw = box.pose
        width, height, depth = box.size
        level = min(max(0.45 * height, min(TRAY_LEVEL - y, 0.8 * height)), height - TRAY_THICKNESS)
        reach = 0.5 * (depth + TRAY_REACH)
        pose = (x + math.sin(yaw) * reach, y + max(level, 0.0), z + math.cos(yaw) * reach, yaw)
        size = (0.9 * width, TRAY_THICKNESS, TRAY_REACH)
        rgb = tuple(min(255, value // 2 + 110) for value in box.rgb)
        self._trays[index] = len(self._boxes)
        self._boxes.append(_Box(box.cls, pose, size, rgb, K.TRAY, index, True, box.room, False))

    def build(self) -> HousePlan:
        """Return the immutable plan.

        Raises:
            UsageError: no room, or parts that contradict one another.
        """
        if not self._rooms:
            raise UsageError(f"plan {self.name!r} has no room")

        def column(key: str, dtype: type, *shape: int) -> np.ndarray:
            return np.array([getattr(box, key) for box in self._boxes], dtype).reshape(len(self._boxes), *shape)

        counts = [len(corners) for _, corners, _, _ in self._rooms]
        doors, windows = self._doors, self._windows
        return HousePlan(
            name=self.name,
            height=float(self.height),
            room_type=np.array([kind for kind, _, _, _ in self._rooms], np.int32),
            room_start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
            corners=np.concatenate([corners for _, corners, _, _ in self._rooms]).astype(np.float32),
            room_style=np.array([style for _, _, style, _ in self._rooms], np.int32),
            room_rgb=np.array([rgb for _, _, _, rgb in self._rooms], np.uint8).reshape(-1, 2, 3),
            door_ends=np.array([door[0] for door in doors], np.float32).reshape(-1, 2, 2),
            door_room=np.array([door[1] for door in doors], np.int32).reshape(-1, 2),
            door_top=np.array([door[2] for door in doors], np.float32),
            door_openness=np.array([door[3] for door in doors], np.float32),
            door_openable=np.array([door[4] for door in doors], np.bool_),
            window_ends=np.array([window[0] for window in windows], np.float32).reshape(-1, 2, 2),
            window_room=np.array([window[1] for window in windows], np.int32),
            window_y=np.array([window[2] for window in windows], np.float32).reshape(-1, 2),
            box_class=column("cls", np.int32),
            box_pose=column("pose", np.float32, 4),
            box_size=column("size", np.float32, 3),
            box_rgb=column("rgb", np.uint8, 3),
            box_flags=column("flags", np.uint8),
            box_parent=column("parent", np.int32),
            box_inside=column("inside", np.bool_),
            box_room=column("room", np.int32),
            box_open=column("open", np.bool_),
            start=self.start,
            meta=dict(self.meta),
        )


def _signed_area(corners: np.ndarray) -> float:
    """Shoelace area: positive = counter-clockwise seen from above (x right, z up the page)."""
    x, z = corners[:, 0], corners[:, 1]
    return 0.5 * float(np.sum(x * np.roll(z, -1) - np.roll(x, -1) * z))
