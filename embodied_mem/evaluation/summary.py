"""From per-episode records to the metrics, controls and tasks of a result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from embodied_mem.evaluation.families import FAMILIES
from embodied_mem.evaluation.plan import AGENT
from embodied_mem.evaluation.statistics import Kind, summarise, summarise_difference
from embodied_mem.evaluation.suite import Suite, Task

Record = dict[str, Any]
Metrics = dict[str, dict[str, Any]]


def summarise_records(
    suite: Suite, rows: Sequence[Record], controls: Sequence[str], unavailable: dict[tuple[str, str], str]
) -> dict[str, Any]:
    """Return ``metrics``, ``controls`` and ``tasks`` of a result.

    Args:
        suite: the narrowed suite.
        rows: the records.
        controls: names of the controls that were asked for.
        unavailable: (task name, control) -> why it could not be played; such a control is null.
    """
    tasks = {}
    for task in suite.tasks:
        own = [row for row in rows if row["task"] == task.name]
        tasks[task.name] = {
            "metrics": condition_metrics([task], own, AGENT),
            "controls": {
                name: None if (task.name, name) in unavailable else condition_metrics([task], own, name)
                for name in controls
            },
            "episodes": sum(row["condition"] == AGENT for row in own),
            "env": task.env,
            "kwargs": dict(task.kwargs),
            "chance": task.chance,
        }
    return {
        "metrics": condition_metrics(suite.tasks, rows, AGENT),
        "controls": {name: _over_tasks(suite, rows, name, unavailable) for name in controls},
        "tasks": tasks,
    }


def condition_metrics(tasks: Sequence[Task], rows: Sequence[Record], condition: str) -> Metrics:
    """Return every metric of one condition over some tasks, with intervals.

    A control's metrics also hold ``success_drop`` and ``return_drop``: agent minus control in the episodes both played.
    """
    names = {task.name for task in tasks}
    own = [row for row in rows if row["condition"] == condition and row["task"] in names]
    found: Metrics = {}
    for name in _metric_names(own):
        found[name] = summarise(_strata(own, lambda row, name=name: row["metrics"].get(name)), _kind(tasks, name))
    found["return"] = summarise(_strata(own, lambda row: row["return"]), "mean")
    found["return_iqm"] = summarise(_strata(own, lambda row: row["return"]), "iqm")
    found["length"] = summarise(_strata(own, lambda row: row["length"]), "mean")
    if condition != AGENT:
        agent = [row for row in rows if row["condition"] == AGENT and row["task"] in names]
        found["success_drop"] = _drop(agent, own, lambda row: row["metrics"].get("success"))
        found["return_drop"] = _drop(agent, own, lambda row: row["return"])
    return found


def _over_tasks(
    suite: Suite, rows: Sequence[Record], control: str, unavailable: dict[tuple[str, str], str]
) -> Metrics | None:
    played = [task for task in suite.tasks if (task.name, control) not in unavailable]
    return condition_metrics(played, rows, control) if played else None


def _metric_names(rows: Sequence[Record]) -> list[str]:
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row["metrics"]))
    return list(names)


def _kind(tasks: Sequence[Task], metric: str) -> Kind:
    kinds = {FAMILIES[task.family].kind(metric) for task in tasks}
    return "rate" if kinds == {"rate"} else "mean"


def _strata(rows: Sequence[Record], value: Callable[[Record], float | None]) -> list[list[np.ndarray]]:
    """Return values by checkpoint and by stratum (task and seed); undefined ones are left out."""
    groups: dict[int, dict[tuple[str, int], list[float]]] = {}
    # Sorted, so that the resampling does not depend on the order in which episodes ended.
    for row in sorted(rows, key=lambda row: (row["checkpoint"], row["task"], row["seed"], row["episode"])):
        number = value(row)
        if number is not None:
            groups.setdefault(row["checkpoint"], {}).setdefault((row["task"], row["seed"]), []).append(number)
    return [[np.array(part) for part in run.values()] for run in groups.values()]


def _drop(
    agent: Sequence[Record], control: Sequence[Record], value: Callable[[Record], float | None]
) -> dict[str, Any]:
    """Return agent minus control; a control with one player (the oracle) stands beside every checkpoint."""
    played = {(row["checkpoint"], row["task"], row["seed"], row["episode"]): value(row) for row in control}
    players = {key[0] for key in played}
    paired = []
    for row in agent:
        checkpoint = row["checkpoint"] if row["checkpoint"] in players else min(players, default=0)
        ours, theirs = value(row), played.get((checkpoint, row["task"], row["seed"], row["episode"]))
        if ours is not None and theirs is not None:
            paired.append({**row, "difference": ours - theirs})
    return summarise_difference(_strata(paired, lambda row: row["difference"]))
