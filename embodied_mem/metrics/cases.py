"""Trajectories from any source as JSON cases, scored by family.

    {"cases": [{"id": ..., "kind": "street", "input": {...}, "expected": {...}}, ...], "tolerance": 1e-6}

``expected`` is optional. Families and their inputs:

- ``street``: num_nodes, undirected_edges, pred_path, ref_path
- ``vln_graph``: positions, undirected_edges, edge_weight ("euclidean"), pred_path, ref_path, threshold, stopped
- ``vln_continuous``: pred_positions, ref_positions, threshold, stopped, distance ("euclidean")
- ``goal_nav``: positions, geodesic_to_goal, stop_called, success_distance, strict (``goal`` is not read)
- ``multion``: leg_geodesics, found_calls, total_path, success_distance
- ``rearrange``: goal, start, end: lists of {pos, size, yaw, openness, pickupable, broken}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from embodied_mem.errors import UsageError, nearest
from embodied_mem.metrics.goal_navigation import goal_nav
from embodied_mem.metrics.multi_object import multion
from embodied_mem.metrics.rearrangement import ObjectState, rearrangement
from embodied_mem.metrics.street import EdgeGraph, street
from embodied_mem.metrics.vln import THRESHOLD, vln_continuous, vln_graph

TOLERANCE = 1e-6
Scores = Mapping[str, float | int | None]


def score_case(case: Mapping[str, Any]) -> dict[str, float | int | None]:
    """Return the metrics of one case, see the module.

    Raises:
        UsageError: the family is unknown, or the input lacks a field or has one of another form.
    """
    if not isinstance(case, Mapping) or not isinstance(case.get("input"), Mapping):
        raise UsageError(f"expected a case with 'kind' and 'input', got {case!r:.80}")
    kind, given = case.get("kind"), case["input"]
    scorer = FAMILIES.get(str(kind))
    if scorer is None:
        raise UsageError(f"unknown kind {kind!r}{nearest(str(kind), FAMILIES)}; available: {', '.join(FAMILIES)}")
    try:
        return dict(scorer(given))
    except KeyError as error:
        raise UsageError(f"the input of a {kind!r} case lacks {error}") from error
    except UsageError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"the input of a {kind!r} case has a field of another form: {error}") from error


def largest_error(found: Scores, expected: Scores) -> float:
    """Return the largest absolute difference over the expected fields; inf where one is missing or only one is null."""
    worst = 0.0
    for name, wanted in expected.items():
        value = found.get(name, math.nan)
        if value is None or wanted is None:
            worst = max(worst, 0.0 if value is wanted else math.inf)
        else:
            gap = abs(float(value) - float(wanted))
            worst = max(worst, math.inf if math.isnan(gap) else gap)
    return worst


def _street(given: Mapping[str, Any]) -> Scores:
    graph = EdgeGraph(_count(given["num_nodes"]), given["undirected_edges"])
    return street(given["pred_path"], given["ref_path"], graph)


def _vln_graph(given: Mapping[str, Any]) -> Scores:
    weight = given.get("edge_weight", "euclidean")
    if weight != "euclidean":
        raise UsageError(f"expected edge_weight 'euclidean', got {weight!r}")
    return vln_graph(
        given["positions"], given["undirected_edges"], given["pred_path"], given["ref_path"], **_ending(given)
    )


def _vln_continuous(given: Mapping[str, Any]) -> Scores:
    distance = given.get("distance", "euclidean")
    if distance != "euclidean":
        raise UsageError(f"expected distance 'euclidean', got {distance!r}")
    return vln_continuous(given["pred_positions"], given["ref_positions"], **_ending(given))


def _ending(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "stopped": bool(given["stopped"]),
        "threshold": float(given.get("threshold", THRESHOLD)),
        "require_stop": bool(given.get("require_stop", True)),
    }


def _goal_nav(given: Mapping[str, Any]) -> Scores:
    positions = np.asarray(given["positions"], dtype=np.float64)
    if positions.ndim != 2:
        raise UsageError(f"expected positions of shape (T + 1, D), got {positions.shape}")
    return goal_nav(
        positions,
        given["geodesic_to_goal"],
        stop_called=bool(given["stop_called"]),
        success_distance=float(given["success_distance"]),
        strict=bool(given.get("strict", True)),
    )


def _multion(given: Mapping[str, Any]) -> Scores:
    calls: Sequence[Sequence[float]] = given["found_calls"]
    return multion(given["leg_geodesics"], calls, float(given["total_path"]), float(given.get("success_distance", 1.5)))


def _rearrange(given: Mapping[str, Any]) -> Scores:
    states = [[ObjectState.of(item) for item in given[name]] for name in ("goal", "start", "end")]
    return rearrangement(*states)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"expected num_nodes >= 1, got {value!r}")
    return value


FAMILIES: dict[str, Callable[[Mapping[str, Any]], Scores]] = {
    "street": _street,
    "vln_graph": _vln_graph,
    "vln_continuous": _vln_continuous,
    "goal_nav": _goal_nav,
    "multion": _multion,
    "rearrange": _rearrange,
}
