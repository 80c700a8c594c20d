"""A synthetic landmark layer, since the real landmarks are in pictures that cannot be given away.

Every panorama draws from a hash of its id and the seed whether it has a landmark (about one per 60 m), which of
`NAMES`, and on which side, 10 m off the street. A landmark shows from panoramas within 30 m of it and 4 hops of its
own, in one of five view bins around -90, -45, 0, 45 and 90 degrees; nothing behind is seen.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from embodied_mem.envs import rng
from embodied_mem.envs.street.graph import StreetGraph

NAMES = (
    "a bank", "a bakery", "a bar", "a bench", "a bike rack", "a bookshop", "a brick wall", "a bus stop", "a café",
    "a chain-link fence", "a church", "a clothing store", "a coffee shop", "a construction site", "a deli",
    "a dry cleaner", "a fire hydrant", "a fire station", "a flower shop", "a fountain", "a garage", "a gas station",
    "a gym", "a hair salon", "a hardware store", "a hotel", "a laundromat", "a library", "a mailbox", "a mural",
    "a museum", "a newsstand", "a park", "a parking lot", "a pharmacy", "a pizza place", "a playground",
    "a post office", "a restaurant", "a scaffold", "a school", "a shoe store", "a statue", "a subway entrance",
    "a supermarket", "a theater", "a trash can", "a tree with a fence",
)  # fmt: skip
VIEWS = ("on your left", "ahead on your left", "straight ahead", "ahead on your right", "on your right")
SPACING, SIDE, SIGHT, HOPS = 60.0, 10.0, 30.0, 4


@dataclass(frozen=True)
class Landmarks:
    """What shows from each of N panoramas: entry k of panorama p lies in ``first[p]:first[p + 1]``."""

    first: np.ndarray
    """(N + 1,) int32."""
    name: np.ndarray
    """(K,) int32 index into `NAMES`."""
    bearing: np.ndarray
    """(K,) int32 degrees clockwise from north."""
    distance: np.ndarray
    """(K,) float32 metres."""

    def seen(self, pano: int) -> list[tuple[int, int, float]]:
        """Return (name, bearing, distance) of every landmark that shows from a panorama, nearest first."""
        part = slice(self.first[pano], self.first[pano + 1])
        rows = zip(self.name[part].tolist(), self.bearing[part].tolist(), self.distance[part].tolist())
        return sorted(rows, key=lambda row: row[2])


def view_of(bearing: int, heading: int) -> int | None:
    """Return the view bin 0..4 of a bearing, None behind.

    >>> view_of(0, 90), view_of(90, 90), view_of(270, 90)
    (0, 2, None)
    """
    angle = (bearing - heading + 180) % 360 - 180
    return min((angle + 112) // 45, 4) if abs(angle) <= 112 else None


def place_landmarks(graph: StreetGraph, seed: int = 0) -> Landmarks:
    """Return the layer of a seed; it depends on panorama ids and positions, not on their order."""
    keys = np.array([zlib.crc32(name.encode()) for name in graph.names], dtype=np.uint64)
    keys = rng.episode_keys(rng.seed_keys(keys), np.full(len(keys), seed, np.int64))
    spacing = float(np.median(np.linalg.norm(graph.xz[graph.links[:, 2]] - graph.xz[graph.links[:, 0]], axis=1)))
    owners = np.flatnonzero(rng.uniform(keys, 0) < spacing / SPACING)
    kind = rng.integers(keys, 1, 0, len(NAMES))
    angle = rng.uniform(keys, 2) * 2.0 * np.pi
    place = graph.xz + SIDE * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    rows = []
    for owner in owners.tolist():
        for pano in _near(graph, owner):
            offset = place[owner] - graph.xz[pano]
            distance = float(np.hypot(*offset))
            if distance <= SIGHT:
                bearing = round(float(np.degrees(np.arctan2(offset[0], offset[1])))) % 360
                rows.append((pano, int(kind[owner]), bearing, distance))
    table = np.array(sorted(rows), dtype=np.float64).reshape(-1, 4)
    counts = np.bincount(table[:, 0].astype(np.int64), minlength=len(graph.names))
    return Landmarks(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        table[:, 1].astype(np.int32),
        table[:, 2].astype(np.int32),
        table[:, 3].astype(np.float32),
    )


def _near(graph: StreetGraph, start: int) -> list[int]:
    """Return the panoramas within `HOPS` undirected hops, the start included."""
    arrays = graph.arrays
    found, rim = {start}, [start]
    for _ in range(HOPS):
        rim = [
            there
            for here in rim
            for there in arrays.near[arrays.near_first[here] : arrays.near_first[here + 1]].tolist()
            if there not in found and not found.add(there)  # type: ignore[func-returns-value]
        ]
    return sorted(found)
