"""A made-up town, so that the environment works without data: a jittered grid of streets with a panorama every 10 m.

Some blocks are missing, some streets end, and the west part counts as the area that training leaves out.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from embodied_mem.envs import rng
from embodied_mem.envs.street.graph import StreetGraph

SPACING = 10.0
BLOCK = 8
"""Panoramas from one crossing to the next."""
CROSSINGS = 9
"""Crossings per side."""
UNSEEN_SHARE = 0.3
"""Share of the town, from the west, that is left out of training."""


@lru_cache(maxsize=8)
def town_graph(seed: int = 0) -> StreetGraph:
    """Return the town of a seed: about 1,200 panoramas, every street two-way."""
    draw = rng.generator(np.uint64(seed), 71)
    places: list[tuple[float, float]] = []
    crossings = {}
    for row in range(CROSSINGS):
        for column in range(CROSSINGS):
            crossings[row, column] = len(places)
            shift = draw.normal(0.0, 4.0, 2)
            places.append((column * BLOCK * SPACING + shift[0], row * BLOCK * SPACING + shift[1]))
    pairs: list[tuple[int, int]] = []
    for a, b in _streets(crossings, draw):
        inner = list(range(len(places), len(places) + BLOCK - 1))
        for k in range(1, BLOCK):
            along = np.array(places[a]) + (np.array(places[b]) - np.array(places[a])) * (k / BLOCK)
            places.append(tuple(along + draw.normal(0.0, 0.5, 2)))
        chain = [a, *inner, b]
        # A fifth of the way in, some streets turn out to be dead ends.
        cut = 2 if draw.uniform() < 0.04 else None
        pairs += [pair for k, pair in enumerate(zip(chain, chain[1:])) if k != cut]
    xz = np.array(places)
    return _graph(xz, np.array(pairs), seed)


def _streets(crossings: dict[tuple[int, int], int], draw: np.random.Generator) -> list[tuple[int, int]]:
    found = []
    for (row, column), here in crossings.items():
        for next_row, next_column in ((row, column + 1), (row + 1, column)):
            there = crossings.get((next_row, next_column))
            if there is None:
                continue
            rim = row == next_row in (0, CROSSINGS - 1) or column == next_column in (0, CROSSINGS - 1)
            if rim or draw.uniform() > 0.18:
                found.append((here, there))
    return found


def _graph(xz: np.ndarray, pairs: np.ndarray, seed: int) -> StreetGraph:
    both = np.stack([pairs, pairs[:, ::-1]], axis=1).reshape(-1, 2)
    offset = xz[both[:, 1]] - xz[both[:, 0]]
    heading = np.round(np.degrees(np.arctan2(offset[:, 0], offset[:, 1]))).astype(np.int64) % 360
    links = np.stack([both[:, 0], heading, both[:, 1]], axis=1)
    kept = _largest_part(len(xz), links)
    number = np.cumsum(kept) - 1
    links = links[kept[links[:, 0]]]
    links[:, [0, 2]] = number[links[:, [0, 2]]]
    xz = xz[kept]
    border = np.quantile(xz[:, 0], UNSEEN_SHARE)
    names = [f"town{seed}-{k:04d}" for k in range(len(xz))]
    return StreetGraph(names, xz, links, unseen=xz[:, 0] < border)


def _largest_part(count: int, links: np.ndarray) -> np.ndarray:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    matrix = coo_matrix((np.ones(len(links)), (links[:, 0], links[:, 2])), shape=(count, count))
    _, part = connected_components(matrix, directed=False)
    return part == np.bincount(part).argmax()
