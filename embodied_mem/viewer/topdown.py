"""The map of an episode from above, as SVG: rooms, walls, doors, furniture, the agent's way, and a marker to move.

The map is what ``env.describe(row)`` said (metres; +x right, +z up). Whatever is missing in it is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from embodied_mem.viewer import svg
from embodied_mem.viewer.phases import phase_color, phase_of

MARGIN = 0.6
WALL = 0.11
# No motion goes this far in one step: beyond it the agent was set down somewhere else.
JUMP = 0.45
Point = tuple[float, float]


def draw_map(scene: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the map with the way of an episode, or None if the scene has no bounds and the steps no positions.

    Args:
        scene: what ``describe`` returned.
        steps: what ``trace`` returned before the first and after every step: ``xz``, perhaps ``phase`` or ``found``.
    """
    way = positions(steps)
    bounds = scene.get("bounds") or _bounds_of(way)
    if bounds is None:
        return None
    x0, z0, x1, z1 = (float(value) for value in bounds)
    # Everything is drawn in metres with z flipped; strokes are in metres too, so they scale with the house.
    unit = max(x1 - x0, z1 - z0) / 10.0
    shapes, names = _boxes(scene, unit)
    parts = [_rooms(scene), shapes, _walls(scene), _doors(scene), names, _targets(scene, unit)]
    parts += [_way(way, steps, unit, float(scene.get("jump", JUMP))), svg.tag("g", class_="reads"), _marker(unit)]
    box = [x0 - MARGIN, -z1 - MARGIN, x1 - x0 + 2 * MARGIN, z1 - z0 + 2 * MARGIN]
    return svg.tag(
        "svg",
        svg.title(str(scene.get("name") or "map")),
        *(part for part in parts if part),
        viewBox=" ".join(svg.number(value) for value in box),
        class_="map",
        role="img",
        data_unit=svg.number(unit),
    )


def positions(steps: Sequence[Mapping[str, Any]]) -> list[Point | None]:
    """Return (x, z) in metres of every step, None where a step has none."""
    found: list[Point | None] = []
    for step in steps:
        xz = step.get("xz")
        found.append((float(xz[0]), float(xz[1])) if xz is not None else None)
    return found


def segments(
    way: Sequence[Point | None], steps: Sequence[Mapping[str, Any]], jump: float = JUMP
) -> list[tuple[str, list[Point]]]:
    """Return the way in pieces of one phase without jumps (steps longer than ``jump`` metres): (phase, points)."""
    found: list[tuple[str, list[Point]]] = []
    before: Point | None = None
    for point, step in zip(way, steps, strict=False):
        if point is None:
            before = None
            continue
        phase = phase_of(step)
        joined = before is not None and math.dist(point, before) <= jump
        if not found or not joined:
            found.append((phase, [point]))
        elif found[-1][0] != phase:
            found.append((phase, [found[-1][1][-1], point]))
        else:
            found[-1][1].append(point)
        before = point
    return found


def _rooms(scene: Mapping[str, Any]) -> str:
    parts = []
    for room in scene.get("rooms") or ():
        shape = [_flip(point) for point in room["polygon"]]
        outline = svg.path(shape, closed=True)
        parts.append(svg.tag("path", d=outline, class_="room", style=_tint(room.get("floor_rgb"))))
        parts.append(svg.tag("path", d=outline, class_="veil"))
    for room in scene.get("rooms") or ():
        if len(scene.get("rooms") or ()) > 1 and room.get("type"):
            x, y = np.mean([_flip(point) for point in room["polygon"]], axis=0).tolist()
            size = svg.number(_extent(scene) / 34)
            parts.append(svg.text(str(room["type"]), x, y, class_="roomname", font_size=size))
    return svg.tag("g", *parts) if parts else ""


def _walls(scene: Mapping[str, Any]) -> str:
    lines = [svg.path([_flip(point) for point in wall]) for wall in scene.get("walls") or ()]
    return svg.tag("path", d="".join(lines), class_="wall", stroke_width=WALL) if lines else ""


def _doors(scene: Mapping[str, Any]) -> str:
    parts = []
    for kind in ("doors", "windows"):
        for item in scene.get(kind) or ():
            ends = [_flip(point) for point in item["ends"]]
            shut = kind == "doors" and item.get("openness", 1.0) < 0.5
            name = "window" if kind == "windows" else "door shut" if shut else "door"
            parts.append(svg.tag("path", d=svg.path(ends), class_=name, stroke_width=WALL * 0.72))
    return svg.tag("g", *parts) if parts else ""


def _boxes(scene: Mapping[str, Any], unit: float) -> tuple[str, str]:
    """Return the furniture, and the names of the containers to be drawn above the walls."""
    boxes = list(scene.get("boxes") or ())
    named = {int(index) for index in scene.get("containers") or ()}
    parts: list[str] = []
    names: list[str] = []
    for index, box in sorted(enumerate(boxes), key=lambda pair: pair[1]["position"][1]):
        if box.get("tray") or box.get("parent", -1) >= 0 or not box.get("shown", True):
            continue
        corners = [_flip(point) for point in _corners(box)]
        name = "box container" if index in named else "box"
        label = svg.title(str(box.get("class", "box")))
        shape = svg.path(corners, closed=True)
        style = f"fill:rgb({','.join(str(int(value)) for value in box['rgb'])})"
        parts.append(svg.tag("path", label, d=shape, class_=name, style=style, stroke_width=unit * 0.03))
        if index in named:
            x, y = np.mean(corners, axis=0).tolist()
            words = _words(box.get("class", ""))
            wide = max(point[0] for point in corners) - min(point[0] for point in corners)
            size = min(0.34 * unit, max(0.27 * unit, 1.5 * wide / max(len(words), 1)))
            names.append(svg.text(words, x, y, class_="boxname", font_size=svg.number(size)))
    return (svg.tag("g", *parts) if parts else ""), (svg.tag("g", *names) if names else "")


def _words(name: object) -> str:
    """Return ``LaundryHamper`` as ``laundry hamper``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", str(name)).lower()


def _targets(scene: Mapping[str, Any], unit: float) -> str:
    """Return rings around what the episode is about: the answer, or the goals, numbered where they form a sequence."""
    boxes = list(scene.get("boxes") or ())
    goals = [scene["answer"]] if isinstance(scene.get("answer"), int) else list(scene.get("targets") or ())
    parts: list[str] = []
    labels: dict[int, list[str]] = {}
    for number, goal in enumerate(goals, start=1):
        for index in goal if isinstance(goal, list) else [goal]:
            if not isinstance(index, int) or not 0 <= index < len(boxes):
                continue
            if isinstance(goal, list):
                labels.setdefault(index, []).append(str(number))
            x, _, z = (float(value) for value in boxes[index]["position"])
            reach = 0.5 * math.hypot(float(boxes[index]["size"][0]), float(boxes[index]["size"][2])) + 0.12 * unit
            parts.append(svg.tag("circle", cx=x, cy=-z, r=reach, class_="target", stroke_width=unit * 0.08))
    for index, numbers in labels.items():
        x, _, z = (float(value) for value in boxes[index]["position"])
        size = svg.number(unit * 0.4)
        parts.append(svg.text(", ".join(numbers), x, -z, class_="boxname", font_size=size))
    return svg.tag("g", *parts) if parts else ""


def _way(way: Sequence[Point | None], steps: Sequence[Mapping[str, Any]], unit: float, jump: float) -> str:
    parts = []
    pieces = segments(way, steps, jump)
    for phase, points in pieces:
        shape = [_flip(point) for point in points]
        name = f"way {phase_color(phase)}".strip()
        if len(set(points)) > 1:
            parts.append(svg.tag("path", d=svg.path(shape), class_=name, stroke_width=unit * 0.09))
        else:
            x, y = shape[0]
            parts.append(svg.tag("circle", cx=x, cy=y, r=unit * 0.11, class_=f"stand {name}"))
    known = [point for point in way if point is not None]
    if known:
        (x, y), (end_x, end_y) = _flip(known[0]), _flip(known[-1])
        parts.append(svg.tag("circle", cx=x, cy=y, r=unit * 0.14, class_="start", stroke_width=unit * 0.06))
        parts.append(svg.tag("circle", cx=end_x, cy=end_y, r=unit * 0.14, class_="end", stroke_width=unit * 0.06))
    return svg.tag("g", *parts) if parts else ""


def _marker(unit: float) -> str:
    """Return the agent's marker, pointing up (yaw 0 = +z); the page's script moves it."""
    size = unit * 0.34
    cone = [(0.0, 0.0), (-0.62 * size * 2, -size * 2), (0.62 * size * 2, -size * 2)]
    arrow = [(0.0, -size), (0.72 * size, 0.8 * size), (0.0, 0.4 * size), (-0.72 * size, 0.8 * size)]
    return svg.tag(
        "g",
        svg.tag("path", d=svg.path(cone, closed=True), class_="sight"),
        svg.tag("path", d=svg.path(arrow, closed=True), class_="me", stroke_width=unit * 0.05),
        class_="marker",
        style="display:none",
    )


def _corners(box: Mapping[str, Any]) -> list[Point]:
    x, _, z = (float(value) for value in box["position"])
    width, _, depth = (float(value) / 2 for value in box["size"])
    angle = math.radians(float(box.get("yaw", 0.0)))
    cos, sin = math.cos(angle), math.sin(angle)
    locals_ = [(-width, -depth), (width, -depth), (width, depth), (-width, depth)]
    return [(x + a * cos + b * sin, z - a * sin + b * cos) for a, b in locals_]


def _bounds_of(way: Sequence[Point | None]) -> list[float] | None:
    known = np.array([point for point in way if point is not None], dtype=float)
    if not len(known):
        return None
    return [*(known.min(0) - 0.5).tolist(), *(known.max(0) + 0.5).tolist()]


def _extent(scene: Mapping[str, Any]) -> float:
    x0, z0, x1, z1 = (float(value) for value in scene["bounds"])
    return max(x1 - x0, z1 - z0)


def _flip(point: Sequence[float]) -> Point:
    return float(point[0]), -float(point[1])


def _tint(rgb: Sequence[float] | None) -> str | None:
    return None if rgb is None else f"fill:rgb({','.join(str(int(value)) for value in rgb)})"
