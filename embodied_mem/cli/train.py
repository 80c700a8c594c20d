"""``embodied-mem train PRESET``: one command from a preset to a trained agent, resumable at any time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from embodied_mem.cli.output import console, emit
from embodied_mem.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command()
    def train(
        preset: str | None = typer.Argument(None, help="Name (`embodied-mem list presets`) or FILE.yaml."),
        overrides: list[str] = typer.Argument(None, help="Settings to change: key.sub=value ..."),
        tune: list[str] = typer.Option([], "--tune", help="key=a,b: one run per value; repeat for a grid."),
        seeds: str | None = typer.Option(None, "--seeds", help="Training seeds, for example 0,1,2."),
        out: Path | None = typer.Option(None, "--out", help="Run folder; default runs/PRESET-TIME."),
        resume: bool = typer.Option(False, "--resume", help="Continue the run in --out after an interruption."),
        device: str | None = typer.Option(None, "--device", help="auto, cpu, cuda or cuda:N."),
        as_json: bool = typer.Option(False, "--json", help="Print one JSON value."),
    ) -> None:
        """Train a memory agent and export it."""
        from embodied_mem.config import parse_overrides
        from embodied_mem.experiments.training import train as run

        words = list(overrides or [])
        if preset is not None and "=" in preset and not Path(preset).exists():
            words.insert(0, preset)
            preset = None
        values = parse_overrides(words)
        if device is not None:
            values["device"] = device
        for name in ("seeds", "out", "resume", "tune", "report", "preset"):
            if name in values:
                raise UsageError(f"{name!r} is an option, not a setting: give it as --{name}")
        with TrainingBar() as bar:
            result = run(
                preset,
                seeds=parse_seeds(seeds),
                out=out,
                resume=resume,
                tune=parse_tune(tune),
                report=bar,
                **values,
            )
        emit(result, as_json)


class TrainingBar:
    """Progress of a run on stderr: share done, steps per second, return, success, time left."""

    def __init__(self) -> None:
        # One line that fits 80 columns, so the common bar's elapsed time and count are left out.
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            console=console,
        )
        self._task: Any = None

    def __enter__(self) -> TrainingBar:
        """Return the bar; it shows with the first seed, so that bad input is one line."""
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the bar as it is."""
        if self._task is not None:
            self._progress.stop()

    def start(self, seed: int, number: int, total: int) -> None:
        """Add a line for a seed."""
        self._progress.start()
        which = f"seed {seed}" + (f" ({number} of {total})" if total > 1 else "")
        self._task = self._progress.add_task(which, total=100, rate="starting")

    def row(self, row: Mapping[str, Any], progress: float) -> None:
        """Advance the line."""
        rate = row["env_steps"] / max(row["seconds"], 1e-9)
        parts = [f"{row['env_steps']:,} steps", f"{rate:,.0f}/s"]
        for label, key in (("return", "return_mean"), ("success", "success_mean")):
            if row.get(key) is not None:
                parts.append(f"{label} {row[key]:.2f}")
        self._progress.update(self._task, completed=round(100 * progress), rate="  ".join(parts))


def parse_seeds(text: str | None) -> list[int] | None:
    """Return the seeds in ``0,1,2``.

    Raises:
        UsageError: a word is no integer.
    """
    if text is None:
        return None
    try:
        return [int(word) for word in text.split(",")]
    except ValueError as error:
        raise UsageError(f"expected seeds such as 0,1,2, got {text!r}") from error


def parse_tune(words: list[str]) -> dict[str, list[Any]]:
    """Return the values to try per key from ``["lr=1e-4,3e-4"]``.

    Raises:
        UsageError: a word has no key or no values.
    """
    from embodied_mem.config import parse_value

    found: dict[str, list[Any]] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key or not text:
            raise UsageError(f"expected --tune key=a,b, got {word!r}")
        found[key] = [parse_value(item) for item in text.split(",")]
    return found
