"""``embodied-mem bench SUBJECT``: speed as a ratio against named peers measured in the same run.

A subject is a function of the registry kind ``bench`` with keyword arguments ``device: str``, ``seconds: float | None``
(about how long one comparison may take, None for its default) and ``quick: bool`` (smallest run that prints every key);
it returns a result of `embodied_mem.results.make_result`.
"""

from __future__ import annotations

from pathlib import Path

import typer

from embodied_mem.cli.output import console, emit
from embodied_mem.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command()
    def bench(
        subject: str = typer.Argument(..., help="What to measure: one of `embodied-mem list benches`."),
        out: Path | None = typer.Option(None, "--out", help="Write the result to this JSON file."),
        as_json: bool = typer.Option(False, "--json", help="Print one JSON value."),
        device: str = typer.Option("auto", "--device", help="auto, cpu, cuda or cuda:N."),
        seconds: float | None = typer.Option(None, "--seconds", help="Time of one comparison; more is steadier."),
        quick: bool = typer.Option(False, "--quick", help="Smallest run that prints every figure; not to be quoted."),
    ) -> None:
        """Measure speed against named peers in the same run."""
        result = run_bench(subject, device=device, seconds=seconds, quick=quick, out=out)
        emit(result, as_json)


def run_bench(
    subject: str,
    *,
    device: str = "auto",
    seconds: float | None = None,
    quick: bool = False,
    out: Path | None = None,
) -> dict[str, object]:
    """Run a bench and return its result, written to ``out`` when given.

    Raises:
        UsageError: no such bench, a device that is not there, a time that is not positive, or an ``out`` that cannot be
            written; nothing is measured then.
    """
    from embodied_mem import registry
    from embodied_mem.devices import resolve_device
    from embodied_mem.files import atomic_write_json, check_target

    run = registry.get("bench", subject)
    if seconds is not None and seconds <= 0:
        raise UsageError(f"expected --seconds > 0, got {seconds}")
    device = resolve_device(device)
    if out is not None:
        check_target(out)
    console.print(f"bench {subject} on {device} ...", markup=False)
    result = dict(run(device=device, seconds=seconds, quick=quick))
    if out is not None:
        result["out"] = str(out)
        atomic_write_json(out, result)
    return result
