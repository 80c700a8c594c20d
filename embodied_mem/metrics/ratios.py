"""The two ratios that every path-weighted metric shares, with their 0/0 cases decided once."""

from __future__ import annotations

import math


def path_ratio(shortest: float, travelled: float) -> float:
    """Return ``shortest / max(shortest, travelled)``: 1 for a path no longer than the shortest one.

    With ``shortest = 0`` the ratio is 1 if nothing was travelled, else 0 (so 0/0 cannot arise).

    >>> path_ratio(4.0, 8.0), path_ratio(0.0, 0.0), path_ratio(0.0, 1.0)
    (0.5, 1.0, 0.0)
    """
    if shortest <= 0.0:
        return 1.0 if travelled <= 0.0 else 0.0
    return shortest / max(shortest, travelled)


def covered_share(start: float, end: float) -> float:
    """Return ``max(0, 1 - end / start)``: the share of the start distance that was covered.

    With ``start = 0`` it is 1 if the end is at the goal too, else 0.

    >>> covered_share(4.0, 1.0), covered_share(4.0, 6.0), covered_share(0.0, 0.0)
    (0.75, 0.0, 1.0)
    """
    if start <= 0.0:
        return 1.0 if end <= 0.0 else 0.0
    return max(0.0, 1.0 - end / start)


def finite(value: float) -> float | None:
    """Return ``value``, or None where it is infinite or NaN (a metric that is undefined for the episode)."""
    return float(value) if math.isfinite(value) else None
