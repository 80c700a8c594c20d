"""Prepare any house for a hiding task: K closable containers of different kind and colour on its walls, and one item.

`stage` takes a plan (an empty room, a generated house, a ProcTHOR house), stops its own furniture and doors from being
opened, adds the containers where an agent can stand in front of them, and returns the new plan with the indices that
matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from embodied_mem.envs.house import classes as K
from embodied_mem.envs.house.builder import PlanBuilder
from embodied_mem.envs.house.colours import COLOUR_NAMES, COLOUR_RGB
from embodied_mem.envs.house.plan import HousePlan
from embodied_mem.envs.house.sources import SPLITS

Bounds = tuple[float, float, float, float]
"""Low x, low z, high x, high z in metres."""

KINDS: tuple[tuple[str, tuple[float, float, float]], ...] = (
    ("Cabinet", (0.8, 0.9, 0.5)),
    ("Chest", (0.8, 0.6, 0.5)),
    ("Safe", (0.55, 0.6, 0.45)),
    ("Dresser", (0.9, 0.97, 0.45)),
    ("WashingMachine", (0.68, 1.0, 0.55)),
    ("LaundryHamper", (0.55, 0.74, 0.43)),
    ("Wardrobe", (0.9, 1.3, 0.5)),
    ("Basket", (0.55, 0.6, 0.45)),
    ("Fridge", (0.8, 1.2, 0.55)),
    ("ClothesDryer", (0.68, 1.05, 0.55)),
)
"""Container classes with their width, height and depth in metres."""
COLOURS = ("red", "blue", "green", "yellow", "magenta", "cyan", "orange", "purple", "white", "black")
"""Container colours, far apart from one another."""
ITEMS: tuple[str, ...] = (
    "Apple",
    "BasketBall",
    "Book",
    "Bowl",
    "Bread",
    "Kettle",
    "Mug",
    "TeddyBear",
    "Vase",
    "Bottle",
)
"""Classes of the hidden item."""
ITEM_SIZE = (0.36, 0.26, 0.24)
"""Width, height and depth in metres, so wide that every scan of 16 columns or more meets it from 0.9 m."""
FURNITURE = (
    "Sofa",
    "SideTable",
    "ShelvingUnit",
    "ArmChair",
    "HousePlant",
    "TVStand",
    "Desk",
    "Ottoman",
)
"""What may stand about as clutter."""
FRONT = 0.8
"""Metres of free floor in front of a container."""
DOOR_GAP = 0.6
"""Metres between a container (with its front) and a door opening."""
SPOT_STEP = 0.25
"""Metres between the places that are tried along a wall."""
GAP = 0.15
"""Metres between neighbours."""


@dataclass(frozen=True)
class Staged:
    """A plan that is ready for hiding."""

    plan: HousePlan
    containers: np.ndarray
    """(K,) int64 boxes that open."""
    item: int
    """Box of the item; it lies in the first container until the task hides it."""


@dataclass(frozen=True)
class _Slot:
    """A place on a wall: centre x, z, yaw, room, and the bounding rectangle with the free floor before it."""

    x: float
    z: float
    yaw: float
    room: int
    bounds: Bounds


def empty_room(rng: np.random.Generator, name: str, side: tuple[float, float]) -> HousePlan:
    """Return one bare rectangular room whose sides are drawn from ``side`` (metres)."""
    width, depth = rng.uniform(*side, size=2)
    builder = PlanBuilder(name)
    style = (int(rng.integers(3)), int(rng.integers(3)))
    kind = K.ROOM_TYPES[int(rng.integers(4))]
    wall = rng.integers(170, 240, 3).tolist()
    floor = rng.integers(90, 190, 3).tolist()
    corners = [(0, 0), (0, depth), (width, depth), (width, 0)]
    builder.room(kind, corners, style=style, wall_rgb=wall, floor_rgb=floor)
    return builder.build()


def stage(
    plan: HousePlan,
    rng: np.random.Generator,
    containers: int,
    *,
    looks: int = len(KINDS),
    clutter: int = 0,
    one_per_wall: bool = False,
    room: int | None = None,
    thin: int = 0,
) -> Staged | None:
    """Return ``plan`` with ``containers`` closable containers and an item, or None where they find no room.

    Args:
        plan: any house.
        rng: all random choices.
        containers: K, at most `len(KINDS)`.
        looks: containers are drawn from this many kinds, each with a colour of its own if ``looks`` equals K.
        clutter: pieces of other furniture added afterwards, as far as they fit.
        one_per_wall: put one container near the middle of each wall of the first room (K = 4).
        room: clear this room and use its walls only; None for the walls of all rooms.
        thin: take away so many pieces of the house's own furniture first, with what lies on them.
    """
    base = _sealed(plan)
    if room is not None:
        base = _kept(base, base.box_room != room)
    elif thin:
        base = _thinned(base, rng, thin)
    kinds = rng.permutation(looks)[:containers]
    colours = kinds if looks == containers else rng.permutation(looks)[:containers]
    taken = [_box_bounds(base, box) for box in range(base.num_boxes) if _solid(base, box)]
    builder = PlanBuilder(plan.name)
    for index in range(plan.num_rooms):
        builder.room("Bedroom", plan.room_polygon(index))
    order = [wall for wall in _walls(plan, rng) if room is None or wall[0] == room]
    first: list[int] = []
    for number, (kind, colour) in enumerate(zip(kinds, colours)):
        name, size = KINDS[kind]
        walls = [order[number % len(order)]] if one_per_wall else order
        slot = _find_slot(plan, rng, walls, size, FRONT, taken, middle=one_per_wall)
        if slot is None:
            return None
        taken.append(slot.bounds)
        box = builder.box(name, slot.room, x=slot.x, z=slot.z, yaw=slot.yaw, size=size, rgb=_rgb(COLOURS[colour]))
        first.append(box)
    item = builder.box(ITEMS[int(rng.integers(len(ITEMS)))], 0, parent=first[0], inside=True, size=ITEM_SIZE)
    for _ in range(clutter):
        name = FURNITURE[int(rng.integers(len(FURNITURE)))]
        kind_size = K.BY_NAME[name].size
        slot = _find_slot(plan, rng, order, kind_size, 0.3, taken)
        if slot is not None:
            taken.append(slot.bounds)
            builder.box(name, slot.room, x=slot.x, z=slot.z, yaw=slot.yaw)
    offset = base.num_boxes
    return Staged(_joined(base, builder.build()), np.array(first, np.int64) + offset, item + offset)


def _rgb(name: str) -> list[int]:
    return COLOUR_RGB[COLOUR_NAMES.index(name)].tolist()


def _sealed(plan: HousePlan) -> HousePlan:
    """Return the plan with nothing that opens: doors stand open for good, own containers stay shut."""
    return replace(
        plan,
        door_openness=np.ones_like(plan.door_openness),
        door_openable=np.zeros_like(plan.door_openable),
        box_flags=(plan.box_flags & ~np.uint8(K.OPENABLE | K.PICKUPABLE)).astype(np.uint8),
        box_open=np.zeros_like(plan.box_open),
    )


def _thinned(plan: HousePlan, rng: np.random.Generator, count: int) -> HousePlan:
    """Return the plan without ``count`` random pieces of furniture and what lies on or in them."""
    roots = [box for box in range(plan.num_boxes) if _solid(plan, box)]
    keep = np.ones(plan.num_boxes, np.bool_)
    keep[rng.permutation(roots)[:count].astype(np.int64)] = False
    for _ in range(4):
        keep &= (plan.box_parent < 0) | keep[plan.box_parent]
    return _kept(plan, keep)


def _kept(plan: HousePlan, keep: np.ndarray) -> HousePlan:
    """Return the plan with the boxes of ``keep`` (B,) bool only; a box whose parent goes lies on nothing."""
    number = np.append(np.where(keep, np.cumsum(keep) - 1, -1), -1)
    parents = number[plan.box_parent][keep].astype(np.int32)
    return _with_boxes(plan, lambda column: getattr(plan, column)[keep], parents)


def _joined(base: HousePlan, extra: HousePlan) -> HousePlan:
    """Return ``base`` with the boxes of ``extra`` appended; both have the same rooms."""
    shifted = np.where(extra.box_parent >= 0, extra.box_parent + base.num_boxes, -1).astype(np.int32)
    parents = np.concatenate([base.box_parent, shifted])
    return _with_boxes(base, lambda name: np.concatenate([getattr(base, name), getattr(extra, name)]), parents)


def _with_boxes(plan: HousePlan, column: Callable[[str], np.ndarray], parents: np.ndarray) -> HousePlan:
    return replace(
        plan,
        box_class=column("box_class"),
        box_pose=column("box_pose"),
        box_size=column("box_size"),
        box_rgb=column("box_rgb"),
        box_flags=column("box_flags"),
        box_inside=column("box_inside"),
        box_room=column("box_room"),
        box_open=column("box_open"),
        box_parent=parents,
    )


def _solid(plan: HousePlan, box: int) -> bool:
    return plan.box_parent[box] < 0 and not plan.box_flags[box] & (K.FLAT | K.TRAY) and plan.box_pose[box, 1] < 1.5


def _box_bounds(plan: HousePlan, box: int) -> Bounds:
    x, _, z, yaw = (float(value) for value in plan.box_pose[box])
    return _bounds(x, z, yaw, float(plan.box_size[box, 0]), float(plan.box_size[box, 2]))


def _bounds(x: float, z: float, yaw: float, width: float, depth: float) -> Bounds:
    cos, sin = abs(np.cos(yaw)), abs(np.sin(yaw))
    half_x, half_z = 0.5 * (width * cos + depth * sin), 0.5 * (width * sin + depth * cos)
    return x - half_x, z - half_z, x + half_x, z + half_z


def _walls(plan: HousePlan, rng: np.random.Generator) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Return (room, start, end) of every wall edge in random order."""
    walls = []
    for room in range(plan.num_rooms):
        corners = plan.room_polygon(room).astype(np.float64)
        walls += [(room, corners[k], corners[(k + 1) % len(corners)]) for k in range(len(corners))]
    return [walls[int(k)] for k in rng.permutation(len(walls))]


def _find_slot(
    plan: HousePlan,
    rng: np.random.Generator,
    walls: list[tuple[int, np.ndarray, np.ndarray]],
    size: tuple[float, float, float],
    front: float,
    taken: list[Bounds],
    middle: bool = False,
) -> _Slot | None:
    """Return a free place against one of ``walls``, None when there is none.

    Args:
        size: width, height, depth of the piece in metres.
        front: metres of free floor it needs before it.
        taken: what must not be touched.
        middle: only places near the middle of a wall.
    """
    width, _, depth = size
    for room, start, end, where in _spots(rng, walls, width, middle):
        along = (end - start) / np.hypot(*(end - start))
        # Corners run clockwise, so the room lies to the right of a wall.
        inward = np.array([along[1], -along[0]])
        yaw = float(np.arctan2(inward[0], inward[1]))
        centre = start + where * along + (0.5 * depth + 0.02) * inward
        zone = start + where * along + (0.5 * (depth + front) + 0.02) * inward
        bounds = _bounds(zone[0], zone[1], yaw, width + GAP, depth + front)
        if _is_free(plan, room, bounds, taken) and _fits(plan, room, zone, yaw, width, depth + front):
            return _Slot(float(centre[0]), float(centre[1]), yaw, room, bounds)
    return None


def _spots(
    rng: np.random.Generator, walls: list[tuple[int, np.ndarray, np.ndarray]], width: float, middle: bool
) -> list[tuple[int, np.ndarray, np.ndarray, float]]:
    """Return (room, wall start, wall end, metres along it) of all places for a width, in random order."""
    spots = []
    for room, start, end in walls:
        length = float(np.hypot(*(end - start)))
        low, high = 0.5 * width + GAP, length - 0.5 * width - GAP
        if middle:
            low, high = max(low, 0.5 * length - 0.3), min(high, 0.5 * length + 0.3)
        if high >= low:
            # Steps of a quarter metre with a common random offset, so that no place is preferred.
            offset = rng.uniform(0.0, SPOT_STEP)
            places = [low, *np.arange(low + offset, high, SPOT_STEP)] if not middle else rng.uniform(low, high, 6)
            spots += [(room, start, end, float(place)) for place in places]
    return [spots[int(k)] for k in rng.permutation(len(spots))]


def _fits(plan: HousePlan, room: int, zone: np.ndarray, yaw: float, width: float, depth: float) -> bool:
    """Return whether a turned rectangle lies inside the room's polygon (its border points do)."""
    steps = np.linspace(-0.49, 0.49, 5)
    local = np.array([(a, b) for a in steps for b in (-0.49, 0.0, 0.49)]) * (width, depth)
    cos, sin = np.cos(yaw), np.sin(yaw)
    x = zone[0] + local[:, 0] * cos + local[:, 1] * sin
    z = zone[1] - local[:, 0] * sin + local[:, 1] * cos
    corners = plan.room_polygon(room).astype(np.float64)
    ends = np.roll(corners, -1, axis=0)
    inside = np.zeros(len(x), dtype=bool)
    for (x0, z0), (x1, z1) in zip(corners, ends):
        crosses = (z0 > z) != (z1 > z)
        if crosses.any():
            inside ^= crosses & (x < (x1 - x0) * (z - z0) / (z1 - z0 if z1 != z0 else 1.0) + x0)
    return bool(inside.all())


def _is_free(
    plan: HousePlan,
    room: int,
    bounds: tuple[float, float, float, float],
    taken: list[Bounds],
) -> bool:
    x0, z0, x1, z1 = bounds
    if any(x0 < b[2] and b[0] < x1 and z0 < b[3] and b[1] < z1 for b in taken):
        return False
    for ends, joined in zip(plan.door_ends, plan.door_room):
        if room not in joined.tolist():
            continue
        for x, z in (*ends.tolist(), ends.mean(0).tolist()):
            if x0 - DOOR_GAP < x < x1 + DOOR_GAP and z0 - DOOR_GAP < z < z1 + DOOR_GAP:
                return False
    return True


@dataclass(frozen=True)
class BareRooms:
    """A source of empty rectangular rooms (see `sources.HouseSource`); train and test draw from disjoint seeds."""

    name: str
    """First part of the plans' names."""
    split: str
    """"train" or "test"."""
    count: int
    """Number of rooms."""
    side: tuple[float, float]
    """Range of both sides, metres."""

    def __len__(self) -> int:
        return self.count

    def plan(self, index: int) -> HousePlan:
        """Return room ``index``."""
        generator = np.random.default_rng([*self.name.encode(), SPLITS.index(self.split), index])
        return empty_room(generator, f"{self.name}:{self.split}:{index}", self.side)
