"""MultiON (Wani et al. 2020): a sequence of m goals, each ended by a FOUND call near the current one.

With legs ``L_i = geodesic(goal_{i-1}, goal_i)`` (goal_0 is the start), ``k`` goals found, ``p_k`` the path travelled at
the k-th correct call and ``p`` the whole path:

    success    k == m                    progress   k / m
    spl        success  * sum(L)         / max(sum(L), p)
    ppl        progress * sum(L_1..L_k)  / max(sum(L_1..L_k), p_k), 0 if k = 0
    ppl_total  the same with p in place of p_k

A call counts at a distance up to and including the success radius, for advancing and for progress alike (the original
code uses ``<`` for progress). A wrong call ends the episode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.metrics.ratios import path_ratio


@dataclass(frozen=True)
class MultiObjectEpisode:
    """What the metrics need to know of one finished episode; all lengths in metres."""

    leg_geodesics: tuple[float, ...]
    """Shortest length of each of the m legs."""
    found: int
    """Goals found, k."""
    path_at_last_found: float
    """Path travelled at the k-th correct call, p_k (any value if k = 0)."""
    total_path: float
    """Path travelled in the whole episode, p."""


def multion(
    leg_geodesics: Sequence[float],
    found_calls: Sequence[Sequence[float]],
    total_path: float,
    success_distance: float = 1.5,
) -> dict[str, float | int | None]:
    """Return the metrics of one episode from its FOUND calls.

    Args:
        leg_geodesics: m shortest leg lengths in metres.
        found_calls: one (distance to the current goal, path travelled so far) pair per call, in order, metres.
        total_path: path travelled in the whole episode, metres.
        success_distance: a call counts up to and including this distance, metres.

    Returns:
        success, progress, spl, ppl, ppl_total, found; None where a leg has no finite length.

    Raises:
        UsageError: there are no legs, a path is not finite, or a distance is not a number.
    """
    if not np.isfinite([total_path, *(path for _, path in found_calls)]).all():
        raise UsageError(f"expected finite paths, got total_path {total_path} and found_calls {list(found_calls)}")
    if np.isnan([distance for distance, _ in found_calls]).any():
        raise UsageError(f"expected distances of found_calls that are finite or infinite, got {list(found_calls)}")
    found, travelled = 0, 0.0
    for distance, path in found_calls:
        if distance > success_distance or found == len(leg_geodesics):
            break
        found, travelled = found + 1, float(path)
    return multion_summary(MultiObjectEpisode(tuple(map(float, leg_geodesics)), found, travelled, float(total_path)))


def multion_summary(episode: MultiObjectEpisode) -> dict[str, float | int | None]:
    """Return the metrics of one episode from its summary; keys as `multion`.

    Raises:
        UsageError: there are no legs, or more goals were found than there are.

    >>> done = MultiObjectEpisode((4.0, 4.0), found=1, path_at_last_found=8.0, total_path=16.0)
    >>> {name: multion_summary(done)[name] for name in ("progress", "ppl", "ppl_total")}
    {'progress': 0.5, 'ppl': 0.25, 'ppl_total': 0.125}
    """
    legs, found = np.asarray(episode.leg_geodesics, dtype=np.float64), episode.found
    if legs.ndim != 1 or legs.size == 0:
        raise UsageError(f"expected at least one leg length, got shape {legs.shape}")
    if not 0 <= found <= legs.size:
        raise UsageError(f"expected found in [0, {legs.size}], got {found}")
    success, progress = float(found == legs.size), found / legs.size
    return {
        "success": success,
        "progress": progress,
        "spl": _weighted(success, legs, episode.total_path),
        "ppl": _weighted(progress, legs[:found], episode.path_at_last_found),
        "ppl_total": _weighted(progress, legs[:found], episode.total_path),
        "found": found,
    }


def _weighted(score: float, legs: np.ndarray, travelled: float) -> float | None:
    if score == 0.0:
        return 0.0
    shortest = float(legs.sum())
    return score * path_ratio(shortest, travelled) if np.isfinite(shortest) else None
