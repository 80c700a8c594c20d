"""Indoor navigation graphs: R2R and RxR episodes on Matterport connectivity files, both brought by the user.

A folder holds one ``SCAN_connectivity.json`` per building: a list of viewpoints with ``image_id``, ``pose`` (16
numbers, rows of a 4 x 4 matrix, z up), ``included`` and ``unobstructed`` (one flag per viewpoint). Episodes are a JSON
list (R2R: ``scan``, ``path``, ``path_id``, ``heading`` in radians, ``instructions``) or JSON lines (RxR:
``instruction``, ``instruction_id``); every instruction is an episode. The buildings become one graph for the street
environment: headings are rounded to whole degrees, and of two links that would share one the later moves to the next
free degree.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.envs.street.data import read_lines, read_text
from embodied_mem.envs.street.episodes import Episodes, make_episodes
from embodied_mem.envs.street.graph import StreetGraph
from embodied_mem.errors import UsageError


class IndoorGraph(StreetGraph):
    """Viewpoints of several buildings.

    Attributes:
        positions: (N, 3) float64 metres, z up.
        edges: (E, 2) int64 undirected edges.
    """

    def __init__(self, names: list[str], positions: np.ndarray, edges: np.ndarray) -> None:
        """Turn edges into links by heading.

        Raises:
            UsageError: an edge leads nowhere, or a viewpoint has more links than degrees.
        """
        self.positions = np.asarray(positions, dtype=np.float64).reshape(len(names), 3)
        self.edges = np.asarray(edges, dtype=np.int64).reshape(-1, 2)
        super().__init__(names, self.positions[:, :2], _links(self.positions, self.edges))


def read_indoor(data: Path, connectivity: Path) -> tuple[IndoorGraph, Episodes]:
    """Return the graph of the buildings that a file of episodes names, and the episodes.

    Raises:
        UsageError: a file is missing or malformed, or a path leaves its building's graph; the place is named.
    """
    rows = _rows(data)
    if not rows:
        raise UsageError(f"{data} holds no episodes")
    scans = dict.fromkeys(_field(row, "scan", str, data, place) for place, row in rows)
    graph = read_buildings(connectivity, scans)
    ids, texts, routes, headings = [], [], [], []
    linked = {(a, b) for a, b in graph.edges.tolist()} | {(b, a) for a, b in graph.edges.tolist()}
    for place, row in rows:
        path = _field(row, "path", list, data, place)
        route = [graph.index.get(f"{row['scan']}/{name}", -1) for name in path]
        if not route or min(route) < 0:
            raise UsageError(f"{data}, {place}: the path names viewpoints that {row['scan']} lacks: {path!r:.80}")
        if any(pair not in linked for pair in zip(route, route[1:])):
            raise UsageError(f"{data}, {place}: two viewpoints of the path in a row are not connected")
        heading = round(math.degrees(_heading(row, data, place)))
        for name, text in _instructions(row, data, place):
            ids.append(name)
            texts.append(text)
            routes.append(route)
            headings.append(heading)
    return graph, make_episodes(ids, texts, routes, headings)


def read_buildings(folder: Path, scans: Iterable[str]) -> IndoorGraph:
    """Return the joint graph of buildings; viewpoints are named ``SCAN/IMAGE_ID``.

    Raises:
        UsageError: a connectivity file is missing or malformed.
    """
    names: list[str] = []
    positions: list[list[float]] = []
    edges: list[tuple[int, int]] = []
    for scan in scans:
        path = Path(folder) / f"{scan}_connectivity.json"
        try:
            views = json.loads(read_text(path))
            number = {}
            for k, view in enumerate(views):
                if view["included"]:
                    number[k] = len(names)
                    names.append(f"{scan}/{view['image_id']}")
                    positions.append([float(view["pose"][place]) for place in (3, 7, 11)])
            for k, view in enumerate(views):
                open_to = [other for other, free in enumerate(view["unobstructed"]) if free and other in number]
                edges += [(number[k], number[other]) for other in open_to if k in number and k != other]
        except (json.JSONDecodeError, KeyError, TypeError, ValueError, IndexError) as error:
            raise UsageError(f"{path} is no connectivity file: {type(error).__name__} {error}") from error
    undirected = sorted({(min(a, b), max(a, b)) for a, b in edges})
    if not undirected:
        raise UsageError(f"expected viewpoints with connections in {folder}, found none")
    return IndoorGraph(names, np.array(positions), np.array(undirected))


def _links(positions: np.ndarray, edges: np.ndarray) -> np.ndarray:
    both = np.concatenate([edges, edges[:, ::-1]])
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    offset = positions[both[:, 1], :2] - positions[both[:, 0], :2]
    heading = np.round(np.degrees(np.arctan2(offset[:, 0], offset[:, 1]))).astype(np.int64) % 360
    taken: dict[int, set[int]] = {}
    for k, here in enumerate(both[:, 0].tolist()):
        own = taken.setdefault(here, set())
        if len(own) == 360:
            raise UsageError(f"viewpoint {here} has more links than there are degrees")
        while int(heading[k]) in own:
            heading[k] = (heading[k] + 1) % 360
        own.add(int(heading[k]))
    return np.stack([both[:, 0], heading, both[:, 1]], axis=1)


def _rows(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    if not read_text(path).lstrip().startswith("["):
        return [(f"line {number}", row) for number, row in read_lines(path)]
    try:
        listed = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UsageError(f"{path} is not valid JSON: {error}") from error
    for place, row in enumerate(listed):
        if not isinstance(row, dict):
            raise UsageError(f"{path}, entry {place}: expected an object, got {type(row).__name__}")
    return [(f"entry {place}", row) for place, row in enumerate(listed)]


def _field(row: Mapping[str, Any], name: str, kind: type, path: Path, place: str) -> Any:
    if not isinstance(row.get(name), kind):
        raise UsageError(f"{path}, {place}: expected {name!r} as {kind.__name__}, got {row.get(name)!r:.60}")
    return row[name]


def _heading(row: Mapping[str, Any], path: Path, place: str) -> float:
    value = row.get("heading", 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{path}, {place}: expected 'heading' in radians, got {value!r}")
    return float(value)


def _instructions(row: Mapping[str, Any], path: Path, place: str) -> list[tuple[Any, str]]:
    if isinstance(row.get("instruction"), str):
        return [(row.get("instruction_id", place), row["instruction"])]
    texts = _field(row, "instructions", list, path, place)
    if not texts or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"{path}, {place}: expected 'instructions' as a list of texts, got {texts!r:.60}")
    return [(f"{row.get('path_id', place)}_{k}", text) for k, text in enumerate(texts)]
