"""The panorama graph: links by heading, in file order, as arrays.

Headings are whole degrees clockwise from north; positions are local metres, x east and z north (so that a heading is a
yaw of the toolkit's world). ``out[p]`` is the run ``first[p]:first[p + 1]`` of the link arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from embodied_mem.envs.street.data import graph_file, read_text
from embodied_mem.errors import UsageError
from embodied_mem.geometry.hops import HopArrays, HopTable

METRES_PER_DEGREE = 111_320.0
LATITUDE = 40.73
"""Degrees at which a degree of longitude is measured."""
UNSEEN_AREA = (
    (-73.9918648736, 40.6876089939),
    (-74.0340973841, 40.7084827277),
    (-74.0125207302, 40.7335668428),
    (-73.9702882197, 40.7127009721),
)
"""Corners (longitude, latitude) of the area whose routes are held out of training."""


class GraphArrays(NamedTuple):
    """The graph for compiled code: N panoramas, E links."""

    first: np.ndarray
    """(N + 1,) int32 first link of each panorama."""
    heading: np.ndarray
    """(E,) int32 degrees in which a link is left."""
    target: np.ndarray
    """(E,) int32 panorama it leads to."""
    near_first: np.ndarray
    """(N + 1,) int32 first undirected neighbour of each panorama."""
    near: np.ndarray
    """(sum,) int32 undirected neighbours."""


class StreetGraph:
    """Panoramas and links."""

    def __init__(
        self,
        names: Sequence[str],
        xz: np.ndarray,
        links: np.ndarray,
        yaw: np.ndarray | None = None,
        unseen: np.ndarray | None = None,
    ) -> None:
        """Index the links.

        Args:
            names: N panorama ids.
            xz: (N, 2) float64 metres, east and north.
            links: (E, 3) int from, heading, to; the order of lines breaks ties between headings.
            yaw: (N,) int heading of the panorama's middle, 0 where absent.
            unseen: (N,) bool, True in the area that training leaves out; default: nowhere.

        Raises:
            UsageError: ids repeat, a link leads nowhere, or two links of a panorama share a heading.
        """
        self.names = list(names)
        self.index = {name: number for number, name in enumerate(self.names)}
        if len(self.index) != len(self.names):
            raise UsageError("expected different panorama ids, got one twice")
        n = len(self.names)
        links = np.asarray(links, dtype=np.int64).reshape(-1, 3)
        if len(links) == 0 or links[:, [0, 2]].min() < 0 or links[:, [0, 2]].max() >= n:
            raise UsageError(f"expected links between panoramas 0..{n - 1}")
        if links[:, 1].min() < 0 or links[:, 1].max() >= 360:
            raise UsageError(f"expected headings in [0, 359], got {links[:, 1].min()}..{links[:, 1].max()}")
        self.xz = np.asarray(xz, dtype=np.float64).reshape(n, 2)
        self.yaw = np.zeros(n, np.int64) if yaw is None else np.asarray(yaw, dtype=np.int64)
        self.unseen = np.zeros(n, bool) if unseen is None else np.asarray(unseen, dtype=bool)
        links = links[np.argsort(links[:, 0], kind="stable")]
        shared = np.unique(links[:, :2], axis=0)
        if len(shared) != len(links):
            raise UsageError("expected different headings for the links of one panorama, got one twice")
        self.links = links
        self.out_degree = np.bincount(links[:, 0], minlength=n)
        self.arrays = GraphArrays(
            _starts(self.out_degree),
            links[:, 1].astype(np.int32),
            links[:, 2].astype(np.int32),
            *_neighbours(n, links[:, [0, 2]]),
        )

    @cached_property
    def table(self) -> HopTable:
        """Hop distances between any two panoramas, made at first use."""
        return HopTable(len(self.names), self.links[:, [0, 2]])

    @property
    def hop_arrays(self) -> HopArrays:
        """The hop table for compiled code."""
        return self.table.arrays

    def hops(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return the fewest undirected edges between panoramas, elementwise, float64 (see `HopTable.hops`)."""
        return self.table.hops(u, v)

    def link_heading(self, here: int, there: int) -> int:
        """Return the heading of the first link from one panorama to another.

        Raises:
            UsageError: there is none.
        """
        start, stop = self.arrays.first[here], self.arrays.first[here + 1]
        found = np.flatnonzero(self.arrays.target[start:stop] == there)
        if len(found) == 0:
            raise UsageError(f"no link leads from panorama {self.names[here]!r} to {self.names[there]!r}")
        return int(self.arrays.heading[start + found[0]])

    def shortest_route(self, start: int, goal: int) -> np.ndarray:
        """Return one shortest way along the links, (L,) int32 with both ends, (1,) where there is none.

        Breadth-first from the start, links in file order: of several the one found first.
        """
        from embodied_mem.envs.street import _route_kernels

        return _route_kernels.shortest_route(self.arrays, start, goal)


_LOADED: dict[tuple[Path, Path], StreetGraph] = {}


def touchdown_graph() -> StreetGraph:
    """Return the Touchdown graph from the data folder; it is read once per process.

    Raises:
        UsageError: the files are missing or malformed.
    """
    key = (graph_file("nodes.txt"), graph_file("links.txt"))
    if key not in _LOADED:
        _LOADED[key] = read_graph(*key)
    return _LOADED[key]


def read_graph(nodes: Path, links: Path) -> StreetGraph:
    """Return the graph of two comma-separated files without header.

    Args:
        nodes: lines ``panoid,yaw,latitude,longitude``.
        links: lines ``panoid,heading,panoid``.

    Raises:
        UsageError: a line is malformed or names an unknown panorama.
    """
    rows = _fields(nodes, 4)
    names = [row[0] for row in rows]
    index = {name: number for number, name in enumerate(names)}
    try:
        values = np.array([[float(item) for item in row[1:]] for row in rows])
        table = np.array([[index[a], int(h), index[b]] for a, h, b in _fields(links, 3)])
    except ValueError as error:
        raise UsageError(f"expected numbers in {nodes} and {links}: {error}") from error
    except KeyError as error:
        raise UsageError(f"{links} names panorama {error}, which {nodes} does not list") from error
    latitude, longitude = values[:, 1], values[:, 2]
    return StreetGraph(
        names,
        local_metres(latitude, longitude),
        table,
        values[:, 0].astype(np.int64),
        inside(longitude, latitude, np.array(UNSEEN_AREA)),
    )


def local_metres(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Return (N, 2) float64 metres east and north of the mean of (N,) degrees."""
    east = (longitude - longitude.mean()) * METRES_PER_DEGREE * np.cos(np.radians(LATITUDE))
    return np.stack([east, (latitude - latitude.mean()) * METRES_PER_DEGREE], axis=1)


def inside(x: np.ndarray, y: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Return (N,) bool, True where points (x, y) lie inside the polygon ``corners`` (K, 2), by ray crossing."""
    found = np.zeros(len(x), dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0)):
        crosses = (y0 > y) != (y1 > y)
        edge = x0 + (y - y0) / np.where(y1 == y0, 1.0, y1 - y0) * (x1 - x0)
        found ^= crosses & (x < edge)
    return found


def _fields(path: Path, count: int) -> list[list[str]]:
    rows = [line.split(",") for line in read_text(path).splitlines() if line.strip()]
    for number, row in enumerate(rows, start=1):
        if len(row) != count:
            raise UsageError(f"{path}, line {number}: expected {count} fields, got {len(row)}")
    if not rows:
        raise UsageError(f"{path} is empty")
    return rows


def _starts(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)


def _neighbours(n: int, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    both = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
    both = both[both[:, 0] != both[:, 1]]
    return _starts(np.bincount(both[:, 0], minlength=n)), both[:, 1].astype(np.int32)
