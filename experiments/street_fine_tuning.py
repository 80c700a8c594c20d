"""Street imitation, and the same agent after fine-tuning by PPO: the table of docs/training/street.md.

python -m embodied_mem.experiments.street_fine_tuning [--seeds 0] [--episodes 400] [--work runs/street-fine-tuning]
                                   [--imitation key=value ...] [--tuning key=value ...] [--out FILE]

Trains the preset ``street`` and from its weights ``street-ppo``, then plays both on the human dev instructions of the
unseen area (every episode once) and on synthetic ones there, which neither training has. What ``--work`` holds already
is kept; a training that was cut off goes on. Needs EMBODIED_MEM_DATA.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.agent import find_bundle
from embodied_mem.config import parse_overrides
from embodied_mem.evaluation import Suite, Task, evaluate
from embodied_mem.evaluation.plan import AGENT
from embodied_mem.evaluation.records import EPISODES
from embodied_mem.evaluation.statistics import summarise_difference
from embodied_mem.evaluation.suites._street import AGENT_OPTIONS, ENV
from embodied_mem.experiments.training import train
from embodied_mem.files import atomic_write_json, read_json, read_jsonl
from embodied_mem.policies.training.run import RUN_FILE
from embodied_mem.policies.training.seed_run import RESULT_FILE
from embodied_mem.results import make_result

FILE = Path(__file__).resolve().parent / "results" / "street_fine_tuning.json"
BEFORE, AFTER = "imitation", "fine-tuned"
PRESETS = {BEFORE: "street", AFTER: "street-ppo"}
HUMAN = ("touchdown", "map2seq")
SYNTHETIC = {f"synthetic {style}": style for style in HUMAN}
"""Suite of synthetic instructions -> their style."""
WORLD_SEED = 5_000_000
"""Of the synthetic episodes that are played here; lessons and fine-tuning have others, in the other area."""
CONTROLS = ("wiped:1", "shuffled")
"""Played by both agents on human instructions."""
SHOWN = ("tc", "spd", "sed", "ndtw", "sdtw", "actions", "stopped")
"""Metrics of the table."""
Successes = dict[tuple[int, int], float]
"""(checkpoint, episode) -> whether it succeeded."""


def train_both(work: Path, seeds: Sequence[int], changes: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Path]]:
    """Return the bundles of every seed by stage, after training what is not there."""
    found: dict[str, list[Path]] = {stage: [] for stage in PRESETS}
    for seed in seeds:
        for stage, preset in PRESETS.items():
            run = work / stage / f"run{seed}"
            if not (run / f"seed{seed}" / RESULT_FILE).is_file():
                own = {"log.tensorboard": False, **changes[stage]}
                if stage == AFTER:
                    own["init"] = str(found[BEFORE][-1])
                train(preset, seeds=[seed], out=run, resume=(run / RUN_FILE).is_file(), **own)
            found[stage].append(find_bundle(run / f"seed{seed}"))
    return found


def suite_of(name: str, episodes: int) -> str | Suite:
    """Return what ``evaluate`` plays: a registered suite, or ``episodes`` synthetic instructions of the unseen area."""
    if name not in SYNTHETIC:
        return name
    kwargs: dict[str, Any] = {"data": "synthetic", "language": "varied", "graph": "touchdown", "split": "test"}
    kwargs |= {"style": SYNTHETIC[name], "items": episodes, "world_seed": WORLD_SEED, "order": "listed", "record": True}
    task = Task(ENV, "street", variant=name, kwargs=kwargs, agent_options=AGENT_OPTIONS)
    return Suite(name, "synthetic instructions of the unseen area", (task,), episodes=None)


def measure(bundles: Sequence[Path], name: str, episodes: int, out: Path) -> tuple[dict[str, Any], Successes]:
    """Return the result of the agents on a suite and their successes, kept in ``out``."""
    if not (out / RESULT_FILE).is_file():
        options: dict[str, Any] = {"num_envs": 100, "device": "cpu", "resume": out.exists(), "traces": 0}
        controls = CONTROLS if name in HUMAN else False
        evaluate([*bundles], suite_of(name, episodes), controls=controls, out=out, **options)
    rows = [row for row in read_jsonl(out / EPISODES) if row["condition"] == AGENT]
    values = {(int(row["checkpoint"]), int(row["episode"])): float(row["metrics"]["tc"]) for row in rows}
    return read_json(out / RESULT_FILE), values


def table(
    found: Mapping[str, Mapping[str, tuple[dict[str, Any], Successes]]], config: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """Return the result of suite -> stage -> what `measure` gives: the fine-tuned agent beside what it began as."""
    tasks: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    for suite, stages in found.items():
        (after, new), (before, old) = stages[AFTER], stages[BEFORE]
        others = {BEFORE: before["metrics"]}
        for stage, result in ((AFTER, after), (BEFORE, before)):
            others |= {f"{stage}, {name}": item for name, item in result["controls"].items() if item}
        own = {name: after["metrics"][name] for name in SHOWN}
        kept = {row: {name: item[name] for name in SHOWN} for row, item in others.items()}
        tasks[suite] = {"metrics": own, "controls": kept, "episodes": after["episodes"]}
        label = suite.replace(" ", "_")
        metrics[f"{label}_tc"] = after["metrics"]["tc"]
        metrics[f"{label}_gain"] = summarise_difference(paired(new, old))
    results = [item[0] for stages in found.values() for item in stages.values()]
    return make_result(
        "experiment",
        AFTER,
        config,
        metrics,
        seeds=config["seeds"],
        episodes=sum(item["episodes"] or 0 for item in results),
        tasks=tasks,
        seconds=seconds,
        env_steps=sum(item["env_steps"] or 0 for item in results),
        notes=[
            "agent: after fine-tuning by PPO; imitation: what it began as; gain: paired difference of TC",
            "both learn from synthetic instructions of the seen area; what is played here is of the unseen area",
            "seconds are CPU seconds of training; env steps those of evaluation",
        ],
    )


def paired(new: Successes, old: Successes) -> list[list[np.ndarray]]:
    """Return per checkpoint the differences of the episodes that both played."""
    checkpoints = sorted({checkpoint for checkpoint, _ in new})
    return [[np.array([new[key] - old[key] for key in sorted(new) if key[0] == one])] for one in checkpoints]


def cpu_seconds(work: Path, stage: str, seed: int) -> float:
    """Return the CPU seconds that a training took."""
    return float(read_json(work / stage / f"run{seed}" / f"seed{seed}" / RESULT_FILE)["cpu_seconds"])


def main(words: Sequence[str] | None = None) -> None:
    """Train and play what is not there yet and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--episodes", type=int, default=400, help="synthetic episodes per style")
    parser.add_argument("--imitation", action="append", default=[], help="key=value over the preset street")
    parser.add_argument("--tuning", action="append", default=[], help="key=value over the preset street-ppo")
    parser.add_argument("--work", type=Path, default=Path("runs/street-fine-tuning"))
    parser.add_argument("--out", type=Path, default=FILE)
    given = parser.parse_args(words)
    seeds = [int(word) for word in given.seeds.split(",")]
    changes = {BEFORE: parse_overrides(given.imitation), AFTER: parse_overrides(given.tuning)}
    bundles = train_both(given.work, seeds, changes)
    found: dict[str, dict[str, tuple[dict[str, Any], Successes]]] = {name: {} for name in (*HUMAN, *SYNTHETIC)}
    for name, (stage, agents) in itertools.product(found, bundles.items()):
        found[name][stage] = measure(agents, name, given.episodes, given.work / stage / name.replace(" ", "-"))
        print(name, stage, found[name][stage][0]["metrics"]["tc"], flush=True)
    command = f"python -m embodied_mem.experiments.street_fine_tuning --seeds {given.seeds} --episodes {given.episodes}"
    command += "".join(f" --imitation {word}" for word in given.imitation)
    command += "".join(f" --tuning {word}" for word in given.tuning)
    spent = {stage: [cpu_seconds(given.work, stage, seed) for seed in seeds] for stage in PRESETS}
    config = {"presets": PRESETS, "seeds": seeds, "changes": changes, "cpu_seconds": spent, "command_line": command}
    atomic_write_json(given.out, table(found, config, sum(map(sum, spent.values()))))


if __name__ == "__main__":
    main()
