"""``embodied-mem atlas``: train memories on probes under one CPU budget and show what each can do.

A command of its own, not a subject of ``bench``: a bench is one uninterrupted measurement without choices, an atlas is
a grid that is chosen, run in parallel, resumed and extended in a folder.
"""

from __future__ import annotations

from pathlib import Path

import typer

from embodied_mem.cli.output import console, emit_json, progress, stdout
from embodied_mem.cli.train import parse_seeds


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command()
    def atlas(
        preset: str | None = typer.Argument(None, help="One of `embodied-mem list atlas-presets`, or FILE.yaml."),
        memories: str | None = typer.Option(None, "--memories", help="Memories: a,b (`list memories`)."),
        probes: str | None = typer.Option(None, "--probes", help="Probes: x,y (`list atlas-probes`)."),
        seeds: str | None = typer.Option(None, "--seeds", help="Training seeds; default 0,1,2."),
        cpu_seconds: float | None = typer.Option(None, "--cpu-seconds", help="Training of one cell; default 30."),
        episodes: int | None = typer.Option(None, "--episodes", help="Unseen episodes per cell; default 128."),
        jobs: int | None = typer.Option(None, "--jobs", help="Cells at a time; default one per core."),
        out: Path | None = typer.Option(None, "--out", help="Folder; default runs/atlas-TIME."),
        resume: bool = typer.Option(False, "--resume", help="Go on in --out; finished cells are kept."),
        as_json: bool = typer.Option(False, "--json", help="Print one JSON value."),
    ) -> None:
        """Show what each memory can do: memories x probes x seeds, as a table and an HTML page."""
        from embodied_mem.experiments.memory_atlas.run import PAGE_FILE, TABLE_FILE
        from embodied_mem.experiments.memory_atlas.run import atlas as run

        with progress() as bar:
            task = None

            def watch(done: int, total: int, name: str, score: float | None) -> None:
                nonlocal task
                if task is None:
                    task = bar.add_task("atlas", total=total, rate="")
                bar.update(task, completed=done, rate="" if score is None else f"{name} {score:.2f}")

            result = run(
                preset,
                memories=_names(memories),
                probes=_names(probes),
                seeds=parse_seeds(seeds),
                cpu_seconds=cpu_seconds,
                episodes=episodes,
                out=out,
                resume=resume,
                jobs=jobs,
                watch=watch,
            )
        folder = Path(result["out"])
        console.print(f"the page is {folder / PAGE_FILE}", markup=False, highlight=False, soft_wrap=True)
        if as_json:
            emit_json(result)
        else:
            stdout.print(
                (folder / TABLE_FILE).read_text(encoding="utf-8"), markup=False, highlight=False, soft_wrap=True
            )


def _names(text: str | None) -> list[str] | None:
    """Return the names in ``a,b``."""
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]
