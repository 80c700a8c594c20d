"""One house as immutable arrays: the world data model of the House environments.

How the pieces of `envs/house` fit (nothing here imports numba; the compiled parts are imported on first use):

- `classes`   class ids, names, colours, flags.
- `plan`      `HousePlan`, one immutable house. `builder.PlanBuilder` makes one by hand, `generator.generate` from a
              seed, `procthor` from ProcTHOR JSON. `sources` numbers them: `source.plan(index)`, disjoint splits.
- `library`   `PlanLibrary`: many plans packed into flat arrays, `add(plan) -> plan id`; each plan is packed once.
- `batch`     `HouseWorld(num_envs, library, WorldConfig)`: N rows that play in those plans. A row stores its plan id,
              the agent and the movable state, so giving a row another house copies a few hundred numbers.
- `physics`   compiled motion and interaction; `render`, `scan`, `sensors`: what the agent perceives.

Frames. World: metres, y up, left-handed (x right, z forward at yaw 0), yaw clockwise seen from above. A prism with yaw
a has its local x axis along (cos a, -sin a) and its local z axis (the front) along (sin a, cos a) in (x, z).
Instance ids (the `semantic` sensor): 0 void, 1 floor, 2 ceiling, 3 wall, then doors, windows and boxes of the plan in
order; the tray of an openable container carries the id of its container.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np

from embodied_mem.envs.house import classes as K
from embodied_mem.errors import UsageError

FIRST_INSTANCE = 4
"""The first instance id that belongs to a door, window or box."""


@dataclass(frozen=True, eq=False)
class HousePlan:
    """One house. R rooms, C polygon corners, D doors, V windows, B boxes; every array is read-only.

    Raises:
        UsageError: arrays disagree in length, or an index points outside its table.
    """

    name: str
    """Where it came from, e.g. ``generated:train:17``."""
    height: float
    """Ceiling height in metres, one per house."""
    room_type: np.ndarray
    """(R,) int32 index into `classes.ROOM_TYPES`."""
    room_start: np.ndarray
    """(R+1,) int32: corners of room r are ``corners[room_start[r]:room_start[r+1]]``."""
    corners: np.ndarray
    """(C, 2) float32 x, z of the floor polygons, clockwise seen from above; corner k and the next one span wall k."""
    room_style: np.ndarray
    """(R, 2) int32: wall texture and floor texture."""
    room_rgb: np.ndarray
    """(R, 2, 3) uint8: wall colour and floor colour."""
    door_ends: np.ndarray
    """(D, 2, 2) float32: the two ends of the opening on the floor, x and z."""
    door_room: np.ndarray
    """(D, 2) int32: the rooms it joins, -1 = outside."""
    door_top: np.ndarray
    """(D,) float32: height of the opening."""
    door_openness: np.ndarray
    """(D,) float32 in [0, 1] at the start: the part of the width left free by the sliding panel."""
    door_openable: np.ndarray
    """(D,) bool: may be opened and closed."""
    window_ends: np.ndarray
    """(V, 2, 2) float32."""
    window_room: np.ndarray
    """(V,) int32."""
    window_y: np.ndarray
    """(V, 2) float32: sill and top height."""
    box_class: np.ndarray
    """(B,) int32 class id."""
    box_pose: np.ndarray
    """(B, 4) float32: centre x, base y, centre z (metres), yaw (radians)."""
    box_size: np.ndarray
    """(B, 3) float32: full width x, height y, depth z in the local frame."""
    box_rgb: np.ndarray
    """(B, 3) uint8."""
    box_flags: np.ndarray
    """(B,) uint8 bits `classes.OPENABLE | RECEPTACLE | PICKUPABLE | FLAT | TRAY`."""
    box_parent: np.ndarray
    """(B,) int32: the box it lies on or in, -1 = floor or wall. A tray's parent is its container."""
    box_inside: np.ndarray
    """(B,) bool: it lies in its parent, so it shows only while the parent is open."""
    box_room: np.ndarray
    """(B,) int32."""
    box_open: np.ndarray
    """(B,) bool: openable and open at the start."""
    start: tuple[float, float, float] | None = None
    """Start pose x, z, yaw given by the source, if any."""
    meta: dict[str, str] = field(default_factory=dict)
    """Free text facts of the source."""

    def __post_init__(self) -> None:
        groups = {
            "rooms": (self.room_type, self.room_style, self.room_rgb),
            "doors": (self.door_ends, self.door_room, self.door_top, self.door_openness, self.door_openable),
            "windows": (self.window_ends, self.window_room, self.window_y),
            "boxes": (
                self.box_class,
                self.box_pose,
                self.box_size,
                self.box_rgb,
                self.box_flags,
                self.box_parent,
                self.box_inside,
                self.box_room,
                self.box_open,
            ),
        }
        for name, arrays in groups.items():
            lengths = sorted({len(array) for array in arrays})
            if len(lengths) != 1:
                raise UsageError(f"plan {self.name!r}: arrays of {name} have different lengths {lengths}")
        if len(self.room_start) != self.num_rooms + 1 or self.room_start[-1] != len(self.corners):
            raise UsageError(f"plan {self.name!r}: room_start does not match {len(self.corners)} corners")
        if self.num_boxes and (self.box_parent.max() >= self.num_boxes or self.box_room.max() >= self.num_rooms):
            raise UsageError(f"plan {self.name!r}: a box names a parent or a room that does not exist")
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, np.ndarray):
                value.flags.writeable = False

    @property
    def num_rooms(self) -> int:
        """R."""
        return len(self.room_type)

    @property
    def num_doors(self) -> int:
        """D."""
        return len(self.door_top)

    @property
    def num_windows(self) -> int:
        """V."""
        return len(self.window_room)

    @property
    def num_boxes(self) -> int:
        """B, trays included."""
        return len(self.box_class)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """x0, z0, x1, z1 of the whole floor in metres."""
        low, high = self.corners.min(0), self.corners.max(0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    @property
    def box_instance(self) -> np.ndarray:
        """(B,) int32 instance id of every box; a tray has that of its container."""
        own = np.arange(self.num_boxes, dtype=np.int32)
        tray = (self.box_flags & K.TRAY) != 0
        owner = np.where(tray, self.box_parent, own)
        return (FIRST_INSTANCE + self.num_doors + self.num_windows + owner).astype(np.int32)

    @property
    def instance_class(self) -> np.ndarray:
        """(4 + D + V + B,) int32: class id of every instance id."""
        return np.concatenate(
            [
                np.array([K.VOID, K.FLOOR, K.CEILING, K.WALL], np.int32),
                np.full(self.num_doors, K.DOOR, np.int32),
                np.full(self.num_windows, K.WINDOW, np.int32),
                self.box_class.astype(np.int32),
            ]
        )

    def room_polygon(self, room: int) -> np.ndarray:
        """Return the (C, 2) float32 corners of one room."""
        return self.corners[self.room_start[room] : self.room_start[room + 1]]

    def trays(self) -> np.ndarray:
        """Return (B,) int32: the tray box of every openable container, -1 elsewhere."""
        out = np.full(self.num_boxes, -1, np.int32)
        tray = np.flatnonzero(self.box_flags & K.TRAY)
        out[self.box_parent[tray]] = tray
        return out

    def __repr__(self) -> str:
        return (
            f"HousePlan({self.name!r}, rooms={self.num_rooms}, doors={self.num_doors}, "
            f"windows={self.num_windows}, boxes={self.num_boxes})"
        )
