"""What a spatial memory held as an episode went on, as small maps: octree leaves, graph of places, what was recalled.

Drawn where a trace has them (`read_leaf`, `read_node`, `read_edge`, `read_recalled`, with steps first): columns of
leaves (x, z, height; -1 is floor, nan none), nodes (N, 2), edges (N, N) bool and the recalled place (2,), all in the
frame of the episode's start, whose pose in the house is that of the first step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from embodied_mem.viewer import svg
from embodied_mem.viewer.phases import phase_of
from embodied_mem.viewer.topdown import MARGIN, WALL, positions

__all__ = ["ARRAYS", "draw_memory", "moments", "to_house"]

ARRAYS = ("read_leaf", "read_node", "read_edge", "read_recalled")
SHOWN = 6
"""Moments of an episode that are drawn."""
CELL = 0.125
"""Side of a leaf, metres."""


def moments(total: int, count: int = SHOWN) -> list[int]:
    """Return evenly spread steps, the first and the last among them.

    >>> moments(11, 3)
    [0, 5, 10]
    """
    return np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int)).tolist()


def to_house(points: np.ndarray, first: Mapping[str, Any]) -> np.ndarray:
    """Return points (..., 2) x, z in metres of the house for points in the frame of the first step.

    >>> to_house(np.array([0.0, 1.0]), {"xz": [2.0, 3.0], "yaw": 90.0}).round(6).tolist()
    [3.0, 3.0]
    """
    angle = math.radians(float(first.get("yaw") or 0.0))
    sin, cos = math.sin(angle), math.cos(angle)
    x, z = points[..., 0], points[..., 1]
    return np.stack([first["xz"][0] + cos * x + sin * z, first["xz"][1] - sin * x + cos * z], -1)


def draw_memory(facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Return the HTML of small maps over time, empty where the trace has no spatial memory or no map."""
    scene, steps = facts.get("map_end") or facts.get("map") or {}, list(facts.get("steps") or [])
    if any(name not in arrays for name in ARRAYS) or not steps or "bounds" not in scene or steps[0].get("xz") is None:
        return ""
    cells = []
    for step in moments(len(arrays["read_leaf"])):
        held = int(np.isfinite(arrays["read_leaf"][step][:, 0]).sum())
        nodes = int(np.isfinite(arrays["read_node"][step][:, 0]).sum())
        goal = phase_of(steps[step])
        caption = f"step {step}{f', goal {goal}' if goal else ''}: {held} columns of leaves, {nodes} places"
        cells.append(f"<figure>{_picture(scene, steps, arrays, step)}<figcaption>{caption}</figcaption></figure>")
    key = (
        '<p class="note">What the memory held: known floor (light), solid leaves (dark), places and ways of the graph '
        "(circles and lines), and the place that was recalled for the goal (ring, with a line from the agent).</p>"
    )
    return f'<section class="spatial">{key}<div class="maps">{"".join(cells)}</div></section>'


def _picture(scene: Mapping[str, Any], steps: list[Any], arrays: Mapping[str, np.ndarray], step: int) -> str:
    x0, z0, x1, z1 = (float(value) for value in scene["bounds"])
    unit = max(x1 - x0, z1 - z0) / 10.0
    first = steps[0]
    walls = "".join(svg.path([(float(x), -float(z)) for x, z in wall]) for wall in scene.get("walls") or ())
    turn = f"translate({first['xz'][0]:.3f} {-first['xz'][1]:.3f}) rotate({float(first.get('yaw') or 0.0):.2f})"
    leaf = arrays["read_leaf"][step].astype(float)
    leaf = leaf[np.isfinite(leaf[:, 0])]
    parts = [
        svg.tag(
            "g",
            svg.tag("path", d=_runs(leaf[leaf[:, 2] < 0]), class_="leaf floor"),
            svg.tag("path", d=_runs(leaf[leaf[:, 2] >= 0]), class_="leaf solid"),
            transform=turn,
        ),
        svg.tag("path", d=walls, class_="wall", stroke_width=WALL / 2),
        *_graph(to_house(arrays["read_node"][step].astype(float), first), arrays["read_edge"][step], unit),
        *_way(positions(steps)[: step + 1], unit),
        *_recalled(to_house(arrays["read_recalled"][step].astype(float), first), steps[step].get("xz"), unit),
    ]
    box = [x0 - MARGIN, -z1 - MARGIN, x1 - x0 + 2 * MARGIN, z1 - z0 + 2 * MARGIN]
    view = " ".join(svg.number(value) for value in box)
    return svg.tag("svg", svg.title(f"memory at step {step}"), *parts, viewBox=view, class_="map", role="img")


def _runs(leaf: np.ndarray) -> str:
    """Return path data of the squares of leaves (L, 3), joined along x, in the frame of the start with z flipped."""
    if not len(leaf):
        return ""
    cells = np.round(leaf[:, [1, 0]] / CELL).astype(int)
    cells = cells[np.lexsort((cells[:, 1], cells[:, 0]))]
    opens = np.append(True, (np.diff(cells[:, 0]) != 0) | (np.diff(cells[:, 1]) != 1))
    starts = np.flatnonzero(opens)
    lengths = np.diff(np.append(starts, len(cells)))
    return "".join(
        f"M{svg.number((cells[i, 1] - 0.5) * CELL)} {svg.number((-cells[i, 0] - 0.5) * CELL)}"
        f"h{svg.number(n * CELL)}v{svg.number(CELL)}h{svg.number(-n * CELL)}z"
        for i, n in zip(starts.tolist(), lengths.tolist(), strict=True)
    )


def _graph(nodes: np.ndarray, edges: np.ndarray, unit: float) -> list[str]:
    held = np.isfinite(nodes[:, 0])
    lines = [
        svg.path([(nodes[a, 0], -nodes[a, 1]), (nodes[b, 0], -nodes[b, 1])])
        for a, b in np.argwhere(np.triu(edges, 1)).tolist()
        if held[a] and held[b]
    ]
    parts = [svg.tag("path", d="".join(lines), class_="edge", stroke_width=unit * 0.08)] if lines else []
    return parts + [
        svg.tag("circle", cx=float(x), cy=-float(z), r=unit * 0.16, class_="node", stroke_width=unit * 0.05)
        for x, z in nodes[held]
    ]


def _way(way: list[Any], unit: float) -> list[str]:
    points = [(float(place[0]), -float(place[1])) for place in way if place is not None]
    if not points:
        return []
    x, y = points[-1]
    line = svg.tag("path", d=svg.path(points), class_="way", stroke_width=unit * 0.07)
    return [line, svg.tag("circle", cx=x, cy=y, r=unit * 0.22, class_="agent")]


def _recalled(place: np.ndarray, here: Any, unit: float) -> list[str]:
    if not np.isfinite(place).all():
        return []
    x, y = float(place[0]), -float(place[1])
    parts = [svg.tag("circle", cx=x, cy=y, r=unit * 0.34, class_="recalled", stroke_width=unit * 0.1)]
    if here is not None:
        line = svg.path([(float(here[0]), -float(here[1])), (x, y)])
        parts.append(svg.tag("path", d=line, class_="recalled", stroke_width=unit * 0.05))
    return parts
