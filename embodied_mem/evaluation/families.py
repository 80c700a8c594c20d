"""Metric families: from what an environment reports at the end of an episode to the metrics of that episode.

An environment's ``info`` carries plain facts on the final step; a family turns them into metrics named as in the
published protocols. Every family reports ``success``, ``return`` and ``length``. An environment that reports whether an
episode was ``invalid`` (its simulator failed) gets that as a metric; the other metrics of an invalid episode are None,
left out of every mean.

- ``probe``: ``success``, and ``accuracy`` where there is one.
- ``goal_nav``: ``success, stopped, start_distance, final_distance, min_distance, path_length`` (metres).
- ``rearrange``: ``success`` and the metrics of `metrics.rearrangement`, nan where undefined; the record keeps ``item``.
- ``multion``: ``leg_geodesics`` (m,), ``found``, ``path_at_last_found``, ``path_length``.
- ``instruction``: the same, and ``ndtw, sdtw, cls, pl, ne`` of the path (`metrics.vln`), nan where undefined.
- ``street``: the metrics of `metrics.street`, ``actions``, ``stopped``; the record keeps ``id`` and ``states``.
- ``vln``: the metrics of `metrics.vln`, ``actions``, ``stopped``; the record keeps the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.evaluation.statistics import Kind
from embodied_mem.evaluation.suite import Task
from embodied_mem.metrics import GoalEpisode, MultiObjectEpisode, goal_nav_summary, multion_summary
from embodied_mem.metrics.vln import PATH_KEYS

Facts = Mapping[str, Any]
Scores = dict[str, float | None]


@dataclass(frozen=True)
class Family:
    """How one family scores an episode and which of its metrics are rates."""

    score: Callable[[Facts, Task], Scores]
    """Facts of a final step -> metrics; None where undefined."""
    rates: frozenset[str]
    """Metrics that are 0 or 1 per episode: their interval is Wilson's."""
    kept: tuple[str, ...] = ()
    """Facts that go into the episode's record as they are."""

    def kind(self, metric: str) -> Kind:
        """Return how a metric is averaged."""
        return "rate" if metric in self.rates else "mean"


def probe(facts: Facts, task: Task) -> Scores:
    """Return success (None where the environment does not say) and the share of right answers, where there is one."""
    scores = {"success": _number(facts.get("success"))}
    return {**scores, "accuracy": _number(facts["accuracy"])} if "accuracy" in facts else scores


def goal_navigation(facts: Facts, task: Task) -> Scores:
    """Return the goal-navigation metrics (`metrics.goal_nav`) of an episode; ``success`` is the same as ``sr``."""
    if "invalid" in facts:
        rest = {name: value for name, value in facts.items() if name != "invalid"}
        if not facts["invalid"]:
            return {**goal_navigation(rest, task), "invalid": 0.0}
        return {**dict.fromkeys(("success", *GOAL_NAV)), "invalid": 1.0}
    episode = GoalEpisode(
        start_distance=_need(facts, "start_distance", task),
        final_distance=_need(facts, "final_distance", task),
        min_distance=_need(facts, "min_distance", task),
        path_length=_need(facts, "path_length", task),
        stopped=bool(_need(facts, "stopped", task)),
        success_distance=1.0 if task.success_distance is None else task.success_distance,
        strict=False,
        success=bool(_need(facts, "success", task)),
    )
    scores = goal_nav_summary(episode)
    return {"success": scores["sr"], **scores}


def rearranged(facts: Facts, task: Task) -> Scores:
    """Return the rearrangement metrics (`metrics.rearrangement`) of an episode."""
    scores = {name: _number(_need(facts, name, task)) for name in REARRANGE}
    invalid = bool(_need(facts, "invalid", task))
    return {**(dict.fromkeys(scores) if invalid else scores), "invalid": float(invalid)}


def multi_object(facts: Facts, task: Task) -> Scores:
    """Return the MultiON metrics (`metrics.multion`) of an episode."""
    legs = np.asarray(facts.get("leg_geodesics", ()), dtype=np.float64).reshape(-1)
    legs = legs[~np.isnan(legs)]
    episode = MultiObjectEpisode(
        leg_geodesics=tuple(float(leg) for leg in legs),
        found=int(_need(facts, "found", task)),
        path_at_last_found=_need(facts, "path_at_last_found", task),
        total_path=_need(facts, "path_length", task),
    )
    return {name: _number(value) for name, value in multion_summary(episode).items()}


def followed(facts: Facts, task: Task) -> Scores:
    """Return the MultiON metrics over the landmarks of an instruction and the metrics of the path walked."""
    return {**multi_object(facts, task), **{name: _number(_need(facts, name, task)) for name in PATH_KEYS}}


def street_walk(facts: Facts, task: Task) -> Scores:
    """Return the street metrics (`metrics.street`) of an episode; ``success`` is the same as ``tc``."""
    scores = {name: _number(_need(facts, name, task)) for name in STREET}
    return {"success": scores["tc"], **scores}


def indoor_walk(facts: Facts, task: Task) -> Scores:
    """Return the indoor metrics (`metrics.vln`) of an episode; ``success`` is the same as ``sr``."""
    scores = {name: _number(_need(facts, name, task)) for name in INDOOR}
    return {"success": scores["sr"], **scores}


GOAL_NAV = ("sr", "osr", "spl", "soft_spl", "pl", "dtg", "dts", "progress_ratio")
REARRANGE = (
    "success", "prop_fixed", "prop_fixed_strict", "prop_misplaced", "energy_prop", "num_initially_misplaced",
    "num_fixed", "num_newly_misplaced", "start_energy", "end_energy",
)  # fmt: skip
STREET = (
    "tc", "spd", "sed", "ndtw", "sdtw", "ndtw_std", "cls", "kpa", "dtw", "sed_levenshtein", "actions", "stopped",
)  # fmt: skip
INDOOR = ("pl", "ne", "oracle_ne", "sr", "osr", "spl", "dtw", "ndtw", "sdtw", "cls", "actions", "stopped")
FAMILIES: dict[str, Family] = {
    "probe": Family(probe, frozenset({"success"})),
    "goal_nav": Family(goal_navigation, frozenset({"success", "sr", "osr", "invalid"})),
    "rearrange": Family(rearranged, frozenset({"success", "invalid"}), kept=("item",)),
    "multion": Family(multi_object, frozenset({"success"})),
    "instruction": Family(followed, frozenset({"success"})),
    "vln": Family(indoor_walk, frozenset({"success", "sr", "osr", "stopped"}), kept=("id", "states")),
    "street": Family(street_walk, frozenset({"success", "tc", "stopped"}), kept=("id", "states")),
}


def _need(facts: Facts, name: str, task: Task) -> float:
    if name not in facts:
        raise UsageError(
            f"{task.env} reports no {name!r} in info on the final step, which the {task.family!r} metrics need; "
            f"it reports {', '.join(sorted(facts)) or 'nothing'}"
        )
    return float(facts[name])


def _number(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
