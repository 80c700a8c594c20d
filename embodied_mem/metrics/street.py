"""Street navigation on panorama graphs: Touchdown, Map2Seq.

With ``hop`` the fewest edges (undirected), ``G = ref[-1]``, ``pred`` the executed path without consecutive repeats and
``len`` counted in panoramas:

    TC        1 if hop(pred[-1], G) <= 1                       SPD   hop(pred[-1], G)
    SED       TC * (1 - E(pred, ref) / max(len(pred), len(ref)))
    nDTW      exp(-DTW / (2 sqrt(len(ref))))                   sDTW  TC * nDTW
    nDTW_std  exp(-DTW / (3 len(ref)))
    CLS       PC * EPL / (EPL + |EPL - len(pred)|),  PC = mean_r exp(-min_p hop(p, r)),  EPL = PC * len(ref)
    KPA       (|set(keys(ref)) & set(keys(pred))| + TC) / (len(keys(ref)) + 1)

``nDTW`` is the form behind published street figures; ``ndtw_std`` is the one of Ilharco et al. (2019) with threshold 3,
and the two never share a column. The keys of a path are its first two panoramas and every step out of a panorama with
more than two outgoing links (Schumann et al. 2024). TC, SPD and SED: Chen et al. (2019); CLS: Jain et al. (2019).
Whether the agent said stop does not matter: it is scored where it stands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.geometry.hops import HopTable
from embodied_mem.metrics.ratios import finite
from embodied_mem.metrics.sequences import collapse, dtw, edit_distance

STD_THRESHOLD = 3.0
"""Threshold of the standard nDTW, in hops."""


class HopGraph(Protocol):
    """What the metrics ask of a graph."""

    out_degree: np.ndarray
    """(N,) outgoing links per panorama."""

    def hops(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return the fewest undirected edges between nodes, elementwise, float64; inf where there is no way."""


class EdgeGraph:
    """A graph given as a list of undirected edges."""

    def __init__(self, num_nodes: int, edges: Sequence[Sequence[int]] | np.ndarray) -> None:
        """Index the graph.

        Args:
            num_nodes: N >= 1.
            edges: (E, 2) node indices.

        Raises:
            UsageError: an edge does not fit the graph.
        """
        array = np.asarray(edges, dtype=np.int64).reshape(-1, 2)
        self._table = HopTable(num_nodes, array)
        self.out_degree = np.array([len(items) for items in self._table.neighbours], dtype=np.int64)

    def hops(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return hops elementwise, see `HopTable.hops`."""
        return self._table.hops(u, v)


def street(
    pred: Sequence[int] | np.ndarray, ref: Sequence[int] | np.ndarray, graph: HopGraph, edit: str = "osa"
) -> dict[str, float | None]:
    """Return the street metrics of one episode.

    Args:
        pred: (n,) executed panoramas, the start included; repeats in a row are collapsed.
        ref: (m,) annotated route, used as given.
        graph: where both lie.
        edit: distance E that ``sed`` takes: "osa" (the street code bases) or "levenshtein" (a swap costs 2).

    Returns:
        tc, spd (None where the goal cannot be reached), sed, dtw, ndtw, sdtw, ndtw_std, cls, kpa, sed_levenshtein.

    Raises:
        UsageError: a path is empty or leaves the graph, or there is no such ``edit``.

    >>> line = EdgeGraph(5, [[0, 1], [1, 2], [2, 3], [3, 4]])
    >>> found = street([0, 1, 2, 3], [0, 1, 2, 3, 4], line)
    >>> found["tc"], found["spd"], found["sed"]
    (1.0, 1.0, 0.8)
    """
    path, route = _path(pred, "pred"), _path(ref, "ref")
    path = collapse(path)
    between = graph.hops(path[:, None], route[None, :])
    remaining = float(between[-1, -1])
    tc = float(remaining <= 1)
    longest = max(len(path), len(route))
    cost = dtw(between)
    ndtw = math.exp(-cost / (2.0 * math.sqrt(len(route))))
    return {
        "tc": tc,
        "spd": finite(remaining),
        "sed": tc * (1.0 - edit_distance(path, route, edit) / longest),
        "dtw": finite(cost),
        "ndtw": ndtw,
        "sdtw": tc * ndtw,
        "ndtw_std": math.exp(-cost / (STD_THRESHOLD * len(route))),
        "cls": coverage(between, 1.0, float(len(route)), float(len(path))),
        "kpa": _key_points(path, route, graph.out_degree, tc),
        "sed_levenshtein": tc * (1.0 - edit_distance(path, route, "levenshtein") / longest),
    }


def coverage(distances: np.ndarray, scale: float, ref_length: float, pred_length: float) -> float:
    """Return CLS, coverage weighted by length score.

    Args:
        distances: (n, m) float, from each executed position to each of the route.
        scale: distance at which the coverage of a route position has fallen to 1/e.
        ref_length: length of the route.
        pred_length: length of the executed path, in the same unit.
    """
    share = float(np.exp(-distances.min(axis=0) / scale).mean())
    expected = share * ref_length
    if expected == 0.0 and pred_length == 0.0:
        return 1.0
    return share * expected / (expected + abs(expected - pred_length))


def _key_points(pred: np.ndarray, ref: np.ndarray, out_degree: np.ndarray, tc: float) -> float:
    wanted = _keys(ref, out_degree)
    return (len(set(wanted) & set(_keys(pred, out_degree))) + tc) / (len(wanted) + 1)


def _keys(path: np.ndarray, out_degree: np.ndarray) -> list[tuple[int, ...]]:
    if len(path) < 2:
        return []
    nodes = path.tolist()
    steps = [(here, there) for here, there in zip(nodes, nodes[1:]) if out_degree[here] > 2]
    return [(nodes[0],), (nodes[1],), *steps]


def _path(path: Sequence[int] | np.ndarray, name: str) -> np.ndarray:
    array = np.asarray(path)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu":
        raise UsageError(f"expected {name} as a list of at least one node index, got {path!r:.80}")
    return array.astype(np.int64)
