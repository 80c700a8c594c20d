"""Puts furniture and small objects into the rooms of a layout, following the tables of `recipes`.

Footprints are axis-aligned rectangles in metres that may not overlap each other, the free strip in front of a door, or
the free strip in front of a container.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from embodied_mem.envs.house import classes as K
from embodied_mem.envs.house import recipes
from embodied_mem.envs.house.layout import Layout

Rect = tuple[float, float, float, float]
DOOR_DEPTH = 0.75
"""Metres kept free in front of a door, on both sides."""
FRONT = 0.65
"""Metres kept free in front of a container."""
WALL_GAP = 0.02
"""Metres between a piece and the wall behind it."""
PASSAGE = 0.55
"""Metres kept between free-standing pieces and everything else."""


@dataclass
class Placed:
    """One piece or object before it becomes a box of the plan."""

    name: str
    room: int
    x: float
    z: float
    yaw: float
    size: tuple[float, float, float]
    y: float = 0.0
    parent: int = -1
    inside: bool = False
    rect: Rect | None = None
    """Blocked floor; None for what stands on something or hangs."""
    keep: Rect | None = None
    """Floor kept free in front of it."""


def rect_of(x: float, z: float, yaw: float, size: tuple[float, float, float], grow: float = 0.0) -> Rect:
    """Return the axis-aligned rectangle x0, z0, x1, z1 around a footprint, grown by ``grow`` metres."""
    c, s = abs(math.cos(yaw)), abs(math.sin(yaw))
    hx = 0.5 * (size[0] * c + size[2] * s) + grow
    hz = 0.5 * (size[0] * s + size[2] * c) + grow
    return x - hx, z - hz, x + hx, z + hz


def overlap(a: Rect, b: Rect) -> bool:
    """Return whether two rectangles share area."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


class Furnisher:
    """Fills one layout; `pieces` lists the result in the order in which boxes must be built (parents first)."""

    def __init__(self, rng: np.random.Generator, layout: Layout, clutter: float, budget: int) -> None:
        self.rng = rng
        self.layout = layout
        self.clutter = clutter
        self.budget = budget
        """Boxes left, trays included."""
        self.pieces: list[Placed] = []
        self.keepouts: list[Rect] = [self._door_strip(opening.ends) for opening in layout.doors]
        self._walls = _room_walls(layout)

    @staticmethod
    def _door_strip(ends: tuple[tuple[float, float], tuple[float, float]]) -> Rect:
        (x0, z0), (x1, z1) = ends
        upright = abs(x1 - x0) < abs(z1 - z0)
        dx, dz = (DOOR_DEPTH, 0.05) if upright else (0.05, DOOR_DEPTH)
        return min(x0, x1) - dx, min(z0, z1) - dz, max(x0, x1) + dx, max(z0, z1) + dz

    def furnish(self, containers: int) -> None:
        """Place furniture in all rooms, containers up to the wanted number, then small objects."""
        total = self.budget
        furniture = max(int(0.62 * total), 2 * containers)
        queue = sorted(wish for room in range(len(self.layout.kinds)) for wish in self._wish(room))
        for _, room, name, where in queue:
            missing = max(0, containers - self.count(K.OPENABLE))
            if total - self.budget >= furniture or self.budget <= 2 * missing + 1:
                break
            self.place(name, where, room)
        self._add_containers(containers)
        self._add_items()

    def _wish(self, room: int) -> list[tuple[float, int, str, str]]:
        """Return the drawn pieces of a room as (order, room, class, where), important ones first."""
        return [
            (order + 0.5 * float(self.rng.random()), room, name, where)
            for order, (name, where, chance) in enumerate(recipes.PIECES[self.layout.kinds[room]])
            if self.rng.random() < chance
        ]

    def count(self, flag: int) -> int:
        """Return how many placed pieces carry a class flag."""
        return sum(bool(K.BY_NAME[piece.name].flags & flag) for piece in self.pieces)

    def _add_containers(self, wanted: int) -> None:
        rooms = len(self.layout.kinds)
        for attempt in range(12 * wanted):
            if self.count(K.OPENABLE) >= wanted:
                return
            have = {piece.name for piece in self.pieces}
            fresh = [name for name in recipes.CONTAINERS if name not in have] or list(recipes.CONTAINERS)
            self.place(str(self.rng.choice(fresh)), "wall", (attempt + int(self.rng.integers(rooms))) % rooms)

    def _size(self, name: str) -> tuple[float, float, float]:
        x, y, z = K.BY_NAME[name].size
        scale, tall = self.rng.uniform(0.92, 1.08), self.rng.uniform(0.95, 1.05)
        if name == "CounterTop":
            return round(float(self.rng.uniform(1.2, 2.4)), 3), 0.92, 0.62
        return round(x * scale, 3), round(y * tall, 3), round(z * scale, 3)

    def place(self, name: str, where: str, room: int) -> bool:
        """Try to place one piece; return whether it found room."""
        cost = 2 if K.BY_NAME[name].flags & K.OPENABLE else 1
        if self.budget < cost:
            return False
        kind, _, anchor = where.partition(" ")
        size = self._size(name)
        hosts = [k for k, piece in enumerate(self.pieces) if piece.room == room and piece.name == anchor]
        if anchor and not hosts:
            return False
        host = hosts[-1] if hosts else -1
        for _ in range(14):
            piece = getattr(self, f"_try_{kind}")(name, room, size, host)
            if piece is not None and self._fits(piece, kind):
                self.pieces.append(piece)
                self.budget -= cost
                return True
        return False

    def _fits(self, piece: Placed, kind: str) -> bool:
        if piece.rect is None:
            return piece.parent >= 0 or (not self._hangs_over(piece) and not self._over_opening(piece))
        if not self.layout.holds(piece.room, *piece.rect):
            return False
        wide = tuple(v + d for v, d in zip(piece.rect, (-PASSAGE, -PASSAGE, PASSAGE, PASSAGE)))
        test = wide if kind == "centre" else piece.rect
        for other in self.pieces:
            if other.room != piece.room:
                continue
            if other.rect is not None and overlap(test, other.rect):  # type: ignore[arg-type]
                return False
            if other.keep is not None and overlap(piece.rect, other.keep):
                return False
            if piece.keep is not None and other.rect is not None and overlap(piece.keep, other.rect):
                return False
        if piece.keep is not None and not self.layout.holds(piece.room, *_inner(piece.keep)):
            return False
        if piece.size[1] > 1.0 and self._over_opening(piece):
            return False
        return not any(overlap(piece.rect, strip) for strip in self.keepouts)

    def _hangs_over(self, piece: Placed) -> bool:
        """Return whether a hanging piece would cover another one."""
        own = _full(piece, 0.05)
        return any(
            other.y > 0.3 and other.room == piece.room and other.parent < 0 and overlap(_full(other, 0.05), own)
            for other in self.pieces
        )

    def _over_opening(self, piece: Placed) -> bool:
        """Return whether a hanging or tall piece would cover a door or a window."""
        own = _full(piece, 0.08)
        for opening in (*self.layout.doors, *self.layout.windows):
            (x0, z0), (x1, z1) = opening.ends
            if overlap(own, (min(x0, x1) - 0.02, min(z0, z1) - 0.02, max(x0, x1) + 0.02, max(z0, z1) + 0.02)):
                return True
        return False

    def _against(self, room: int, width: float, corner: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Draw a place on a wall: point on the wall, direction along it, direction into the room."""
        walls = [wall for wall in self._walls[room] if wall[1] >= width + 0.04]
        if not walls:
            return None
        start, length, along = walls[int(self.rng.integers(len(walls)))]
        low, high = 0.5 * width + 0.02, length - 0.5 * width - 0.02
        if corner:
            where = low if self.rng.random() < 0.5 else high
        else:
            where = float(self.rng.uniform(low, high))
        return start + along * where, along, np.array([along[1], -along[0]])

    def _try_wall(self, name: str, room: int, size: tuple, host: int, corner: bool = False) -> Placed | None:
        spot = self._against(room, size[0], corner)
        if spot is None:
            return None
        point, _, normal = spot
        x, z = point + normal * (0.5 * size[2] + WALL_GAP)
        yaw = math.atan2(normal[0], normal[1])
        piece = Placed(name, room, float(x), float(z), yaw, size, rect=rect_of(x, z, yaw, size))
        if K.BY_NAME[name].flags & K.OPENABLE or name in ("Bed", "Sofa", "Toilet", "Desk", "CounterTop"):
            centre = point + normal * (size[2] + WALL_GAP + 0.5 * FRONT)
            piece.keep = rect_of(float(centre[0]), float(centre[1]), yaw, (min(size[0], 0.8), 0.0, FRONT))
        return piece

    def _try_corner(self, name: str, room: int, size: tuple, host: int) -> Placed | None:
        return self._try_wall(name, room, size, host, corner=True)

    def _try_centre(self, name: str, room: int, size: tuple, host: int) -> Placed | None:
        rows, columns = np.nonzero(self.layout.labels == room)
        pick = int(self.rng.integers(len(rows)))
        x, z = (columns[pick] + 0.5) * 0.25, (rows[pick] + 0.5) * 0.25
        yaw = 0.5 * math.pi * int(self.rng.integers(2))
        return Placed(name, room, float(x), float(z), yaw, size, rect=rect_of(x, z, yaw, size))

    def _try_rug(self, name: str, room: int, size: tuple, host: int) -> Placed | None:
        piece = self._try_centre(name, room, size, host)
        if piece is None or not self.layout.holds(room, *rect_of(piece.x, piece.z, piece.yaw, size)):
            return None
        piece.rect = None
        return piece if not any(other.name == "Rug" and other.room == room for other in self.pieces) else None

    def _try_hang(self, name: str, room: int, size: tuple, host: int) -> Placed | None:
        spot = self._against(room, size[0] + 0.2, False)
        if spot is None:
            return None
        point, _, normal = spot
        x, z = point + normal * (0.5 * size[2] + 0.005)
        low = 0.95 if name == "Towel" else float(self.rng.uniform(1.3, 1.55))
        piece = Placed(name, room, float(x), float(z), math.atan2(normal[0], normal[1]), size, y=low)
        own = _full(piece, 0.02)
        tall = any(
            other.rect is not None and other.y + other.size[1] > low and overlap(own, other.rect)
            for other in self.pieces
        )
        return None if tall else piece

    def _try_on(self, name: str, room: int, size: tuple, host: int) -> Placed | None:
        base = self.pieces[host]
        return self._lay(name, size, host, turn=0.0) if base.size[0] >= size[0] * 0.8 else None

    def _lay(self, name: str, size: tuple, host: int, turn: float) -> Placed | None:
        """Lay something on top of a piece, clear of what lies there already."""
        base = self.pieces[host]
        free_x, free_z = 0.5 * (base.size[0] - size[0]) - 0.02, 0.5 * (base.size[2] - size[2]) - 0.02
        if free_z < 0 and name == "Television":
            free_z = 0.0
        if free_x < 0 or free_z < 0:
            return None
        lx, lz = float(self.rng.uniform(-free_x, free_x)), float(self.rng.uniform(-free_z, free_z))
        c, s = math.cos(base.yaw), math.sin(base.yaw)
        x, z = base.x + lx * c + lz * s, base.z - lx * s + lz * c
        own = rect_of(x, z, base.yaw + turn, size, 0.02)
        for other in self.pieces:
            if other.parent == host and not other.inside:
                if overlap(own, rect_of(other.x, other.z, other.yaw, other.size)):
                    return None
        return Placed(name, base.room, x, z, base.yaw + turn, size, y=base.y + base.size[1], parent=host)

    def _try_beside(self, name: str, room: int, size: tuple, host: int) -> Placed | None:
        base = self.pieces[host]
        side = 1.0 if self.rng.random() < 0.5 else -1.0
        c, s = math.cos(base.yaw), math.sin(base.yaw)
        lx, lz = side * (0.5 * (base.size[0] + size[0]) + 0.04), 0.5 * (size[2] - base.size[2])
        x, z = base.x + lx * c + lz * s, base.z - lx * s + lz * c
        return Placed(name, room, x, z, base.yaw, size, rect=rect_of(x, z, base.yaw, size))

    def _try_front(self, name: str, room: int, size: tuple, host: int) -> Placed | None:
        base = self.pieces[host]
        gap = 0.08 if name == "Chair" else 0.45
        away = 0.5 * (base.size[2] + size[2]) + gap
        x, z = base.x + away * math.sin(base.yaw), base.z + away * math.cos(base.yaw)
        base.keep = None
        yaw = base.yaw + math.pi
        return Placed(name, room, x, z, yaw, size, rect=rect_of(x, z, yaw, size))

    def _try_around(self, name: str, room: int, size: tuple, host: int) -> Placed | None:
        base = self.pieces[host]
        side = int(self.rng.integers(4))
        yaw = base.yaw + 0.5 * math.pi * side
        away = 0.5 * (base.size[0] if side % 2 else base.size[2]) + 0.5 * size[2] + 0.05
        x, z = base.x + away * math.sin(yaw), base.z + away * math.cos(yaw)
        return Placed(name, room, x, z, yaw + math.pi, size, rect=rect_of(x, z, yaw, size))

    def _add_items(self) -> None:
        hosts = [k for k, piece in enumerate(self.pieces) if piece.name in recipes.ITEMS]
        for _ in range(2):
            for host in self.rng.permutation(hosts):
                if self.rng.random() < self.clutter and self.budget > 0:
                    names = recipes.ITEMS[self.pieces[host].name]
                    name = str(names[int(self.rng.integers(len(names)))])
                    turn = 0.5 * math.pi * int(self.rng.integers(4))
                    item = self._lay(name, self._size(name), int(host), turn)
                    if item is not None:
                        self.pieces.append(item)
                        self.budget -= 1
        boxes = [k for k, piece in enumerate(self.pieces) if K.BY_NAME[piece.name].flags & K.OPENABLE]
        for host in boxes:
            if self.rng.random() < 0.4 * self.clutter and self.budget > 0:
                base = self.pieces[host]
                name = str(self.rng.choice(("Apple", "Book", "Mug", "Bowl", "SoapBottle", "Cup", "Tomato")))
                self.pieces.append(
                    Placed(name, base.room, base.x, base.z, base.yaw, self._size(name), parent=host, inside=True)
                )
                self.budget -= 1
        for room in range(len(self.layout.kinds)):
            if self.rng.random() < 0.3 * self.clutter and self.budget > 0:
                name = str(self.rng.choice(recipes.FLOOR_ITEMS))
                self.place(name, "wall", room)


def _full(piece: Placed, grow: float) -> Rect:
    return rect_of(piece.x, piece.z, piece.yaw, piece.size, grow)


def _inner(rect: Rect) -> Rect:
    return rect[0] + 0.01, rect[1] + 0.01, rect[2] - 0.01, rect[3] - 0.01


def _room_walls(layout: Layout) -> list[list[tuple[np.ndarray, float, np.ndarray]]]:
    """Return per room its walls as (start, length, unit direction), clockwise, so the room lies to the right."""
    from embodied_mem.envs.house.layout import outline

    out = []
    for room in range(len(layout.kinds)):
        corners = outline(layout.labels, room)
        ends = np.roll(corners, -1, 0)
        lengths = np.abs(ends - corners).sum(1)
        out.append([(a, float(n), (b - a) / n) for a, b, n in zip(corners, ends, lengths)])
    return out
