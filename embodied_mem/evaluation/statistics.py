"""Intervals for scores: Wilson for rates, bootstrap for everything else; several checkpoints widen both.

- A rate of one agent: the Wilson score interval (Wilson 1927) over its episodes, right at 0 % and 100 % too.
- A return: the interquartile mean with a percentile bootstrap, resampled inside each stratum (task and episode seed),
  as Agarwal et al. 2021 recommend. Other figures: the mean with the same bootstrap.
- Several checkpoints (training seeds): checkpoints are resampled first, then the episodes of each. Checkpoints that all
  reach 100 % would give a width of zero, so a rate's interval is never narrower than Wilson over all its episodes.
- A control beside an agent: the difference episode by episode, since both played the same ones.

Every interval is a central 95 % one and comes out the same for the same numbers: the resampling seed is fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.results import metric

LEVEL = 0.95
RESAMPLES = 2000
# Resampled values drawn at once: bounds the memory of a bootstrap at 64 MB.
_CHUNK_VALUES = 4_000_000

Kind = Literal["rate", "mean", "iqm"]
Statistic = Callable[[np.ndarray], np.ndarray]


def wilson(successes: float, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Return the Wilson score interval of a rate.

    Raises:
        UsageError: ``n`` is not positive or ``successes`` is not within [0, n].

    >>> low, high = wilson(50, 100)
    >>> round(low, 4), round(high, 4)
    (0.4038, 0.5962)
    """
    if n <= 0 or not 0 <= successes <= n:
        raise UsageError(f"expected 0 <= successes <= n and n > 0, got successes={successes}, n={n}")
    from scipy.stats import binomtest

    interval = binomtest(round(successes), n).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def iqm(values: np.ndarray) -> np.ndarray:
    """Return the interquartile mean over the last axis: the mean of the middle half of the sorted values.

    Args:
        values: (..., n) float.

    >>> float(iqm(np.array([0.0, 1.0, 2.0, 100.0])))
    1.5
    """
    from scipy.stats import trim_mean

    return trim_mean(values, 0.25, axis=-1)


def mean(values: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis of (..., n) float."""
    return np.mean(values, axis=-1)


STATISTICS: dict[Kind, Statistic] = {"rate": mean, "mean": mean, "iqm": iqm}


def bootstrap(
    runs: Sequence[Sequence[np.ndarray]], statistic: Statistic, level: float = LEVEL, seed: int = 0
) -> tuple[float, float] | None:
    """Return the percentile-bootstrap interval of a statistic over all values, or None if there are fewer than two.

    Args:
        runs: one entry per checkpoint, each a list of strata, each stratum (n,) float. Values are resampled inside
            their stratum; with more than one checkpoint the checkpoints are resampled first.
        statistic: maps (R, n) resampled values to (R,).
        level: central probability.
        seed: of the resampling.
    """
    strata = [[np.asarray(part, dtype=np.float64) for part in run if len(part)] for run in runs]
    strata = [run for run in strata if run]
    total = sum(part.size for run in strata for part in run)
    if total < 2:
        return None
    rng = np.random.default_rng(seed)
    rows = max(1, min(RESAMPLES, _CHUNK_VALUES // (total * len(strata))))
    drawn, draws = 0, []
    while drawn < RESAMPLES:
        count = min(rows, RESAMPLES - drawn)
        draws.append(_resampled_statistic(strata, statistic, count, rng))
        drawn += count
    low, high = np.quantile(np.concatenate(draws), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def summarise(runs: Sequence[Sequence[np.ndarray]], kind: Kind) -> dict[str, Any]:
    """Return one metric (`results.metric`) with its interval from per-episode values.

    Args:
        runs: one entry per checkpoint, each a list of strata, each stratum (n,) float without undefined values.
        kind: ``rate`` (values 0 or 1), ``mean`` or ``iqm``.
    """
    runs = [[np.asarray(part, dtype=np.float64) for part in run if len(part)] for run in runs]
    runs = [run for run in runs if run]
    parts = [part for run in runs for part in run]
    if not parts:
        return metric(None, n=0)
    values = np.concatenate(parts)
    center = float(STATISTICS[kind](values))
    name = f"bootstrap95_{kind if kind == 'iqm' else 'mean'}"
    if len(runs) == 1 and kind == "rate":
        return metric(center, *wilson(values.sum(), values.size), n=values.size, interval="wilson95")
    interval = bootstrap(runs, STATISTICS[kind])
    if len(runs) > 1:
        name += "_checkpoints"
    if kind == "rate":
        floor = wilson(values.sum(), values.size)
        interval = floor if interval is None else (min(floor[0], interval[0]), max(floor[1], interval[1]))
    low, high = interval if interval is not None else (None, None)
    return metric(center, low, high, n=values.size, interval=name if interval else None)


def summarise_difference(runs: Sequence[Sequence[np.ndarray]]) -> dict[str, Any]:
    """Return the mean of paired differences (agent minus control) with its bootstrap interval.

    Args:
        runs: as `summarise`; each value is the difference in one episode that both played.
    """
    found = summarise(runs, "mean")
    return {**found, "interval": found["interval"] and found["interval"].replace("bootstrap95", "paired_bootstrap95")}


def _resampled_statistic(
    runs: list[list[np.ndarray]], statistic: Statistic, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Return (count,) values of the statistic, each from one resampling of checkpoints, then of their episodes."""
    if len(runs) == 1:
        return statistic(_resample(runs[0], count, rng))
    chosen = rng.integers(0, len(runs), size=(count, len(runs)))
    sizes = {sum(part.size for part in run) for run in runs}
    if len(sizes) == 1:
        drawn = np.stack([[_resample(run, count, rng) for run in runs] for _ in range(len(runs))])
        slots, rows = np.arange(len(runs))[None, :], np.arange(count)[:, None]
        return statistic(drawn[slots, chosen, rows].reshape(count, -1))
    samples = [np.concatenate([_resample(runs[index], 1, rng)[0] for index in row]) for row in chosen]
    return np.array([float(statistic(sample)) for sample in samples])


def _resample(run: list[np.ndarray], count: int, rng: np.random.Generator) -> np.ndarray:
    return np.concatenate([part[rng.integers(0, part.size, size=(count, part.size))] for part in run], axis=1)
