"""``embodied-mem record``: demonstrations of an agent as a data set that other tools read."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.table import Table

from embodied_mem.cli.output import counting, emit_json, stdout
from embodied_mem.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command()
    def record(
        what: str = typer.Argument(..., help="A suite (embodied-mem list suites) or a Gymnasium id."),
        episodes: int = typer.Option(..., "--episodes", help="Episodes of the data set, per task."),
        out: Path = typer.Option(..., "--out", help="Folder of the data set (of one per task, with a suite)."),
        form: str = typer.Option("lerobot", "--format", help="lerobot or minari."),
        agent: str | None = typer.Option(None, "--agent", help="Registered agent, or module:attr (default: expert)."),
        checkpoint: Path | None = typer.Option(None, "--checkpoint", help="Folder of a trained agent, instead."),
        failures: str = typer.Option("drop", "--failures", help="drop: successes only; keep: whatever was played."),
        seed: int = typer.Option(0, "--seed", help="Seed of the set of episodes."),
        task: list[str] = typer.Option([], "--task", help="Record these tasks of the suite only; repeatable."),
        split: str | None = typer.Option(None, "--split", help="Split of the suite."),
        env: list[str] = typer.Option([], "--env", help="key=value for every environment; repeatable."),
        per_file: int = typer.Option(10, "--per-file", help="Episodes per file, and what a kill may cost."),
        num_envs: int | None = typer.Option(None, "--num-envs", help="Episodes that step in lockstep."),
        fps: int | None = typer.Option(None, "--fps", help="Steps per second (default: the environment's)."),
        crf: int = typer.Option(10, "--crf", help="Quality of videos, 0 (nearly lossless) to 51."),
        max_steps: int | None = typer.Option(None, "--max-steps", help="Steps after which an episode is cut."),
        instruction: str = typer.Option("", "--instruction", help="What is told where the environment tells nothing."),
        device: str = typer.Option("auto", "--device", help="Where a trained agent runs: auto, cpu, cuda or cuda:i."),
        resume: bool = typer.Option(False, "--resume", help="Continue what --out holds."),
        as_json: bool = typer.Option(False, "--json", help="Print one JSON value on stdout."),
    ) -> None:
        """Record an agent's episodes: instruction, state, pictures, actions, rewards, seeds."""
        from embodied_mem.config import parse_overrides
        from embodied_mem.experiments.recording import record_demonstrations

        if agent is not None and checkpoint is not None:
            raise UsageError("expected --agent or --checkpoint, got both")
        with counting("episodes") as report:
            rows = record_demonstrations(
                what,
                out,
                agent=agent or ("expert" if checkpoint is None else None),
                checkpoint=checkpoint,
                tasks=task or None,
                split=split,
                env_options=parse_overrides(env),
                num_envs=num_envs,
                device=device,
                resume=resume,
                progress=report,
                episodes=episodes,
                format=form,
                failures=failures,
                seed=seed,
                per_file=per_file,
                fps=fps,
                crf=crf,
                max_steps=max_steps,
                instruction=instruction,
            )
        if as_json:
            emit_json({"command": "record", "name": what, "out": str(out), "tasks": rows})
            return
        table = Table("task", "episodes", "played", "failed", "steps", "seconds", "folder")
        for row in rows:
            counts = [str(row[name]) for name in ("episodes", "played", "failed", "steps")]
            table.add_row(row["task"].removeprefix("embodied_mem/"), *counts, f"{row['seconds']:.1f}", row["out"])
        stdout.print(table)
