"""Houses in ProcTHOR's JSON, schemas 0.0.1 (sample) and 1.0.0 (ProcTHOR-10k), as `HousePlan`s.

What differs between the schemas: the opening of a door or window (`boundingBox` or `holePolygon`, both in the frame of
its first wall), floor materials (string or `{name}`), and object boxes (`size`, or the asset table that ships with this
package). Boxes are upright: tilts of settled objects are dropped. Objects of unknown assets are left out and counted in
``meta["skipped"]``. A wall that is marked empty is an opening of full height.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from embodied_mem.envs.house import classes as K
from embodied_mem.envs.house import recipes
from embodied_mem.envs.house.builder import PlanBuilder
from embodied_mem.envs.house.plan import HousePlan
from embodied_mem.errors import UsageError

SCHEMAS = ("0.0.1", "1.0.0")
OPENING_TOP = 2.1
FAR_EYE = 0.35
"""Metres in front of a door that must be free for it to count as passable."""


class Asset(NamedTuple):
    """One row of the asset table."""

    type: str
    size: tuple[float, float, float]
    openable: bool


@lru_cache(maxsize=1)
def assets() -> dict[str, Asset]:
    """Return the asset table of this package (from ProcTHOR's asset database, Apache-2.0, see NOTICE)."""
    raw = files("embodied_mem.envs.house").joinpath("data/asset_sizes.csv.gz").read_bytes()
    rows = csv.DictReader(gzip.decompress(raw).decode("utf-8").splitlines())
    return {
        row["assetId"]: Asset(
            row["objectType"],
            (float(row["x"]), float(row["y"]), float(row["z"])),
            row["openable"] == "1",
        )
        for row in rows
    }


def house_plan(house: dict[str, Any], name: str = "procthor") -> HousePlan:
    """Return the plan of one house in ProcTHOR's JSON.

    Raises:
        UsageError: the object lacks what a house needs, or its schema is unknown.
    """
    try:
        return _Reader(house, name).read()
    except (KeyError, IndexError, TypeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{name} is not a ProcTHOR house (schemas {', '.join(SCHEMAS)}): {error!r}") from error


def _xz(point: dict[str, float]) -> tuple[float, float]:
    return float(point["x"]), float(point["z"])


class _Reader:
    """Reads one house; walls are looked up by id."""

    def __init__(self, house: dict[str, Any], name: str) -> None:
        self.house = house
        schema = house["metadata"].get("schema", "1.0.0")
        if schema not in SCHEMAS:
            raise UsageError(f"{name}: schema {schema!r} is unknown, expected one of {', '.join(SCHEMAS)}")
        self.walls = {wall["id"]: wall for wall in house["walls"]}
        self.rooms = {room["id"]: index for index, room in enumerate(house["rooms"])}
        height = max((float(p["y"]) for wall in house["walls"] for p in wall["polygon"]), default=2.7)
        self.builder = PlanBuilder(name, height if height > 1.0 else 2.7)
        self.polygons = [np.array([_xz(p) for p in room["floorPolygon"]]) for room in house["rooms"]]
        self.skipped = 0

    def read(self) -> HousePlan:
        """Return the plan."""
        for index, room in enumerate(self.house["rooms"]):
            self._add_room(room, self.polygons[index])
        for door in self.house["doors"]:
            self._add_door(door)
        self._add_empty_walls()
        for window in self.house["windows"]:
            self._add_window(window)
        for item in self.house["objects"]:
            self._add_object(item, -1, -1)
        agent = self.house["metadata"].get("agent")
        if agent is not None:
            turn = float(agent["rotation"]["y"] if isinstance(agent["rotation"], dict) else agent["rotation"])
            self.builder.start = (*_xz(agent["position"]), math.radians(turn))
        self.builder.meta = {"skipped": str(self.skipped), "split": str(self.house["metadata"].get("split", ""))}
        return self.builder.build()

    def _add_room(self, room: dict[str, Any], polygon: np.ndarray) -> None:
        kind = room["roomType"]
        material = room.get("floorMaterial", "")
        material = material["name"] if isinstance(material, dict) else str(material)
        draw = np.random.default_rng(zlib.crc32(material.encode()))
        style = int(draw.choice(recipes.FLOOR_STYLES_OF.get(kind, (0,))))
        palette = recipes.WOOD_RGB if style < 2 else recipes.TILE_RGB if style < 4 else recipes.CARPET_RGB
        wall: dict[str, Any] = next((w for w in self.house["walls"] if w.get("roomId") == room["id"]), {})
        paint = json.dumps(wall.get("material", ""), sort_keys=True)
        draw_wall = np.random.default_rng(zlib.crc32(paint.encode()))
        rgb: Any = recipes.WALL_RGB[int(draw_wall.integers(len(recipes.WALL_RGB)))]
        if "color" in wall:
            rgb = [round(150 + 95 * float(wall["color"][letter])) for letter in "rgb"]
        self.builder.room(
            kind if kind in K.ROOM_TYPES else "LivingRoom",
            polygon,
            style=(int(draw_wall.choice(recipes.WALL_STYLES_OF.get(kind, (0,)))), style),
            wall_rgb=rgb,
            floor_rgb=palette[int(draw.integers(len(palette)))],
        )

    def _span(
        self, thing: dict[str, Any], reverse: bool
    ) -> tuple[tuple[float, float], tuple[float, float], float, float]:
        """Return the ends of an opening on the floor, its lowest and its highest point."""
        wall = self.walls[thing["wall0"]]["polygon"]
        start, end = np.array(_xz(wall[0])), np.array(_xz(wall[1]))
        if reverse:
            start, end = end, start
        if "boundingBox" in thing:
            low, high = thing["boundingBox"]["min"], thing["boundingBox"]["max"]
        else:
            hole = thing["holePolygon"]
            low = {axis: min(float(point[axis]) for point in hole) for axis in "xy"}
            high = {axis: max(float(point[axis]) for point in hole) for axis in "xy"}
        length = float(np.hypot(*(end - start)))
        along = (end - start) / max(length, 1e-9)
        a, b = (start + along * min(max(float(side["x"]), 0.0), length) for side in (low, high))
        return (float(a[0]), float(a[1])), (float(b[0]), float(b[1])), float(low["y"]), float(high["y"])

    def _room_of(self, key: str) -> int:
        return self.rooms.get(key, -1)

    def _add_door(self, door: dict[str, Any]) -> None:
        first, second = self._room_of(door["room0"]), self._room_of(door["room1"])
        outside = first == second or first < 0 or second < 0
        # The opening is measured from one end of the wall; the other end is taken if only that lets an agent through.
        ways = [self._span(door, reverse) for reverse in (False, True)]
        span = ways[0] if outside or self._passable(ways[0]) or not self._passable(ways[1]) else ways[1]
        top = min(span[3], self.builder.height)
        if outside:
            self.builder.door(span[0], span[1], max(first, second), -1, top=top, openness=0.0, openable=False)
            return
        openable = bool(door.get("openable", False))
        openness = float(door.get("openness", 1.0)) if openable else 1.0
        self.builder.door(span[0], span[1], first, second, top=top, openness=openness, openable=openable)

    def _passable(self, span: tuple[tuple[float, float], tuple[float, float], float, float]) -> bool:
        """Return whether both sides of an opening are free of furniture and lie in different rooms."""
        a, b = np.array(span[0]), np.array(span[1])
        along = (b - a) / max(float(np.hypot(*(b - a))), 1e-9)
        side = np.array([-along[1], along[0]]) * FAR_EYE
        middle = 0.5 * (a + b)
        sides = [middle + side, middle - side]
        rooms = {self._room_at(point) for point in sides}
        return len(rooms) == 2 and -1 not in rooms and not any(self._blocked(point) for point in sides)

    def _room_at(self, point: np.ndarray) -> int:
        from embodied_mem.envs.house.check import inside

        return next((k for k, polygon in enumerate(self.polygons) if inside(polygon, point[None])[0]), -1)

    def _blocked(self, point: np.ndarray) -> bool:
        for item in self.house["objects"]:
            asset = self._asset(item)
            kind = K.BY_NAME.get(asset.type) if asset else None
            if asset is None or kind is None or kind.flags & (K.PICKUPABLE | K.FLAT):
                continue
            angle = math.radians(float(item["rotation"]["y"]))
            c, s = math.cos(angle), math.sin(angle)
            dx, dz = point - np.array(_xz(item["position"]))
            gap_x = abs(dx * c - dz * s) - 0.5 * asset.size[0]
            gap_z = abs(dx * s + dz * c) - 0.5 * asset.size[2]
            if max(gap_x, gap_z) < 0.2:
                return True
        return False

    def _add_empty_walls(self) -> None:
        empty = [wall for wall in self.house["walls"] if wall.get("empty")]
        for index, wall in enumerate(empty):
            a, b = np.array(_xz(wall["polygon"][0])), np.array(_xz(wall["polygon"][1]))
            for other in empty[index + 1 :]:
                first, second = self._room_of(wall["roomId"]), self._room_of(other["roomId"])
                ends = _shared(a, b, np.array(_xz(other["polygon"][0])), np.array(_xz(other["polygon"][1])))
                if first != second and first >= 0 and second >= 0 and ends is not None:
                    self.builder.door(*ends, first, second, top=self.builder.height, openness=1.0, openable=False)

    def _add_window(self, window: dict[str, Any]) -> None:
        start, end, low, high = self._span(window, False)
        room = max(self._room_of(window["room0"]), self._room_of(window["room1"]))
        if room >= 0 and high > low:
            self.builder.window(start, end, room, sill=low, top=min(high, self.builder.height))

    def _asset(self, item: dict[str, Any]) -> Asset | None:
        known = assets().get(item["assetId"])
        if "size" in item and "objectType" in item:
            size = item["size"]
            extent = (float(size["x"]), float(size["y"]), float(size["z"]))
            return Asset(item["objectType"], extent, known.openable if known else False)
        return known

    def _add_object(self, item: dict[str, Any], parent: int, room: int) -> None:
        asset = self._asset(item)
        if asset is None or asset.type not in K.BY_NAME:
            self.skipped += 1
            return
        position = item["position"]
        x, z = _xz(position)
        if room < 0:
            room = self._room_at(np.array([x, z]))
        if room < 0:
            self.skipped += 1
            return
        kind = K.BY_NAME[asset.type]
        size = tuple(max(0.01, value) for value in asset.size)
        flags = kind.flags if asset.openable else kind.flags & ~K.OPENABLE
        shade = np.random.default_rng(zlib.crc32(str(item["assetId"]).encode())).integers(-14, 15, 3)
        box = self.builder.box(
            asset.type,
            room,
            x=x,
            y=max(0.0, float(position["y"]) - 0.5 * size[1]),
            z=z,
            yaw=math.radians(float(item["rotation"]["y"])),
            size=size,
            rgb=np.clip(np.array(kind.rgb) + shade, 0, 255).tolist(),
            flags=flags,
            parent=parent,
        )
        for child in item.get("children", []):
            self._add_object(child, box, room)


def _shared(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Return the common part of two collinear segments, None if it is shorter than 0.3 m."""
    length = float(np.hypot(*(b - a)))
    along = (b - a) / max(length, 1e-9)
    normal = np.array([-along[1], along[0]])
    if max(abs((c - a) @ normal), abs((d - a) @ normal)) > 0.02:
        return None
    low, high = sorted((float((c - a) @ along), float((d - a) @ along)))
    low, high = max(0.0, low), min(length, high)
    if high - low < 0.3:
        return None
    p, q = a + along * low, a + along * high
    return (float(p[0]), float(p[1])), (float(q[0]), float(q[1]))


def read_lines(path: str | Path) -> Iterator[bytes]:
    """Yield the raw lines of a `.jsonl` or `.jsonl.gz` file.

    Raises:
        UsageError: the file is missing or its compression is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"expected a file of ProcTHOR houses (.jsonl or .jsonl.gz) at {path}, found none")
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as stream:
            yield from (line for line in stream if line.strip())
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} is damaged and cannot be read: {error}") from error


@dataclass(frozen=True)
class ProcthorHouses:
    """Houses of a ProcTHOR file, one JSON object per line; kept compressed and built when asked for."""

    path: str
    """`.jsonl` or `.jsonl.gz`."""
    split: str = "all"
    """`all`; `test` = every fifth house, `train` = the others (for files that hold no split of their own)."""
    limit: int = 1000
    """At most this many lines are read."""
    _lines: list[bytes] = field(default_factory=list, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.split not in ("all", "train", "test"):
            raise UsageError(f"expected split 'all', 'train' or 'test', got {self.split!r}")
        for number, line in enumerate(read_lines(self.path)):
            if number >= self.limit:
                break
            if self.split == "all" or (number % 5 == 4) == (self.split == "test"):
                self._lines.append(zlib.compress(line, 1))
        if not self._lines:
            raise UsageError(f"{self.path} holds no houses of split {self.split!r}")

    def __len__(self) -> int:
        return len(self._lines)

    def plan(self, index: int) -> HousePlan:
        """Return house ``index``.

        Raises:
            UsageError: the line is not JSON or not a house.
        """
        if not 0 <= index < len(self._lines):
            raise UsageError(f"house index must lie in [0, {len(self._lines)}), got {index}")
        name = f"procthor:{Path(self.path).name}:{self.split}:{index}"
        try:
            house = json.loads(zlib.decompress(self._lines[index]))
        except json.JSONDecodeError as error:
            raise UsageError(f"{name}: not valid JSON: {error}") from error
        return house_plan(house, name)
