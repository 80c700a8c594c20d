"""The one shape of a result: what train, eval and bench print with ``--json`` and write to disk."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from embodied_mem._version import __version__


def metric(
    mean: float | None,
    low: float | None = None,
    high: float | None = None,
    n: int | None = None,
    interval: str | None = None,
) -> dict[str, Any]:
    """Return one metric with its interval; a figure that is not finite becomes None (JSON has no NaN).

    ``interval`` names the method, for example ``"wilson95"`` or ``"bootstrap95_iqm"``.
    """
    return {"mean": _finite(mean), "low": _finite(low), "high": _finite(high), "n": n, "interval": interval}


def make_result(
    command: str,
    name: str,
    config: Mapping[str, Any],
    metrics: Mapping[str, Mapping[str, Any] | float | None],
    *,
    seeds: Sequence[int] = (),
    episodes: int | None = None,
    controls: Mapping[str, Any] | None = None,
    tasks: Mapping[str, Any] | None = None,
    seconds: float = 0.0,
    env_steps: int | None = None,
    out: str | Path | None = None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the result object of `design`: the same keys for every command, absent parts empty or null.

    ``metrics`` maps a name to the output of `metric` or to a bare number.
    """
    return {
        "command": command,
        "name": name,
        "version": __version__,
        "config": dict(config),
        "seeds": list(seeds),
        "episodes": episodes,
        "metrics": {key: _as_metric(value) for key, value in metrics.items()},
        "controls": dict(controls or {}),
        "tasks": dict(tasks or {}),
        "seconds": round(float(seconds), 3),
        "env_steps": env_steps,
        "machine": machine_info(),
        "out": None if out is None else str(out),
        "notes": list(notes),
    }


def machine_info() -> dict[str, Any]:
    """Return what a reader needs to place a speed figure: processor, cores, memory, GPU, versions."""
    import torch

    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.system(),
    }


def _as_metric(value: Mapping[str, Any] | float | None) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else metric(value)


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None
