"""`atlas`: run what is left of an atlas and write its table. What ``embodied-mem atlas`` calls, for Python.

The folder: atlas.json (plan), cells/*.json (records), work/ (cells that are not done), result.json, result.md and
atlas.html.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from embodied_mem.errors import UsageError
from embodied_mem.experiments.memory_atlas import markdown
from embodied_mem.experiments.memory_atlas.cell import WORK
from embodied_mem.experiments.memory_atlas.plan import PLAN_FILE, make_plan, open_folder, stored_plan, validate
from embodied_mem.experiments.memory_atlas.table import make_table, read_records
from embodied_mem.experiments.memory_atlas.tuning import run_cells
from embodied_mem.files import atomic_write_json, atomic_write_text, remove_empty
from embodied_mem.viewer.atlas.page import render

RESULT_FILE, TABLE_FILE, PAGE_FILE = "result.json", "result.md", "atlas.html"

Watch = Callable[[int, int, str, float | None], None]
"""Called with (cells done, cells asked for, name of the latest, its score), once before the first with no name."""


def atlas(
    preset: str | None = None,
    *,
    memories: Sequence[str] | None = None,
    probes: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    cpu_seconds: float | None = None,
    episodes: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    jobs: int | None = None,
    watch: Watch = lambda done, total, name, score: None,
) -> dict[str, Any]:
    """Run the cells that have no record yet, and return the table as a result object (`table.make_table`).

    Args:
        preset: name or YAML file; None where memories and probes are given, or when resuming.
        memories: registered memories.
        probes: keys of `probes.PROBES`.
        seeds: training seeds, default 0, 1, 2.
        cpu_seconds: budget per cell, default 30.
        episodes: unseen episodes per cell, default 128.
        out: folder; default ``runs/atlas-TIME``.
        resume: go on in ``out``; more memories, probes and seeds may be given. With nothing chosen, all that is left.
        jobs: cells at a time, default one per core.
        watch: told about every cell.

    Raises:
        UsageError: bad input, before anything runs; or cells failed, after the others were run and the table written.
        KeyboardInterrupt: interrupted; finished cells are kept and the table holds them.
    """
    if resume and out is None:
        raise UsageError("expected the folder of the atlas to resume; give --out DIR")
    if jobs is not None and jobs < 1:
        raise UsageError(f"expected --jobs >= 1, got {jobs}")
    folder = Path(out) if out is not None else Path("runs") / f"atlas-{time.strftime('%Y%m%d-%H%M%S')}"
    if resume and (preset is None or (folder / PLAN_FILE).is_file()):
        stored = stored_plan(folder)
        if preset is None:
            memories, probes, seeds = memories or stored.memories, probes or stored.probes, seeds or stored.seeds
            cpu_seconds = stored.cpu_seconds if cpu_seconds is None else cpu_seconds
        episodes = stored.episodes if episodes is None else episodes
    plan = make_plan(preset, memories, probes, seeds, cpu_seconds, episodes)
    validate(plan)
    whole = open_folder(folder, plan, resume)
    left = [cell for cell in plan.cells if not cell.record_file(folder).is_file()]
    total = len(plan.cells)
    watch(total - len(left), total, "", None)
    finished = total - len(left)

    def done(name: str, score: float) -> None:
        nonlocal finished
        finished += 1
        watch(finished, total, name, score)

    errors: list[str] = []
    try:
        if left:
            errors = run_cells(left, plan, folder, jobs or _cores(), done)
    finally:
        remove_empty([folder / WORK])
        records = read_records(folder, whole)
        result = make_table(whole, records, folder)
        atomic_write_json(folder / RESULT_FILE, result)
        atomic_write_text(folder / TABLE_FILE, markdown.render(result))
        atomic_write_text(folder / PAGE_FILE, render(result))
    missing = [cell for cell in left if not cell.record_file(folder).is_file()]
    if errors:
        raise UsageError(
            f"{len(missing)} of {total} cells failed, the others are in {folder} (--resume runs those that are left); "
            f"the first: {errors[0]}"
        )
    if missing:
        raise KeyboardInterrupt
    return result


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, cores or 1)
