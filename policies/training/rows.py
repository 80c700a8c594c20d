"""One row of metrics.jsonl from what RLlib reports for an iteration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_COUNTERS = ("num_", "module_", "weights_", "diff_num")
_RENAMED = {"default_optimizer_learning_rate": "learning_rate", "curr_entropy_coeff": "entropy_coef"}


def metrics_row(
    result: Mapping[str, Any], *, iteration: int, seconds: float, cpu_seconds: float
) -> dict[str, int | float | None]:
    """Return the row of an iteration; a figure that is absent or not finite is None.

    Args:
        result: what ``Algorithm.train()`` returned.
        iteration: of the run, from 1.
        seconds: wall seconds of the run so far.
        cpu_seconds: CPU seconds of the run so far.
    """
    runners = result.get("env_runners", {})
    row: dict[str, int | float | None] = {
        "iteration": iteration,
        "env_steps": env_steps(result),
        "episodes": _count(runners.get("num_episodes_lifetime")),
        "return_mean": _number(runners.get("episode_return_mean")),
        "success_mean": _number(runners.get("episode_success_mean")),
        "length_mean": _number(runners.get("episode_len_mean")),
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
    }
    learner = result.get("learners", {}).get("default_policy", {})
    for key in sorted(learner):
        if not key.startswith(_COUNTERS):
            value = learner[key]
            if not isinstance(value, Mapping | list | tuple | str):
                row[_RENAMED.get(key, key)] = _number(value)
    return row


def env_steps(result: Mapping[str, Any]) -> int:
    """Return the environment steps sampled since the run began (for offline learning: steps trained)."""
    sampled = result.get("env_runners", {}).get("num_env_steps_sampled_lifetime")
    if sampled is None:
        sampled = result.get("learners", {}).get("__all_modules__", {}).get("num_env_steps_trained_lifetime")
    return _count(sampled)


def _count(value: Any) -> int:
    number = _number(value)
    return 0 if number is None else int(number)


def _number(value: Any) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
