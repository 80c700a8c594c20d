"""Memories of the MemoryVLA-style policy on tabletop tasks: the table of docs/training/imitation.md.

python -m embodied_mem.experiments.tabletop_memories [--tasks A,B] [--rows R,S] [--seeds 0,1,2] [--episodes 100]
                                                     [--work runs/tabletop-memories] [--minutes M] [--out FILE]

Every cell is the preset ``memoryvla-tabletop`` with another memory, trained on demonstrations of its task, evaluated on
the suite ``tabletop-memory``. What ``--work`` holds already is kept, so the table can be made in parts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.evaluation.evaluate import evaluate
from embodied_mem.evaluation.plan import AGENT
from embodied_mem.evaluation.records import EPISODES
from embodied_mem.evaluation.statistics import summarise, summarise_difference
from embodied_mem.experiments.training import train
from embodied_mem.files import atomic_write_json, read_json, read_jsonl
from embodied_mem.policies.training.run import RUN_FILE
from embodied_mem.policies.training.seed_run import RESULT_FILE
from embodied_mem.results import make_result

FILE = Path(__file__).resolve().parent / "results" / "tabletop_memories.json"
PRESET, SUITE = "memoryvla-tabletop", "tabletop-memory"
MAIN = "bank, merge"
ROWS: dict[str, dict[str, Any]] = {
    MAIN: {},
    "none": {"agent.memory": "none"},
    "bank, FIFO": {"agent.memory_config.merge": "fifo"},
    "lstm": {"agent.memory": "lstm"},
    "memo_summary": {"agent.memory": "memo_summary"},
    "bank, published merge": {"agent.memory_config.merge": "average"},
    "bank, cognitive only": {"agent.memory_config.streams": "cognitive"},
    "bank, perceptual only": {"agent.memory_config.streams": "perceptual"},
    "bank, add": {"agent.fusion": "add"},
}
"""Row of the table -> what it changes in the preset."""
TASKS: dict[str, dict[str, Any]] = {
    "ShellGame": {},
    "RememberColor3": {},
    "PutBlockBack": {"agent.memory_config.slots": 6},
}
"""Task -> what it changes: the bank holds about a third of an episode's key frames."""
CONTROLS = ("wiped:5", "shuffled")
"""Played by the first row."""
DIFFERENCES = {
    "merge_minus_none": (MAIN, "none"),
    "merge_minus_fifo": (MAIN, "bank, FIFO"),
    "both_minus_cognitive": (MAIN, "bank, cognitive only"),
    "both_minus_perceptual": (MAIN, "bank, perceptual only"),
    "gate_minus_add": (MAIN, "bank, add"),
}
"""Figure -> the rows whose success is compared, episode by episode, over the tasks that both played."""

Runs = list[list[np.ndarray]]


def make_cell(task: str, row: str, seeds: Sequence[int], episodes: int, work: Path, more: Mapping[str, Any]) -> Path:
    """Train and evaluate one cell where that is not done yet; return the folder of its evaluation."""
    folder = work / task / row.replace(", ", "-").replace(" ", "-")
    for seed in seeds:
        if (folder / "run" / f"seed{seed}" / RESULT_FILE).is_file():
            continue
        changes = {**TASKS[task], **ROWS[row], **more, "env": f"embodied_mem/Tabletop-{task}-v0"}
        if changes.get("agent.memory", "bank") != "bank":
            changes = {key: value for key, value in changes.items() if not key.startswith("agent.memory_config.")}
        begun = (folder / "run" / RUN_FILE).is_file()
        demos: dict[str, Any] = {"demos.cache": str(work / "demonstrations"), "log.tensorboard": False, "rollouts": 30}
        train(PRESET, seeds=[seed], out=folder / "run", resume=begun, **demos, **changes)
    out = folder / "eval"
    if not (out / RESULT_FILE).is_file():
        checkpoints = [folder / "run" / f"seed{seed}" for seed in seeds]
        controls = list(CONTROLS) if row == MAIN else False
        evaluate(
            checkpoints,
            SUITE,
            tasks=[f"Tabletop-{task}-v0:level-0"],
            episodes=episodes,
            controls=controls,
            num_envs=50,
            device="cpu",
            out=out,
            resume=out.exists(),
            traces=0,
        )
    return out


def successes(folder: Path, condition: str = AGENT) -> list[dict[int, float]]:
    """Return success by episode for every checkpoint of an evaluation."""
    found: dict[int, dict[int, float]] = {}
    for row in read_jsonl(folder / EPISODES):
        if row["condition"] == condition:
            found.setdefault(row["checkpoint"], {})[row["episode"]] = float(row["metrics"]["success"])
    return [found[key] for key in sorted(found)]


def table(cells: Mapping[tuple[str, str], Path], config: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Return the result of the cells (task, row) -> folder of the evaluation that are there."""
    values = {key: successes(folder) for key, folder in cells.items()}
    for (task, row), folder in cells.items():
        if row == MAIN:
            values.update({(task, f"{row}, {name}"): successes(folder, name) for name in CONTROLS})
    tasks = {task: None for task, _ in values}
    names = list(dict.fromkeys(row for _, row in values))
    done: dict[str, Any] = {}
    for task in tasks:
        own = {
            row: {"success": summarise(_runs([values[task, row]]), "rate")} for row in names if (task, row) in values
        }
        main = own.pop(MAIN, {})
        played = sum(len(run) for run in values.get((task, MAIN), []))
        done[task] = {"metrics": main, "controls": own, "episodes": played}
    over = {}
    for row in names:
        parts = [values[task, row] for task in tasks if (task, row) in values]
        if len(parts) == len(tasks):
            over[row] = {"success": summarise(_runs(parts), "rate")}
    metrics = dict(over.get(MAIN, {}))
    for name, (one, other) in DIFFERENCES.items():
        shared = [task for task in tasks if (task, one) in values and (task, other) in values]
        if shared:
            metrics[name] = summarise_difference(_difference(values, shared, one, other))
    return make_result(
        "experiment",
        MAIN,
        config,
        metrics,
        seeds=config["seeds"],
        episodes=sum(len(run) for runs in values.values() for run in runs),
        controls={row: item for row, item in over.items() if row != MAIN},
        tasks=done,
        seconds=seconds,
        notes=[
            "success of chance: 1/3, 1/3, 1/4 (ShellGame, RememberColor3, PutBlockBack)",
            "every row but the controls is trained anew; wiped:5 and shuffled disturb the memory of the first one",
            "seconds are CPU seconds of all training; differences are paired, over the tasks both played",
        ],
    )


def _runs(parts: Sequence[Sequence[Mapping[int, float]]]) -> Runs:
    """Return per checkpoint one stratum per task."""
    count = min(len(part) for part in parts)
    return [[np.array([part[k][e] for e in sorted(part[k])]) for part in parts] for k in range(count)]


def _difference(values: Mapping[tuple[str, str], list], tasks: Sequence[str], one: str, other: str) -> Runs:
    count = min(len(values[task, row]) for task in tasks for row in (one, other))
    return [
        [
            np.array([values[task, one][k][e] - values[task, other][k][e] for e in sorted(values[task, one][k])])
            for task in tasks
        ]
        for k in range(count)
    ]


def cpu_seconds(cells: Sequence[Path], seeds: Sequence[int]) -> float:
    """Return the CPU seconds of training of the cells, given by the folders of their evaluations."""
    results = [folder.parent / "run" / f"seed{seed}" / RESULT_FILE for folder in cells for seed in seeds]
    return sum(float(read_json(path)["cpu_seconds"]) for path in results)


def main(words: Sequence[str] | None = None) -> None:
    """Make the cells and write the file; cells that are not done in time are left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--rows", default="all", help="labels joined by a bar, for example 'lstm|none'")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--set", action="append", default=[], help="key=value over the preset, for every cell")
    parser.add_argument("--work", type=Path, default=Path("runs/tabletop-memories"))
    parser.add_argument("--minutes", type=float, default=float("inf"), help="CPU minutes after which no cell is begun")
    parser.add_argument("--out", type=Path, default=FILE)
    given = parser.parse_args(words)
    from embodied_mem.config import parse_overrides

    more = parse_overrides(given.set)
    seeds = [int(word) for word in given.seeds.split(",")]
    rows = list(ROWS) if given.rows == "all" else given.rows.split("|")
    cells: dict[tuple[str, str], Path] = {}
    left: list[str] = []
    began = time.process_time()
    for task in given.tasks.split(","):
        for row in rows:
            folder = given.work / task / row.replace(", ", "-").replace(" ", "-") / "eval"
            if not (folder / RESULT_FILE).is_file() and time.process_time() - began > 60 * given.minutes:
                left.append(f"{task} with {row}")
                continue
            cells[task, row] = make_cell(task, row, seeds, given.episodes, given.work, more)
            rate = [round(float(np.mean(list(run.values()))), 3) for run in successes(cells[task, row])]
            print(task, row, rate, f"{time.process_time() - began:.0f} s", flush=True)
    command = f"python -m embodied_mem.experiments.tabletop_memories --tasks {given.tasks} --rows '{'|'.join(rows)}'"
    command += f" --seeds {given.seeds} --episodes {given.episodes}"
    command += "".join(f" --set {word}" for word in given.set)
    config = {"preset": PRESET, "suite": SUITE, "seeds": seeds, "episodes": given.episodes, **more}
    result = table(cells, {**config, "command_line": command}, cpu_seconds(list(cells.values()), seeds))
    if left:
        result["notes"].append(f"not run: {'; '.join(left)}")
    atomic_write_json(given.out, result)


if __name__ == "__main__":
    main()
