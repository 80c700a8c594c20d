"""Paired, interleaved timing: every figure is a ratio against a peer measured in the same run.

Machines are shared and their clocks drift, so the candidates take turns round by round and a ratio is the median of the
per-round ratios, with the order-statistic interval of that median. On the CPU the clock is the CPU time of the process
(other tenants do not count); on a GPU it is wall time between synchronisations.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from embodied_mem.results import metric

INTERVAL = "order95_median"
# Seconds; shorter calls are repeated inside one block, so that neither the clock's grain nor cold caches show.
_SHORTEST_BLOCK = 2e-2
_FEWEST_ROUNDS = 5


@dataclass(frozen=True)
class Timings:
    """Seconds per call of every candidate, one row per round."""

    seconds: dict[str, np.ndarray]
    """Candidate -> (rounds,) float64; the same index was measured back to back."""

    def ratio(self, name: str, peer: str) -> dict[str, Any]:
        """Return the metric ``name / peer``: median of the per-round ratios with its interval."""
        return median_metric(self.seconds[name] / self.seconds[peer])

    def milliseconds(self, name: str) -> dict[str, Any]:
        """Return the metric of one call's time in milliseconds."""
        return median_metric(self.seconds[name] * 1e3)


def interleave(candidates: Mapping[str, Callable[[], object]], *, seconds: float = 2.0, device: str = "cpu") -> Timings:
    """Time the candidates in turns for about ``seconds`` in all (at least five rounds).

    Each candidate is warmed up first; the order rotates from round to round, so that none always follows the same one.

    Raises:
        ValueError: there is no candidate, or ``seconds`` is not positive.
    """
    if not candidates or seconds <= 0:
        raise ValueError(f"expected candidates and a positive time, got {list(candidates)} and {seconds} s")
    clock = _clock(device)
    repeats = {name: _repeats(call, clock) for name, call in candidates.items()}
    names = list(candidates)
    rows: dict[str, list[float]] = {name: [] for name in names}
    until = time.perf_counter() + seconds
    while len(rows[names[0]]) < _FEWEST_ROUNDS or time.perf_counter() < until:
        names.append(names.pop(0))
        for name in names:
            rows[name].append(_block(candidates[name], repeats[name], clock))
    return Timings({name: np.asarray(rows[name]) for name in candidates})


def median_metric(samples: np.ndarray) -> dict[str, Any]:
    """Return the median of (n,) samples with its distribution-free 95 % interval (binomial order statistics).

    >>> median_metric(np.arange(1.0, 100.0))["mean"], median_metric(np.arange(1.0, 100.0))["low"]
    (50.0, 40.0)
    """
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    n = len(ordered)
    spread = 0.98 * math.sqrt(n)
    low = ordered[max(0, math.floor(n / 2 - spread))]
    high = ordered[min(n - 1, math.ceil(n / 2 + spread) - 1)]
    return metric(float(np.median(ordered)), float(low), float(high), n, INTERVAL)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread inside the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _clock(device: str) -> Callable[[], float]:
    if not device.startswith("cuda"):
        return time.process_time
    import torch

    def synchronised() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return synchronised


def _repeats(call: Callable[[], object], clock: Callable[[], float]) -> int:
    call()
    repeats = 1
    while True:
        taken = _block(call, repeats, clock) * repeats
        if taken >= _SHORTEST_BLOCK:
            return repeats
        repeats = max(2 * repeats, math.ceil(repeats * 1.2 * _SHORTEST_BLOCK / max(taken, 1e-6)))


def _block(call: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(repeats):
        call()
    return (clock() - start) / repeats
