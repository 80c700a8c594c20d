"""``embodied-mem score``: metrics of trajectories from any source."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from embodied_mem.cli.output import emit_json, metrics_table, stdout
from embodied_mem.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command()
    def score(
        cases: Path = typer.Argument(..., help="JSON file: {'cases': [{'id', 'kind', 'input', 'expected'?}, ...]}."),
        as_json: bool = typer.Option(False, "--json", help="Print one JSON value on stdout."),
    ) -> None:
        """Score trajectories; where the file says what is expected, compare (exit code 1 on a difference)."""
        result = score_file(cases)
        if as_json:
            emit_json(result)
        else:
            for kind, own in result["metrics"].items():
                stdout.print(metrics_table(kind, own))
            for row in result["cases"]:
                if row.get("passed") is False:
                    stdout.print(f"{row['id']} is not as expected: {_differences(row, result['tolerance'])}")
            if result["failed"] or result["passed"]:
                stdout.print(f"{result['passed']} cases as expected, {result['failed']} not")
        if result["failed"]:
            raise typer.Exit(1)


def score_file(path: Path) -> dict[str, Any]:
    """Return the result object of the command.

    Raises:
        UsageError: the file is missing or malformed, or a case is; it is named by its id or place.
    """
    from embodied_mem.files import read_json
    from embodied_mem.metrics.cases import TOLERANCE, largest_error, score_case

    document = read_json(path)
    listed = document.get("cases") if isinstance(document, dict) else document
    if not isinstance(listed, list) or not listed:
        raise UsageError(f"expected {path} to hold a list of cases, or an object with a list 'cases'; see docs")
    tolerance = document.get("tolerance", TOLERANCE) if isinstance(document, dict) else TOLERANCE
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not tolerance >= 0:
        raise UsageError(f"expected a tolerance >= 0 in {path}, got {tolerance!r}")
    rows: list[dict[str, Any]] = []
    for place, case in enumerate(listed):
        name = case.get("id", place) if isinstance(case, dict) else place
        try:
            found = score_case(case)
        except UsageError as error:
            raise UsageError(f"{path}, case {name!r}: {error}") from error
        if not all(value is None or math.isfinite(value) for value in found.values()):
            raise UsageError(f"{path}, case {name!r}: the input holds figures that are not finite")
        row = {"id": name, "kind": case["kind"], "metrics": found}
        expected = case.get("expected")
        if expected is not None:
            if not isinstance(expected, dict) or not all(_is_figure(item) for item in expected.values()):
                raise UsageError(f"{path}, case {name!r}: expected numbers or null under 'expected'")
            gap = largest_error(found, expected)
            row |= {"expected": expected, "max_error": gap if gap < float("inf") else None, "passed": gap <= tolerance}
        rows.append(row)
    return {
        "command": "score",
        "name": str(path),
        "tolerance": tolerance,
        "cases": rows,
        "metrics": _means(rows),
        "passed": sum(row.get("passed") is True for row in rows),
        "failed": sum(row.get("passed") is False for row in rows),
    }


def _is_figure(value: Any) -> bool:
    return value is None or isinstance(value, int | float)


def _means(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, dict[str, float | int | None]]]:
    """Return, per family and metric, the plain mean over episodes; undefined ones are left out and not counted."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        for name, value in row["metrics"].items():
            kept = found.setdefault(row["kind"], {}).setdefault(name, [])
            if value is not None:
                kept.append(float(value))
    return {
        kind: {name: {"mean": sum(kept) / len(kept) if kept else None, "n": len(kept)} for name, kept in own.items()}
        for kind, own in found.items()
    }


def _differences(row: dict[str, Any], tolerance: float) -> str:
    from embodied_mem.metrics.cases import largest_error

    found, expected = row["metrics"], row["expected"]
    wrong = [name for name in expected if largest_error(found, {name: expected[name]}) > tolerance]
    return ", ".join(f"{name} {found.get(name)} instead of {expected[name]}" for name in wrong)
