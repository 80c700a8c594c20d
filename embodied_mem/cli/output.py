"""What the command line prints: one JSON value or a readable table on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

console = Console(stderr=True)
stdout = Console()


def emit_json(value: Any) -> None:
    """Print exactly one JSON value on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")
    sys.stdout.flush()


def emit(result: Mapping[str, Any], as_json: bool) -> None:
    """Print a result of `results.make_result`: as JSON, or as tables of metrics and controls."""
    if as_json:
        emit_json(result)
        return
    stdout.print(metrics_table(str(result["name"]), result["metrics"]))
    for name, metrics in result.get("controls", {}).items():
        if isinstance(metrics, Mapping) and all(isinstance(item, Mapping) for item in metrics.values()):
            stdout.print(metrics_table(f"control: {name}", metrics))
        else:
            stdout.print(f"control {name}: {metrics}")
    for note in result.get("notes", ()):
        stdout.print(f"note: {note}", markup=False)
    if result.get("out"):
        stdout.print(f"written to {result['out']}", markup=False)


def metrics_table(title: str, metrics: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return a table with one row per metric: mean, interval, n."""
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    table.add_column("mean", justify="right")
    table.add_column("interval", justify="right")
    table.add_column("n", justify="right")
    for name, item in metrics.items():
        low, high = item.get("low"), item.get("high")
        interval = "" if low is None or high is None else f"[{_number(low)}, {_number(high)}]"
        table.add_row(name, _number(item.get("mean")), escape(interval), str(item.get("n") or ""))
    return table


def emit_rows(rows: Sequence[Mapping[str, Any]], as_json: bool, title: str = "") -> None:
    """Print a list of records: one JSON array, or a table with the keys of the first record as columns."""
    if as_json:
        emit_json(list(rows))
        return
    table = Table(title=title or None, title_justify="left")
    columns = list(rows[0]) if rows else ["name"]
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    stdout.print(table)


def progress() -> Progress:
    """Return a rich progress bar on stderr with count, elapsed time, rate field and time left.

    Add tasks with ``progress.add_task(name, total=n, rate="")`` and set ``rate`` as you go.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=False,
    )


@contextmanager
def counting(unit: str) -> Iterator[Callable[[int, int, str], None]]:
    """Yield a function of (done, all, label); its first call draws a bar with rate and time left on stderr.

    Args:
        unit: what is counted, for the rate.
    """
    bar, handle, started, first = progress(), None, 0.0, 0

    def report(done: int, total: int, label: str) -> None:
        nonlocal handle, started, first
        if handle is None:
            started, first = time.monotonic(), done
            bar.start()
            handle = bar.add_task(label, total=total, rate="")
        rate = (done - first) / max(time.monotonic() - started, 1e-6)
        bar.update(handle, completed=done, total=total, description=label, rate=f"{rate:.1f} {unit}/s")

    try:
        yield report
    finally:
        if handle is not None:
            bar.stop()


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _cell(value: Any) -> str:
    if isinstance(value, list | tuple):
        return escape(", ".join(str(item) for item in value))
    if isinstance(value, Mapping):
        return escape(", ".join(f"{name} {item}" for name, item in value.items()))
    return "-" if value is None else escape(str(value))
