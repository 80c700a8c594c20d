"""Long walks through painted houses, one frame per second, with an exact log of what was seen where and when.

A stream is a row of visits. A visit is one pass of the tour of House-Tour-v0 through a house: to a stop in every room,
once around at each. Houses follow each other; four visits of five go to the house whose turn it is, one goes back to
the house before. Furniture and walls are painted by the seed, so that nothing follows from what a thing is: the walls
of a house all differ, and a quarter of all (thing, colour) pairs occur nowhere in a stream. Before every further visit
to a house some pairs of equal pieces in different rooms change places.

"Seen" means at least `PIXELS` of 48 x 64 pixels, from within the room; "glimpsed" at least `GLIMPSE` from anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from embodied_mem.envs.house import classes as K
from embodied_mem.envs.house.batch import HouseWorld, WorldConfig
from embodied_mem.envs.house.generator import GeneratorConfig
from embodied_mem.envs.house.library import PlanLibrary
from embodied_mem.envs.house.plan import FIRST_INSTANCE, HousePlan
from embodied_mem.envs.house.sensors import SensorConfig, Sensors
from embodied_mem.envs.house.sources import GeneratedHouses
from embodied_mem.envs.house.tasks.route import Routes, camera_poses
from embodied_mem.envs.house.tasks.walkable import Walkable, doors_open
from embodied_mem.errors import UsageError
from embodied_mem.perception.house_view import HEIGHT, OTHER_CELL, WALL_CELL, WIDE
from embodied_mem.perception.house_words import CLASSES, COLOUR_WORDS, COLOURS, PAIRS, WALL_WORDS, WALLS, pair

PIXELS, GLIMPSE = 60, 6
LENGTHS: dict[str, tuple[int, int]] = {"short": (120, 1), "long": (3600, 5), "very_long": (36000, 12)}
"""Name -> seconds and houses of a stream."""
POOL = 400
"""Houses per split that streams draw from, unless they are told otherwise."""
_BATCH = 32
_THING = {K.class_id(name): number for number, (name, _) in enumerate(CLASSES)}
_EXCHANGES = 2


@dataclass(frozen=True)
class TourLog:
    """What was seen; T frames, one per second."""

    walls: np.ndarray
    """(T,) int64 wall colour of the room the camera is in."""
    place: np.ndarray
    """(T,) int64 number of that room in the stream."""
    seen: np.ndarray
    """(T, 120) bool, see the module."""
    glimpsed: np.ndarray
    """(T, 120) bool, see the module."""

    def __len__(self) -> int:
        return len(self.walls)


@dataclass(frozen=True)
class TourChunk:
    """Some consecutive frames of a stream."""

    rgb: np.ndarray
    """(n, 48, 64, 3) uint8."""
    log: TourLog
    """Of these frames."""
    cells: np.ndarray | None = None
    """(n, 2, 12, 16) int64 kind and colour of every cell (-1 = none), where they were asked for."""


class TourStream:
    """One stream; it depends on split, length and seed alone."""

    def __init__(
        self, length: str | int = "short", seed: int = 0, split: str = "test", houses: int | None = None,
        pool: tuple[int, int] = (0, POOL),
    ) -> None:  # fmt: skip
        """Choose houses, paints and the order of visits; nothing is drawn before `chunks`.

        Args:
            length: a name of `LENGTHS`, or seconds.
            seed: of everything.
            split: "train" or "test": the houses are disjoint.
            houses: so many different ones; None for those of the length's name (1 for seconds).
            pool: first house of the split that may be drawn, and the one after the last.

        Raises:
            UsageError: unknown length or split, or a count below 1.
        """
        if isinstance(length, str) and length not in LENGTHS:
            raise UsageError(f"expected a length of {', '.join(LENGTHS)} or seconds, got {length!r}")
        seconds, count = LENGTHS[length] if isinstance(length, str) else (length, 1)
        count = count if houses is None else houses
        if seconds < 1 or count < 1:
            raise UsageError(f"expected at least 1 second and 1 house, got {seconds} and {count}")
        self.seconds, self.seed, self.split = seconds, seed, split
        self._draw = np.random.default_rng([seconds, count, seed, split == "test"])
        self._source = GeneratedHouses(GeneratorConfig(rooms=(4, 5), boxes=60, clutter=0.3), split, pool[1])
        self._chosen = (pool[0] + self._draw.permutation(pool[1] - pool[0])[:count]).tolist()
        self.allowed = self._draw.random(PAIRS) >= 0.25
        """(120,) bool: pairs that may occur in the stream."""
        self._world = HouseWorld(_BATCH, PlanLibrary(limit=1 << 20), WorldConfig(width=WIDE, height=HEIGHT))
        self._sensors = Sensors(self._world, SensorConfig(sensors=("rgb", "semantic")))
        self._plans: dict[int, HousePlan] = {}
        self._routes: dict[int, Routes] = {}

    def chunks(self, cells: bool = False) -> Iterator[TourChunk]:
        """Draw the stream, 32 frames at a time; iterate once.

        Args:
            cells: also tell what every cell of the encoder shows.
        """
        done = 0
        for house, plan_id, poses in self._visits():
            for start in range(0, len(poses), _BATCH):
                part = poses[start : start + min(_BATCH, self.seconds - done)]
                yield self._look(house, plan_id, part, cells)
                done += len(part)
                if done == self.seconds:
                    return

    def _visits(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield (house, plan id, poses (T, 3)) for ever."""
        count, turn, yaw, here = len(self._chosen), 0, float(self._draw.uniform(0, 360)), 0
        passed = 0
        while True:
            turn = min(count - 1, passed * count // self.seconds)
            house = turn - 1 if turn and self._draw.random() < 0.2 else turn
            plan_id = self._enter(house)
            routes, parts, here = self._routes[house], [], -1
            for stop in routes.order(int(self._draw.integers(len(routes.stops)))):
                if here < 0:
                    parts.append(np.array([[*routes.stops[stop], yaw]]))
                else:
                    parts.append(camera_poses(routes.walk(here, stop), yaw, 0.25, 30.0))
                    yaw = float(parts[-1][-1, 2]) if len(parts[-1]) else yaw
                here = stop
                around = yaw + 30.0 * np.arange(1, 13)
                parts.append(np.column_stack([np.broadcast_to(routes.stops[stop], (12, 2)), around]))
            poses = np.concatenate(parts)
            passed += len(poses)
            yield house, plan_id, poses

    def _enter(self, house: int) -> int:
        """Return the plan of a new visit: painted at the first, with exchanged pieces at others."""
        first = house not in self._plans
        if first:
            plan = self._paint(doors_open(self._source.plan(self._chosen[house])))
        else:
            plan = self._exchange(self._plans[house])
        self._plans[house] = plan
        plan_id = self._world.library.add(plan)
        if first:
            grid = self._world.free_grid(plan_id)
            self._routes[house] = Routes(plan, grid, Walkable(self._world, plan_id).places, 1)
        return plan_id

    def _paint(self, plan: HousePlan) -> HousePlan:
        boxes, rooms = plan.box_rgb.copy(), plan.room_rgb.copy()
        for box, kind in enumerate(plan.box_class.tolist()):
            if kind in _THING and not plan.box_flags[box] & K.TRAY:
                thing = _THING[kind]
                free = [k for k in range(len(COLOURS)) if self.allowed[pair(thing, k)]] or [0]
                boxes[box] = COLOURS[COLOUR_WORDS[free[int(self._draw.integers(len(free)))]]]
        walls = self._draw.permutation(len(WALLS))
        for room in range(plan.num_rooms):
            rooms[room, 0] = WALLS[WALL_WORDS[int(walls[room])]]
        return replace(plan, box_rgb=boxes, room_rgb=rooms)

    def _exchange(self, plan: HousePlan) -> HousePlan:
        """Let equal pieces of different rooms change places: they exchange their paint."""
        rgb = plan.box_rgb.copy()
        own = [b for b, kind in enumerate(plan.box_class.tolist()) if kind in _THING]
        own = [b for b in own if not plan.box_flags[b] & K.TRAY]
        pairs = [
            (a, b)
            for i, a in enumerate(own)
            for b in own[i + 1 :]
            if plan.box_class[a] == plan.box_class[b]
            and plan.box_room[a] != plan.box_room[b]
            and (rgb[a] != rgb[b]).any()
        ]
        for _ in range(min(_EXCHANGES, len(pairs))):
            a, b = pairs[int(self._draw.integers(len(pairs)))]
            rgb[[a, b]] = rgb[[b, a]]
        return replace(plan, box_rgb=rgb)

    def _look(self, house: int, plan_id: int, poses: np.ndarray, cells: bool) -> TourChunk:
        world, count = self._world, len(poses)
        rows = np.arange(count)
        world.load(rows, np.full(count, plan_id))
        world.place(rows, poses[:, 0], poses[:, 1], poses[:, 2])
        seen = self._sensors.observe()
        ids = seen["semantic"][:count]
        plan = world.library.plans[plan_id]
        first = int(world.plans.plan_int[plan_id, 0])
        room = (world.arrays.room[:count] - first).astype(np.int64)
        things, where, walls = _tables(plan)
        pairs = things[ids]
        here = where[ids] == room[:, None, None]
        shift = rows[:, None, None] * (PAIRS + 1)
        size = (count, PAIRS + 1)
        anywhere = np.bincount((pairs + shift).ravel(), minlength=size[0] * size[1]).reshape(size)[:, :PAIRS]
        inside = np.where(here, pairs, PAIRS)
        within = np.bincount((inside + shift).ravel(), minlength=size[0] * size[1]).reshape(size)[:, :PAIRS]
        log = TourLog(walls[room], house * 16 + room, within >= PIXELS, anywhere >= GLIMPSE)
        return TourChunk(seen["rgb"][:count].copy(), log, _cells(inside, ids) if cells else None)


def _tables(plan: HousePlan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what instances are: pair (I,) int64 (120 = none) and room (I,); and the wall colour of rooms (R,)."""
    count = int(plan.box_instance.max(initial=FIRST_INSTANCE)) + 1
    pairs, rooms = np.full(count + 64, PAIRS, np.int64), np.full(count + 64, -1, np.int64)
    colours = {rgb: number for number, rgb in enumerate(COLOURS.values())}
    for box, kind in enumerate(plan.box_class.tolist()):
        if kind in _THING and not plan.box_flags[box] & K.TRAY:
            number = int(plan.box_instance[box])
            pairs[number] = pair(_THING[kind], colours[tuple(plan.box_rgb[box].tolist())])
            rooms[number] = plan.box_room[box]
    walls = {rgb: number for number, rgb in enumerate(WALLS.values())}
    return pairs, rooms, np.array([walls[tuple(rgb.tolist())] for rgb in plan.room_rgb[:, 0]], np.int64)


def _cells(inside: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return (n, 2, 12, 16) int64: the kind that covers most of a cell, and its colour or -1."""
    n, height, width = ids.shape
    kinds = np.where(inside < PAIRS, inside // len(COLOURS), np.where(ids == 3, WALL_CELL, OTHER_CELL))
    tiles = kinds.reshape(n, height // 4, 4, width // 4, 4).swapaxes(2, 3).reshape(n, height // 4, width // 4, 16)
    pairs = inside.reshape(n, height // 4, 4, width // 4, 4).swapaxes(2, 3).reshape(n, height // 4, width // 4, 16)
    votes = (tiles[..., None] == np.arange(OTHER_CELL + 1)).sum(-2)
    kind = votes.argmax(-1)
    chosen = np.where(tiles == kind[..., None], pairs, PAIRS).min(-1)
    return np.stack([kind, np.where(chosen < PAIRS, chosen % len(COLOURS), -1)], 1)


def whole_log(parts: list[TourLog]) -> TourLog:
    """Return one log for logs that follow each other."""
    return TourLog(*(np.concatenate([getattr(part, name) for part in parts]) for name in TourLog.__dataclass_fields__))
