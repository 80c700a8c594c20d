"""metrics.jsonl of a run: one row per iteration, none missing, none doubled."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embodied_mem.errors import UsageError
from embodied_mem.files import append_jsonl, atomic_write_text, read_jsonl

METRICS_FILE = "metrics.jsonl"


def append_row(directory: Path, row: Mapping[str, Any]) -> None:
    """Append a row; when the disk is full the file keeps its old length.

    Raises:
        OSError: the row could not be written.
    """
    path = directory / METRICS_FILE
    size = path.stat().st_size if path.exists() else 0
    try:
        append_jsonl(path, row)
    except OSError:
        if path.exists():
            os.truncate(path, min(size, path.stat().st_size))
        raise


def cut_rows(directory: Path, iteration: int) -> list[dict[str, Any]]:
    """Keep the rows up to ``iteration`` (the checkpoint's) and return them; later ones will be made again.

    Raises:
        UsageError: rows up to the checkpoint are missing or doubled.
    """
    path = directory / METRICS_FILE
    rows = read_jsonl(path) if path.exists() else []
    kept = [row for row in rows if row["iteration"] <= iteration]
    if [row["iteration"] for row in kept] != list(range(1, iteration + 1)):
        raise UsageError(f"{path} does not hold the iterations 1 to {iteration} of the checkpoint; start a new run")
    text = "".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[: len(kept)]) if kept else ""
    atomic_write_text(path, text)
    return kept
