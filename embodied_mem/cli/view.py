"""``embodied-mem view``: an HTML report of a run, or a recording for rerun."""

from __future__ import annotations

from pathlib import Path

import typer

from embodied_mem.cli.output import emit_json, stdout


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command()
    def view(
        run_dir: Path = typer.Argument(..., help="Folder of a training run, an evaluation, or several of them."),
        out: Path | None = typer.Option(
            None, "--out", help="File to write (default: report.html or .rrd in the folder)."
        ),
        rerun: bool = typer.Option(False, "--rerun", help="Write a recording for the rerun viewer instead."),
        as_json: bool = typer.Option(False, "--json", help="Print one JSON value on stdout."),
    ) -> None:
        """Write one self-contained HTML page about a run: curves, scores beside controls, episodes."""
        from embodied_mem.viewer.report import write_report
        from embodied_mem.viewer.rerun_export import write_recording

        path = write_recording(run_dir, out) if rerun else write_report(run_dir, out)
        if as_json:
            emit_json({"command": "view", "out": str(path), "bytes": path.stat().st_size})
        else:
            stdout.print(f"written to {path}", markup=False, highlight=False, soft_wrap=True)
