"""Trained street agents beside the rule-based one and their controls: the table of docs/suites/street.md.

python -m embodied_mem.experiments.street_agents [--rows all] [--seeds 0,1,2] [--work runs/street-agents] [--minutes M]

Every row is the preset ``street-clauses`` with another setting, trained where its bundle is not there yet (in
``experiments/bundles/street/`` or in ``--work``) and evaluated on the dev instructions of the unseen area of both data
sets, every episode once. What ``--work`` holds already is kept. Needs EMBODIED_MEM_DATA.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from embodied_mem.agent import CONFIG_FILE, find_bundle
from embodied_mem.evaluation.evaluate import evaluate
from embodied_mem.experiments.training import train
from embodied_mem.files import atomic_write_json, read_json
from embodied_mem.policies.training.run import RUN_FILE
from embodied_mem.policies.training.seed_run import RESULT_FILE
from embodied_mem.results import make_result

HERE = Path(__file__).resolve().parent
FILE, BUNDLES = HERE / "results" / "street_agents.json", HERE / "bundles" / "street"
PRESET, MAIN, BASELINE = "street-clauses", "trained", "rules"
SUITES = ("touchdown", "map2seq")
ROWS: dict[str, dict[str, Any]] = {
    MAIN: {},
    "window 1": {"agent.memory": "none"},
    "no graph": {"agent.graph": False},
    "no traffic": {"env_config.sensors": ["vector", "instruction"]},
    "no return": {"agent.back": 0},
}
"""Row -> what it changes in the preset."""
CONTROLS = ("wiped:1", "shuffled")
"""Played by the first row."""
ONE_SEED = ("window 1", "no graph", "no traffic", "no return")
"""Rows of one training seed."""


def bundle(row: str, seed: int, work: Path) -> Path:
    """Return the folder of a trained agent, after training it where there is none."""
    kept = BUNDLES / _name(row) / f"seed{seed}"
    if (kept / CONFIG_FILE).is_file():
        return kept
    run = work / _name(row) / "run"
    if not (run / f"seed{seed}" / RESULT_FILE).is_file():
        begun = (run / RUN_FILE).is_file()
        changes: dict[str, Any] = {"log.tensorboard": False, **ROWS[row]}
        train(PRESET, seeds=[seed], out=run, resume=begun, **changes)
    return find_bundle(run / f"seed{seed}")


def keep(row: str, seed: int, work: Path) -> Path:
    """Copy a trained agent to `BUNDLES`; return its folder there."""
    found, kept = bundle(row, seed, work), BUNDLES / _name(row) / f"seed{seed}"
    if found != kept:
        kept.mkdir(parents=True, exist_ok=True)
        for path in found.iterdir():
            shutil.copyfile(path, kept / path.name)
    return kept


def measure(agent: Any, suite: str, controls: Sequence[str], out: Path) -> dict[str, Any]:
    """Return the result of an agent (or of several checkpoints) on a suite, kept in ``out``."""
    if (out / RESULT_FILE).is_file():
        return read_json(out / RESULT_FILE)
    chosen = list(controls) or False
    return evaluate(agent, suite, controls=chosen, num_envs=100, device="cpu", out=out, resume=out.exists(), traces=0)


def table(found: Mapping[str, Mapping[str, dict[str, Any]]], config: dict[str, Any]) -> dict[str, Any]:
    """Return the result of rows: suite -> row -> result of `measure`."""
    tasks: dict[str, Any] = {}
    for suite, rows in found.items():
        main = rows[MAIN]
        others = {row: item["metrics"] for row, item in rows.items() if row != MAIN}
        tasks[suite] = {
            "metrics": main["metrics"],
            "controls": {**others, **{f"{MAIN}, {name}": item for name, item in main["controls"].items() if item}},
            "episodes": main["episodes"],
        }
    every = [item for rows in found.values() for item in rows.values()]
    return make_result(
        "experiment",
        MAIN,
        config,
        {f"{suite}_tc": item["metrics"]["tc"] for suite, item in tasks.items()},
        seeds=config["seeds"],
        episodes=sum(item["episodes"] or 0 for item in every),
        tasks=tasks,
        seconds=sum(item["seconds"] for item in every),
        env_steps=sum(item["env_steps"] or 0 for item in every),
        notes=[
            "trained on synthetic instructions of the seen area; evaluated on human ones of the unseen area",
            "the turns and numbers of a text are read by regular expressions; the rest is learnt on top of them",
            "window 1: without the counts of the way, trained anew; no graph: without junctions and angles of links, "
            "trained anew",
            "no traffic: without the heading of the capturing car, which is in the graph's file and which published "
            "agents without pictures do not get",
            "no return: stops where it stands, without walking back within a block",
            f"one training seed: {', '.join(ONE_SEED)}",
        ],
    )


def _name(row: str) -> str:
    return row.replace(" ", "-")


def main(words: Sequence[str] | None = None) -> None:
    """Train and evaluate what is not there yet and write the file; rows that are not done in time are left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="all", help="labels joined by a bar, for example 'trained|window 1'")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--work", type=Path, default=Path("runs/street-agents"))
    parser.add_argument("--minutes", type=float, default=float("inf"), help="CPU minutes after which no row is begun")
    parser.add_argument("--keep", action="store_true", help="copy the first row's agents to experiments/bundles/street")
    parser.add_argument("--out", type=Path, default=FILE)
    given = parser.parse_args(words)
    seeds = [int(word) for word in given.seeds.split(",")]
    rows = list(ROWS) if given.rows == "all" else given.rows.split("|")
    began = time.process_time()
    found: dict[str, dict[str, Any]] = {suite: {} for suite in SUITES}
    for row in rows:
        if time.process_time() - began > 60 * given.minutes:
            continue
        own = seeds[:1] if row in ONE_SEED else seeds
        folders = [(keep if given.keep and row == MAIN else bundle)(row, seed, given.work) for seed in own]
        for suite in SUITES:
            out = given.work / _name(row) / suite
            found[suite][row] = measure(folders, suite, CONTROLS if row == MAIN else (), out)
            print(row, suite, found[suite][row]["metrics"]["tc"], flush=True)
    for suite in SUITES:
        found[suite][BASELINE] = measure(BASELINE, suite, (), given.work / BASELINE / suite)
    command = f"python -m embodied_mem.experiments.street_agents --rows '{'|'.join(rows)}' --seeds {given.seeds}"
    config = {"preset": PRESET, "seeds": seeds, "rows": {row: ROWS[row] for row in rows}, "command_line": command}
    atomic_write_json(given.out, table(found, config))


if __name__ == "__main__":
    main()
