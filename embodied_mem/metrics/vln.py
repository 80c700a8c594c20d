"""Indoor vision-and-language navigation: R2R and RxR on graphs, VLN-CE in continuous space.

With ``d`` the geodesic distance in metres, ``G = ref[-1]``, ``l = d(start, G)`` and threshold ``t``:

    PL    summed distance of the executed steps             NE    d(pred[-1], G)        ONE  min_p d(p, G)
    SR    stopped and NE < t                                OSR   1 if ONE < t
    SPL   SR * l / max(l, PL)                               nDTW  exp(-DTW / (t len(ref)))    sDTW  SR * nDTW
    CLS   PC * EPL / (EPL + |EPL - PL|),  PC = mean_r exp(-min_p d(p, r) / t),  EPL = PC * length(ref)

Anderson et al. (2018), Jain et al. (2019), Ilharco et al. (2019). On graphs ``d`` is the shortest path over edges as
long as the straight line between their ends; VLN-CE's nDTW uses the straight line itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.geometry.graphs import graph_distances
from embodied_mem.metrics.goal_navigation import path_length
from embodied_mem.metrics.ratios import finite, path_ratio
from embodied_mem.metrics.sequences import collapse, dtw
from embodied_mem.metrics.street import coverage

THRESHOLD = 3.0
"""Success threshold of R2R, RxR and VLN-CE, metres."""

PATH_KEYS = ("ndtw", "sdtw", "cls", "pl", "ne")
"""Metrics of the path walked to follow an instruction, where "found all landmarks" is the success."""

Scores = dict[str, float | None]


def vln(
    distances: np.ndarray,
    *,
    start_distance: float,
    pred_length: float,
    ref_length: float,
    stopped: bool,
    threshold: float = THRESHOLD,
    require_stop: bool = True,
    to_goal: np.ndarray | None = None,
) -> Scores:
    """Return the metrics of one episode from its distances.

    Args:
        distances: (n, m) float metres from each executed position (no repeats in a row) to each of the route.
        start_distance: l, metres.
        pred_length: PL, metres.
        ref_length: length of the route, metres.
        stopped: the agent said stop.
        threshold: t, metres; success needs a distance below it.
        require_stop: False treats an agent that ran out of steps as stopped where it stands (R2R's graph agents).
        to_goal: (n,) float geodesic metres to the goal; default: the last column of ``distances``.

    Returns:
        pl, ne, oracle_ne, sr, osr, spl, dtw, ndtw, sdtw, cls; None where undefined.
    """
    remaining = distances[:, -1] if to_goal is None else np.asarray(to_goal, dtype=np.float64)
    final, nearest = float(remaining[-1]), float(remaining.min())
    success = float((stopped or not require_stop) and final < threshold)
    cost = dtw(distances)
    ndtw = math.exp(-cost / (threshold * distances.shape[1]))
    ratio = path_ratio(start_distance, pred_length) if math.isfinite(start_distance) else None
    return {
        "pl": finite(pred_length),
        "ne": finite(final),
        "oracle_ne": finite(nearest),
        "sr": success,
        "osr": float(nearest < threshold),
        "spl": None if ratio is None else success * ratio,
        "dtw": finite(cost),
        "ndtw": ndtw,
        "sdtw": success * ndtw,
        "cls": coverage(distances, threshold, ref_length, pred_length),
    }


def vln_graph(
    positions: Sequence[Sequence[float]] | np.ndarray,
    edges: Sequence[Sequence[int]] | np.ndarray,
    pred: Sequence[int] | np.ndarray,
    ref: Sequence[int] | np.ndarray,
    *,
    stopped: bool,
    threshold: float = THRESHOLD,
    require_stop: bool = True,
) -> Scores:
    """Return the metrics of one episode on a graph; keys as `vln`.

    Args:
        positions: (N, 3) float metres.
        edges: (E, 2) undirected edges, node indices.
        pred: (n,) executed nodes, the start included; repeats in a row are collapsed.
        ref: (m,) annotated route.
        stopped: the agent said stop.
        threshold: metres.
        require_stop: see `vln`.

    Raises:
        UsageError: a path is empty or leaves the graph.
    """
    places, links = _points(positions, "positions"), np.asarray(edges, dtype=np.int64).reshape(-1, 2)
    path, route = collapse(_nodes(pred, len(places), "pred_path")), _nodes(ref, len(places), "ref_path")
    if links.size and (links.min() < 0 or links.max() >= len(places)):
        raise UsageError(f"expected edges between nodes 0..{len(places) - 1}, got {links.min()}..{links.max()}")
    links = links[links[:, 0] != links[:, 1]]
    # Two nodes on one spot are 0 m apart; the shortest-path routine takes positive lengths only.
    weights = np.maximum(np.linalg.norm(places[links[:, 0]] - places[links[:, 1]], axis=1), 1e-12)
    sources, rows = np.unique(np.concatenate([path, route]), return_inverse=True)
    between = graph_distances(len(places), links, sources, weights)
    table = between[rows[: len(path)]][:, route]
    return vln(
        table,
        start_distance=float(table[0, -1]),
        pred_length=_travelled(between, rows[: len(path)], path),
        ref_length=_travelled(between, rows[len(path) :], route),
        stopped=stopped,
        threshold=threshold,
        require_stop=require_stop,
    )


def vln_continuous(
    pred: Sequence[Sequence[float]] | np.ndarray,
    ref: Sequence[Sequence[float]] | np.ndarray,
    *,
    stopped: bool,
    threshold: float = THRESHOLD,
    require_stop: bool = True,
    geodesic_to_goal: Sequence[float] | np.ndarray | None = None,
) -> Scores:
    """Return the metrics of one episode in continuous space; keys as `vln`.

    Args:
        pred: (n, D) float executed positions, the start included, metres; repeats in a row do not count.
        ref: (m, D) float dense reference positions, metres.
        stopped: the agent said stop.
        threshold: metres.
        require_stop: see `vln`.
        geodesic_to_goal: (n,) float metres to the goal where walls make it longer than the straight line.

    Raises:
        UsageError: the arrays do not fit each other.
    """
    path, route = _points(pred, "pred_positions"), _points(ref, "ref_positions")
    if path.shape[1] != route.shape[1]:
        raise UsageError(f"expected positions of one dimension, got {path.shape[1]} and {route.shape[1]}")
    moved = np.concatenate([[True], (path[1:] != path[:-1]).any(axis=1)])
    to_goal = None if geodesic_to_goal is None else np.asarray(geodesic_to_goal, dtype=np.float64)
    if to_goal is not None and to_goal.shape != (len(path),):
        raise UsageError(f"expected one geodesic distance per position ({len(path)}), got shape {to_goal.shape}")
    path = path[moved]
    table = np.linalg.norm(path[:, None] - route[None], axis=2)
    goal = table[:, -1] if to_goal is None else to_goal[moved]
    return vln(
        table,
        start_distance=float(goal[0]),
        pred_length=path_length(path),
        ref_length=path_length(route),
        stopped=stopped,
        threshold=threshold,
        require_stop=require_stop,
        to_goal=goal,
    )


def oracle_spl(to_goal: np.ndarray, travelled: np.ndarray, threshold: float = THRESHOLD) -> float:
    """Return the best SPL over all prefixes of a path, as if the agent had stopped there (VLN-CE).

    Args:
        to_goal: (n,) float metres to the goal at each position.
        travelled: (n,) float metres walked until there.
        threshold: metres.

    >>> oracle_spl(np.array([8.0, 2.0, 5.0]), np.array([0.0, 16.0, 20.0]))
    0.5
    """
    reached = np.flatnonzero(np.asarray(to_goal) < threshold)
    return max((path_ratio(float(to_goal[0]), float(travelled[k])) for k in reached), default=0.0)


def _travelled(between: np.ndarray, rows: np.ndarray, nodes: np.ndarray) -> float:
    return float(between[rows[:-1], nodes[1:]].sum())


def _nodes(path: Sequence[int] | np.ndarray, count: int, name: str) -> np.ndarray:
    array = np.asarray(path)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu":
        raise UsageError(f"expected {name} as a list of at least one node index, got {path!r:.80}")
    if array.min() < 0 or array.max() >= count:
        raise UsageError(f"expected {name} between nodes 0..{count - 1}, got {array.min()}..{array.max()}")
    return array.astype(np.int64)


def _points(points: Sequence[Sequence[float]] | np.ndarray, name: str) -> np.ndarray:
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.size == 0:
        raise UsageError(f"expected {name} as at least one position of equal length, got shape {array.shape}")
    return array
