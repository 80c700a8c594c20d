"""Bench ``learn``: what each memory learns of the probes, in CPU-seconds, every seed, beside an agent without memory.

Each case trains a preset with one memory replaced, then plays 200 unseen episodes: RepeatPrevious Easy for the return
(1 is the best, without memory about -0.5), T-Maze of length 1000 for the success (chance 0.5) of an agent that was
trained on corridors of at most 50. CPU-seconds are those of the training: user and system time of the driver and its
Ray workers from the first env step on.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embodied_mem.registry import register
from embodied_mem.results import make_result, metric

SEEDS = (0, 1, 2)
EPISODES = 200
INTERVAL = "range_over_seeds"


@dataclass(frozen=True)
class Case:
    """One preset, one memory, one task of the suite ``probes``."""

    name: str
    """Key in the metrics."""
    preset: str
    """What is trained."""
    task: str
    """What is played afterwards."""
    score: str
    """Metric of the task: "return" or "success"."""
    goal: float
    """Score that counts as learned."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Keys of the preset that change."""


def _card_case(memory: str) -> Case:
    overrides: dict[str, Any] = {"agent.memory": memory, "stop.cpu_seconds": 90.0}
    return Case(
        f"repeat_previous_easy_{memory}", "repeat-previous", "RepeatPrevious-v0:easy", "return", 0.95, overrides
    )


def _maze_case(variant: str, memory: str, **overrides: Any) -> Case:
    preset = "tmaze" if variant == "passive" else "tmaze-active"
    task = f"TMaze-v0:{variant}-1000"
    changed = {} if memory == "gated_delta" else {"agent.memory": memory, "agent.memory_config": {"out_dim": 64}}
    return Case(f"tmaze_{variant}_1000_{memory}", preset, task, "success", 1.0, changed | overrides)


CASES: tuple[Case, ...] = (
    *(_card_case(memory) for memory in ("gated_delta", "episodic", "gru", "lstm", "min_gru", "none")),
    *(_maze_case(variant, memory) for variant in ("passive", "active") for memory in ("gated_delta", "episodic")),
)


@register("bench", "learn", about="what each memory learns of the probes per CPU-second, every seed")
def bench_learn(
    device: str = "cpu", seconds: float | None = None, quick: bool = False, cases: Sequence[Case] = CASES
) -> dict[str, Any]:
    """Return the result object: per case the score, the CPU-seconds and how many seeds reached the goal.

    Args:
        device: where the agents learn and play.
        seconds: most CPU-seconds of one training; default: what the preset takes.
        quick: one seed, a second of training, a few episodes; the figures mean nothing.
        cases: what is trained.
    """
    began = time.perf_counter()
    seeds = SEEDS[:1] if quick else SEEDS
    budget = 1.0 if quick else seconds
    metrics: dict[str, Any] = {}
    notes = [f"{EPISODES} episodes per seed; intervals span the lowest to the highest of the seeds"]
    steps = 0
    with tempfile.TemporaryDirectory() as scratch:
        for case in cases:
            runs = [_run(case, seed, Path(scratch) / f"{case.name}-{seed}", device, budget, quick) for seed in seeds]
            for key in (case.score, "cpu_seconds"):
                values = [run[key] for run in runs]
                metrics[f"{case.name}_{key}"] = metric(
                    sum(values) / len(values), min(values), max(values), len(values), INTERVAL
                )
            solved = sum(run[case.score] >= case.goal for run in runs)
            metrics[f"{case.name}_seeds_solved"] = metric(solved, n=len(runs))
            if solved < len(runs):
                notes.append(f"{case.name}: {solved} of {len(runs)} seeds reach {case.goal}")
            steps += int(sum(run["env_steps"] for run in runs))
    config = {"cases": {case.name: [case.preset, case.task, case.overrides] for case in cases}, "episodes": EPISODES}
    return make_result(
        "bench",
        "learn",
        config,
        metrics,
        seeds=seeds,
        seconds=time.perf_counter() - began,
        env_steps=steps,
        notes=notes,
    )


def _run(case: Case, seed: int, folder: Path, device: str, budget: float | None, quick: bool) -> dict[str, float]:
    """Train and play one seed; return its score, CPU-seconds and env steps."""
    from embodied_mem.evaluation import evaluate
    from embodied_mem.experiments.training import train

    overrides = dict(case.overrides) | {"device": device}
    if budget is not None:
        overrides["stop.cpu_seconds"] = budget
    trained = train(case.preset, seeds=[seed], out=folder, **overrides)["metrics"]
    played = evaluate(
        folder, "probes", tasks=[case.task], seeds=[seed], episodes=4 if quick else EPISODES, device=device
    )
    return {
        case.score: float(played["metrics"][case.score]["mean"]),
        "cpu_seconds": float(trained["cpu_seconds"]["mean"]),
        "env_steps": float(trained["env_steps"]["mean"]),
    }
