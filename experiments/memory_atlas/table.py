"""The table of an atlas from its records: scores with intervals over seeds, costs, learning curves, the leaders.

Intervals are those of `evaluation.statistics`: seeds are resampled first, then the episodes of each, so they hold both
the luck of a training and that of the play. An ability's score is the mean over its probes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem import registry
from embodied_mem.evaluation.statistics import summarise
from embodied_mem.experiments.memory_atlas.plan import Plan, make_plan, preset_names
from embodied_mem.experiments.memory_atlas.probes import ABILITIES, find
from embodied_mem.files import read_json
from embodied_mem.results import make_result, metric

Record = Mapping[str, Any]
CURVE_POINTS = 25


def read_records(out: Path, plan: Plan) -> list[dict[str, Any]]:
    """Return the records of the plan's cells that are there.

    Raises:
        UsageError: a record is no JSON.
    """
    files = [cell.record_file(out) for cell in plan.cells]
    return [read_json(path) for path in files if path.is_file()]


def make_table(plan: Plan, records: Sequence[Record], out: Path | None = None) -> dict[str, Any]:
    """Return the result object (`results.make_result`) of an atlas.

    ``metrics`` holds ``<memory>_<ability>_score``, ``tasks`` the score per probe and memory; ``atlas`` what the page
    shows: ``memories``, ``abilities``, ``probes``, ``ability_scores``, ``probe_scores``, ``curves`` and ``leaders``.
    """
    began = time.perf_counter()
    by_probe = {probe: [r for r in records if r["probe"] == probe] for probe in plan.probes}
    probes = {name: found for name, found in by_probe.items() if found}
    memories = [name for name in plan.memories if any(r["memory"] == name for r in records)]
    abilities = [a for a in ABILITIES if any(a in find(name).abilities for name in probes)]
    ability_scores = {
        memory: {a: _score(records, memory, [p for p in probes if a in find(p).abilities]) for a in abilities}
        for memory in memories
    }
    probe_scores = {memory: {probe: _score(records, memory, [probe]) for probe in probes} for memory in memories}
    missing = len(plan.cells) - len(records)
    notes = [
        "score: 0 is the memoryless optimum, 1 the oracle; an interval of 95 % over seeds and episodes",
        f"{plan.cpu_seconds:g} CPU-seconds of training and {plan.episodes} unseen episodes per cell",
        *([f"{missing} of {len(plan.cells)} cells have not been run"] if missing else []),
    ]
    result = make_result(
        "atlas",
        plan.name,
        asdict(plan) | {"command_line": _command_line(plan)},
        {f"{memory}_{a}_score": ability_scores[memory][a] for memory in memories for a in abilities},
        seeds=sorted({int(r["seed"]) for r in records}),
        episodes=sum(len(r["returns"]) for r in records),
        tasks={
            probe: {
                "metrics": {f"{memory}_score": probe_scores[memory][probe] for memory in memories}
                | {f"{memory}_return": _returns(found, memory) for memory in memories},
                "controls": {},
                "episodes": sum(len(r["returns"]) for r in found),
            }
            for probe, found in probes.items()
        },
        seconds=sum(r["seconds"] for r in records) + time.perf_counter() - began,
        env_steps=sum(r["env_steps"] for r in records),
        out=out,
        notes=notes,
    )
    result["atlas"] = {
        "memories": {memory: _costs(records, memory, ability_scores[memory]) for memory in memories},
        "abilities": {ability: ABILITIES[ability] for ability in abilities},
        "probes": {name: _about(name) for name in probes},
        "ability_scores": ability_scores,
        "probe_scores": probe_scores,
        "leaders": {a: leaders({m: ability_scores[m][a] for m in memories}) for a in abilities},
        "curves": {name: _curves(found, memories) for name, found in probes.items()},
        "cells": {"done": len(records), "planned": len(plan.cells)},
    }
    return result


def leaders(scores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the memory with the highest mean and those whose interval reaches its interval, best first.

    Nobody leads where the highest mean is no better than a policy without memory.

    >>> leaders({"a": {"mean": 0.9, "low": 0.8, "high": 1.0}, "b": {"mean": 0.7, "low": 0.5, "high": 0.85}})
    ['a', 'b']
    """
    known = {name: item for name, item in scores.items() if item["mean"] is not None}
    ranked = sorted(known, key=lambda name: -known[name]["mean"])
    if not ranked or known[ranked[0]]["mean"] <= 0:
        return []
    best = known[ranked[0]]
    floor = best["mean"] if best["low"] is None else best["low"]
    upper = {name: item["mean"] if item["high"] is None else item["high"] for name, item in known.items()}
    return [name for name in ranked if name == ranked[0] or upper[name] >= floor]


def _score(records: Sequence[Record], memory: str, probes: Sequence[str]) -> dict[str, Any]:
    """Return the metric of a memory's scores, one stratum per probe and one run per seed."""
    own = [r for r in records if r["memory"] == memory and r["probe"] in probes]
    runs = []
    for seed in sorted({r["seed"] for r in own}):
        runs.append(
            [np.array([find(r["probe"]).score(value) for value in r["returns"]]) for r in own if r["seed"] == seed]
        )
    found = summarise(runs, "mean")
    return metric(found["mean"], found["low"], found["high"], len(runs), found["interval"])


def _returns(records: Sequence[Record], memory: str) -> dict[str, Any]:
    runs = [[np.asarray(r["returns"])] for r in records if r["memory"] == memory]
    return summarise(runs, "mean") | {"n": len(runs)}


def _costs(records: Sequence[Record], memory: str, scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return family, mean score over all abilities (None where one is not run) and medians of what its cells cost."""
    own = [r for r in records if r["memory"] == memory]
    means = [item["mean"] for item in scores.values()]
    return {
        "family": registry.meta("memory", memory).get("family"),
        "mean_score": None if None in means else round(float(np.mean(means)), 4),
        "steps_per_cpu_second": round(float(np.median([r["steps_per_cpu_second"] for r in own])), 1),
        "state_bytes": max(int(r["state_bytes"]) for r in own),
        "step_ms": round(float(np.median([r["step_ms"] for r in own])), 4),
        "cells": len(own),
    }


def _about(name: str) -> dict[str, Any]:
    probe = find(name)
    return {
        "about": probe.about,
        "abilities": list(probe.abilities),
        "env": probe.env,
        "memoryless": probe.memoryless,
        "oracle": probe.oracle,
    }


def _curves(records: Sequence[Record], memories: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Return the mean training score over CPU-seconds of every memory, over the range that all its seeds cover."""
    found = {}
    for memory in memories:
        curves = [r["curve"] for r in records if r["memory"] == memory]
        curves = [item for item in curves if len(item["cpu_seconds"]) > 1]
        if not curves:
            continue
        start = max(item["cpu_seconds"][0] for item in curves)
        end = min(item["cpu_seconds"][-1] for item in curves)
        if not end > start:
            continue
        grid = np.linspace(start, end, CURVE_POINTS)
        values = np.mean([np.interp(grid, item["cpu_seconds"], item["score"]) for item in curves], axis=0)
        found[memory] = {"cpu_seconds": np.round(grid, 2).tolist(), "score": np.round(values, 3).tolist()}
    return found


def _command_line(plan: Plan) -> str:
    if plan.name in preset_names() and make_plan(plan.name) == plan:
        return f"embodied-mem atlas {plan.name} --json"
    seeds = ",".join(map(str, plan.seeds))
    chosen = f"--memories {','.join(plan.memories)} --probes {','.join(plan.probes)} --seeds {seeds}"
    return f"embodied-mem atlas {chosen} --cpu-seconds {plan.cpu_seconds:g} --episodes {plan.episodes} --json"
