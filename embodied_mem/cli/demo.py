"""``embodied-mem demo``: train a memory agent and its memoryless twin, evaluate with controls, write a report.

The two trainings run side by side, one process and one core each; then the memory agent is played on assigned episodes
beside its controls. Every phase prints how long it took.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from embodied_mem.cli.output import console, emit_json, progress, stdout
from embodied_mem.data import VARIABLE, data_folder
from embodied_mem.errors import UsageError

PRESET = "house-hide-and-recall-0"
SUITE = "house-hide-and-recall"
TASK = "level-0"
WIPE = "wiped:5"
PROCTHOR = "procthor/houses_sample.jsonl.gz"
TWINS = ("memory", "none")


@dataclass(frozen=True)
class Phase:
    """One phase and its wall seconds."""

    name: str
    seconds: float


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command()
    def demo(
        out: Path = typer.Option(Path("runs/demo"), "--out", help="Folder to write."),
        seconds: int = typer.Option(270, "--seconds", min=1, help="Most wall seconds of training."),
        episodes: int = typer.Option(256, "--episodes", min=8, help="Episodes per condition."),
        seed: int = typer.Option(0, "--seed", min=0, help="Training seed."),
        as_json: bool = typer.Option(False, "--json", help="Print the evaluation result as one JSON value."),
    ) -> None:
        """Train a memory agent in the House, compare it with its controls, write an HTML report."""
        from embodied_mem.evaluation import evaluate
        from embodied_mem.viewer.report import write_report

        if out.exists() and any(out.iterdir()):
            out = _beside(out)
        phases: list[Phase] = []
        houses = _procthor_options()
        with _timed("train the memory agent and its twin without memory", phases):
            _train_twins(out, seconds, seed, houses)
        with _timed(f"evaluate {episodes} episodes of each of 5 conditions", phases):
            with progress() as bar:
                line = bar.add_task("evaluate", total=None, rate="")
                result = evaluate(
                    [out / "memory"],
                    SUITE,
                    none=[out / "none"],
                    tasks=[TASK],
                    env_options=houses,
                    episodes=episodes,
                    seeds=[seed],
                    controls=["none", WIPE, "shuffled", "oracle"],
                    out=out / "eval",
                    progress=lambda done, total, label: bar.update(
                        line, completed=done, total=total, description=label
                    ),
                )
        with _timed("write the report", phases):
            report = write_report(out)
        _print(result, phases, report, as_json)


def _train_twins(out: Path, seconds: int, seed: int, houses: dict[str, Any]) -> None:
    """Train both agents at once and show how far they are; an agent that fails stops the other.

    Raises:
        UsageError: a training ended with an error; the last line of its log is in the message.
    """
    out.mkdir(parents=True, exist_ok=True)
    extra = {"memory": [], "none": ["agent.memory=none"]}
    runs: dict[str, subprocess.Popen[bytes]] = {}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    try:
        for name in TWINS:
            words = [sys.executable, "-m", "embodied_mem.cli.app", "train", PRESET, f"stop.seconds={seconds}"]
            words += [f"env_config.{key}={value}" for key, value in houses.items()]
            words += [*extra[name], "--seeds", str(seed), "--out", str(out / name), "--json"]
            with open(out / f"{name}.log", "wb") as log:
                runs[name] = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=log, env=environment)
        with progress() as bar:
            lines = {name: bar.add_task(f"train {name:6}", total=seconds, rate="starting") for name in TWINS}
            while any(run.poll() is None for run in runs.values()):
                for name, line in lines.items():
                    row = _last_row(out / name / f"seed{seed}" / "metrics.jsonl")
                    if row is not None:
                        text = f"{row['env_steps']:,} steps  success {row.get('success_mean') or 0:.2f}"
                        done = seconds if runs[name].poll() is not None else min(int(row["seconds"]), seconds)
                        bar.update(line, completed=done, rate=text)
                failed = [name for name, run in runs.items() if run.poll() not in (None, 0)]
                if failed:
                    break
                time.sleep(1.0)
        for name, run in runs.items():
            if run.poll() not in (None, 0):
                raise UsageError(f"training {name!r} failed: {_last_line(out / f'{name}.log')}")
    finally:
        for run in runs.values():
            if run.poll() is None:
                run.terminate()
                run.wait()


def _last_row(path: Path) -> dict[str, Any] | None:
    from embodied_mem.files import read_jsonl

    rows = read_jsonl(path) if path.is_file() else []
    return rows[-1] if rows else None


def _last_line(path: Path) -> str:
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else f"see {path}"


def _procthor_options() -> dict[str, Any]:
    """Return the options that put one ProcTHOR plan among the houses, where the data folder has the sample."""
    folder = data_folder()
    if folder is None or not (folder / PROCTHOR).is_file():
        console.print(f"no ProcTHOR houses ({VARIABLE} names none): generated houses only", highlight=False)
        return {}
    return {"procthor": str(folder / PROCTHOR), "procthor_houses": 1}


def _beside(out: Path) -> Path:
    number = 2
    while out.with_name(f"{out.name}-{number}").exists():
        number += 1
    return out.with_name(f"{out.name}-{number}")


@contextmanager
def _timed(name: str, phases: list[Phase]) -> Iterator[None]:
    console.print(f"[bold]{name}[/bold]", highlight=False)
    started = time.monotonic()
    yield
    phases.append(Phase(name, time.monotonic() - started))


def _print(result: dict[str, Any], phases: list[Phase], report: Path, as_json: bool) -> None:
    from embodied_mem.cli.eval import comparisons

    for phase in phases:
        console.print(f"{phase.seconds:6.0f} s  {phase.name}", highlight=False)
    if as_json:
        emit_json(
            {**result, "phases": {phase.name: round(phase.seconds, 1) for phase in phases}, "report": str(report)}
        )
        return
    for table in comparisons(result):
        stdout.print(table)
    stdout.print(f"report: {report}", markup=False, soft_wrap=True)
