"""PointNav and ObjectNav: success, path-weighted success, and distances to the goal.

With ``g_t`` the geodesic distance to the nearest valid goal after step t, ``r`` the success radius, ``l = g_0`` and
``p`` the summed Euclidean step lengths (Anderson et al. 2018; SoftSPL: Datta et al. 2020):

    SR       stop called and g_T < r (``strict``; else <=), or the environment's own verdict where visibility counts too
    OSR      min_t g_t < r, or success by the environment's verdict
    SPL      SR * l / max(l, p)
    SoftSPL  max(0, 1 - g_T / g_0) * l / max(l, p)
    DTG      g_T            DTS  max(g_T - r, 0)

A goal that cannot be reached has an infinite distance: what depends on it is None and is left out of means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.metrics.ratios import covered_share, finite, path_ratio


@dataclass(frozen=True)
class GoalEpisode:
    """What the metrics need to know of one finished episode; all distances in metres."""

    start_distance: float
    """Geodesic distance to the nearest valid goal at the start, g_0."""
    final_distance: float
    """The same at the end, g_T."""
    min_distance: float
    """Smallest g_t of the episode, start included."""
    path_length: float
    """Summed Euclidean step lengths, p."""
    stopped: bool
    """True if the agent ended the episode itself (Done)."""
    success_distance: float
    """Success radius r."""
    strict: bool = True
    """True: success needs a distance below r; False: r itself counts."""
    success: bool | None = None
    """The environment's verdict, where more than distance counts (visibility); None: decided here."""


def path_length(positions: Sequence[Sequence[float]] | np.ndarray) -> float:
    """Return the summed Euclidean step lengths of a path in metres.

    Args:
        positions: (T + 1, D) float, executed positions including the start.

    Raises:
        UsageError: the array is empty or not of rank 2.

    >>> path_length([[0, 0], [3, 4], [3, 4]])
    5.0
    """
    array = np.asarray(positions, dtype=np.float64)
    if array.ndim != 2 or array.shape[0] == 0:
        raise UsageError(f"expected positions of shape (T + 1, D) with T >= 0, got {array.shape}")
    return float(np.linalg.norm(np.diff(array, axis=0), axis=1).sum())


def goal_nav(
    positions: Sequence[Sequence[float]] | np.ndarray,
    geodesic_to_goal: Sequence[float] | np.ndarray,
    *,
    stop_called: bool,
    success_distance: float,
    strict: bool = True,
    success: bool | None = None,
) -> dict[str, float | None]:
    """Return the metrics of one episode from its whole trajectory.

    Args:
        positions: (T + 1, D) float, executed positions including the start, metres.
        geodesic_to_goal: (T + 1,) float, distance to the nearest valid goal at each of them, metres.
        stop_called: True if the agent ended the episode itself.
        success_distance: success radius in metres.
        strict: True: success needs a distance below the radius; False: the radius itself counts.
        success: the environment's verdict where more than distance counts, else None.

    Returns:
        sr, osr, spl, soft_spl, pl, dtg, dts, progress_ratio; None where undefined.

    Raises:
        UsageError: the two arrays do not describe the same steps.
    """
    distance, steps = np.asarray(geodesic_to_goal, dtype=np.float64), np.asarray(positions).shape[0]
    if distance.ndim != 1 or distance.shape[0] != steps:
        raise UsageError(f"expected one geodesic distance per position ({steps}), got shape {distance.shape}")
    return goal_nav_summary(
        GoalEpisode(
            start_distance=float(distance[0]),
            final_distance=float(distance[-1]),
            min_distance=float(distance.min()),
            path_length=path_length(positions),
            stopped=bool(stop_called),
            success_distance=success_distance,
            strict=strict,
            success=success,
        )
    )


def goal_nav_summary(episode: GoalEpisode) -> dict[str, float | None]:
    """Return the metrics of one episode from its summary; keys as `goal_nav`.

    >>> done = GoalEpisode(4.0, 0.5, 0.5, 8.0, stopped=True, success_distance=1.0)
    >>> {name: goal_nav_summary(done)[name] for name in ("sr", "spl", "soft_spl")}
    {'sr': 1.0, 'spl': 0.5, 'soft_spl': 0.4375}
    """
    reachable = np.isfinite(episode.start_distance)
    measured = np.isfinite(episode.final_distance)
    success = _success(episode)
    ratio = path_ratio(episode.start_distance, episode.path_length) if reachable else None
    progress = covered_share(episode.start_distance, episode.final_distance) if reachable and measured else None
    return {
        "sr": success,
        "osr": max(success, float(_inside(episode, episode.min_distance))),
        "spl": None if ratio is None else success * ratio,
        "soft_spl": None if ratio is None or progress is None else progress * ratio,
        "pl": finite(episode.path_length),
        "dtg": finite(episode.final_distance),
        "dts": finite(max(episode.final_distance - episode.success_distance, 0.0)),
        "progress_ratio": progress,
    }


def _success(episode: GoalEpisode) -> float:
    if episode.success is not None:
        return float(episode.success)
    return float(episode.stopped and _inside(episode, episode.final_distance))


def _inside(episode: GoalEpisode, distance: float) -> bool:
    return distance < episode.success_distance if episode.strict else distance <= episode.success_distance
