"""Memories of the MemoryVLA-style policy on tabletop tasks: the table of docs/training/imitation.md.

python -m embodied_mem.experiments.tabletop_memories [--tasks A,B] [--rows table|all|'R|S'] [--seeds 0,1,2]
                                   [--episodes 100] [--work runs/tabletop-memories] [--minutes M] [--out FILE]

Every cell is the preset ``memoryvla-tabletop`` with another memory, trained on demonstrations of its task, evaluated on
the suite ``tabletop-memory``. What ``--work`` holds already is kept, so the table can be made in parts: seed by seed,
the rows in the order given, every row on all tasks (pictures: on one, with one seed). ``--rows table`` is all but the
two other policies.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.evaluation.evaluate import evaluate
from embodied_mem.evaluation.plan import AGENT
from embodied_mem.evaluation.records import CONFIG, EPISODES
from embodied_mem.evaluation.statistics import summarise, summarise_difference
from embodied_mem.experiments.training import train
from embodied_mem.files import atomic_write_json, read_json, read_jsonl
from embodied_mem.policies.training.run import RUN_FILE
from embodied_mem.policies.training.seed_run import RESULT_FILE
from embodied_mem.results import make_result

FILE = Path(__file__).resolve().parent / "results" / "tabletop_memories.json"
PRESET, SUITE = "memoryvla-tabletop", "tabletop-memory"
MAIN = "bank, merge"
GRID = {"agent.perception.tokens": 36, "agent.perception.width": 16, "agent.perception.parts": []}
SEEN: dict[str, Any] = {
    "env_config.sensors": ["rgb", "vector", "instruction"],
    "env_config.objects": False,
    "env_config.width": 48,
    "env_config.height": 48,
    "agent.perception.encoder": "small",
    "agent.perception.parts": [],
    "agent.perception.tokens": 9,
    "agent.perception.hidden": 64,
    "batch.rows": 32,
}
"""Pictures of the front camera and the arm's own state, a token for every 16 x 16 pixels."""
HELD = {"agent.memory_config.slots": 16}
"""Memories whose slots are not the bank's entries do not get its few."""
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
    "pictures, bank": SEEN,
    "pictures, none": {"agent.memory": "none", **SEEN},
    "key frames, heat maps": {"agent.policy": "key_frames", "agent.memory": "heat_map_attention", **GRID, **HELD},
    "key frames, none": {"agent.policy": "key_frames", "agent.memory": "none", **GRID},
    "decision, dt_mem": {"agent.policy": "decision", "agent.memory": "dt_mem", **HELD},
    "decision, none": {"agent.policy": "decision", "agent.memory": "none"},
}
"""Row of the table -> what it changes in the preset."""
TABLE = [row for row in ROWS if not row.startswith(("key frames", "decision"))]
"""Rows of the one policy."""
ONLY: dict[str, tuple[str, int]] = {row: ("RememberColor3", 1) for row in ROWS if row.startswith("pictures")}
"""Row -> its only task, and how many of the seeds it is trained with."""
COMMON: dict[str, Any] = {
    "agent.expert.chunk": 1,
    "agent.expert.guidance": 1.0,
    "agent.expert.drop_condition": 0.0,
    "batch.rows": 64,
    "updates": 480,
}
"""What every cell changes: one key frame at a time, and twice the episodes per update."""
TASKS: dict[str, dict[str, Any]] = {
    "ShellGame": {"agent.perception.parts": [19, 3, 3, 3, 3]},
    "RememberColor3": {"agent.perception.parts": [19, 3, 3, 3]},
    "PutBlockBack": {"agent.perception.parts": [19, 3], "agent.memory_config.slots": 6, "batch.rows": 32},
}
"""Task -> what it changes: a token for the arm and one for each thing; the bank holds about a third of an episode."""
CONTROLS = ("wiped:5", "shuffled")
"""Played by the first row."""
DIFFERENCES = {
    "merge_minus_none": (MAIN, "none"),
    "merge_minus_fifo": (MAIN, "bank, FIFO"),
    "both_minus_cognitive": (MAIN, "bank, cognitive only"),
    "both_minus_perceptual": (MAIN, "bank, perceptual only"),
    "gate_minus_add": (MAIN, "bank, add"),
    "pictures_bank_minus_none": ("pictures, bank", "pictures, none"),
}
"""Figure -> the rows whose success is compared, episode by episode, over the tasks that both played."""

Runs = list[list[np.ndarray]]


def folder_of(work: Path, task: str, row: str) -> Path:
    """Return where a cell lies: ``run/seed{S}`` and ``eval-{S}`` of every seed."""
    return work / task / row.replace(", ", "-").replace(" ", "-")


def make_cell(task: str, row: str, seed: int, episodes: int, work: Path, more: Mapping[str, Any]) -> None:
    """Train and evaluate one seed of a cell where that is not done yet."""
    folder = folder_of(work, task, row)
    if not (folder / "run" / f"seed{seed}" / RESULT_FILE).is_file():
        own = {**COMMON, **TASKS[task]}
        if "agent.memory" in ROWS[row]:
            own = {key: value for key, value in own.items() if not key.startswith("agent.memory_config.")}
        changes = {**own, **ROWS[row], **more, "env": f"embodied_mem/Tabletop-{task}-v0"}
        begun = (folder / "run" / RUN_FILE).is_file()
        demos: dict[str, Any] = {"demos.cache": str(work / "demonstrations"), "log.tensorboard": False, "rollouts": 0}
        train(PRESET, seeds=[seed], out=folder / "run", resume=begun, **demos, **changes)
    out = folder / f"eval-{seed}"
    if not (out / RESULT_FILE).is_file():
        controls = list(CONTROLS) if row == MAIN and seed == 0 else False
        evaluate(
            [folder / "run" / f"seed{seed}"],
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


def successes(folder: Path, seeds: Sequence[int], condition: str = AGENT) -> list[dict[int, float]]:
    """Return success by episode for every seed of a cell that was evaluated to the end under ``condition``."""
    found = []
    for seed in seeds:
        path = folder / f"eval-{seed}"
        every = read_jsonl(path / EPISODES) if (path / EPISODES).is_file() else []
        rows = [row for row in every if row["condition"] == condition]
        if rows and len(rows) == read_json(path / CONFIG)["episodes"]:
            found.append({row["episode"]: float(row["metrics"]["success"]) for row in rows})
    return found


def table(
    cells: Mapping[tuple[str, str], Sequence[int]], work: Path, config: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """Return the result of the cells (task, row) -> seeds that are there."""
    values = {(task, row): successes(folder_of(work, task, row), seeds) for (task, row), seeds in cells.items()}
    for (task, row), seeds in cells.items():
        if row == MAIN:
            disturbed = {name: successes(folder_of(work, task, row), seeds, name) for name in CONTROLS}
            values.update({(task, f"{row}, {name}"): runs for name, runs in disturbed.items() if runs})
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
            "every row but the controls is trained anew; wiped:5 and shuffled disturb that of the first one (seed 0)",
            f"seeds of a cell where not all: {_fewer(cells, config['seeds'])}",
            "seconds are CPU seconds of all training; differences are paired, over the tasks both played",
        ],
    )


def _fewer(cells: Mapping[tuple[str, str], Sequence[int]], seeds: Sequence[int]) -> str:
    """Say which cells have fewer seeds than asked for."""
    short = [
        f"{task} {row}: {len(own)}"
        for (task, row), own in cells.items()
        if len(own) < min(len(seeds), ONLY.get(row, ("", len(seeds)))[1])
    ]
    return "; ".join(short) or "none"


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


def cpu_seconds(cells: Mapping[tuple[str, str], Sequence[int]], work: Path) -> dict[str, float]:
    """Return the CPU seconds of training of every run of the cells, by what it is."""
    spent = {}
    for (task, row), seeds in cells.items():
        for seed in seeds:
            found = read_json(folder_of(work, task, row) / "run" / f"seed{seed}" / RESULT_FILE)
            spent[f"{task} with {row}, seed {seed}"] = float(found["cpu_seconds"])
    return spent


def main(words: Sequence[str] | None = None) -> None:
    """Make the cells and write the file; cells that are not done in time are left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--rows", default="table", help="table, all, or labels joined by a bar: 'lstm|none'")
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
    rows = {"all": list(ROWS), "table": TABLE}.get(given.rows) or given.rows.split("|")
    for word, known in [(row, ROWS) for row in rows] + [(task, TASKS) for task in given.tasks.split(",")]:
        if word not in known:
            parser.error(f"expected some of {', '.join(known)}; got {word!r}")
    cells: dict[tuple[str, str], list[int]] = {}
    left: list[str] = []
    began = time.process_time()
    for seed, row, task in itertools.product(seeds, rows, given.tasks.split(",")):
        if row in ONLY and (task != ONLY[row][0] or seed not in seeds[: ONLY[row][1]]):
            continue
        if time.process_time() - began <= 60 * given.minutes:
            make_cell(task, row, seed, given.episodes, given.work, more)
        elif not successes(folder_of(given.work, task, row), [seed]):
            if seed == seeds[0]:
                left.append(f"{task} with {row}")
            continue
        cells.setdefault((task, row), []).append(seed)
        rate = [
            round(float(np.mean(list(run.values()))), 3) for run in successes(folder_of(given.work, task, row), seeds)
        ]
        print(task, row, seed, rate, f"{time.process_time() - began:.0f} s", flush=True)
    command = f"python -m embodied_mem.experiments.tabletop_memories --tasks {given.tasks} --rows '{given.rows}'"
    command += f" --seeds {given.seeds} --episodes {given.episodes}"
    command += "".join(f" --set {word}" for word in given.set)
    config = {"preset": PRESET, "suite": SUITE, "seeds": seeds, "episodes": given.episodes, **COMMON, **more}
    spent = cpu_seconds(cells, given.work)
    result = table(cells, given.work, {**config, "command_line": command}, sum(spent.values()))
    dearest = max(spent, key=lambda run: spent[run])
    result["notes"].append(f"the dearest training took {spent[dearest]:.0f} CPU s ({dearest})")
    if left:
        result["notes"].append(f"not run: {'; '.join(left)}")
    atomic_write_json(given.out, result)


if __name__ == "__main__":
    main()
