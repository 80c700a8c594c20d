"""A whole imitation run: demonstrations, its seeds one after another, its result."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embodied_mem.demonstrations import Episode
from embodied_mem.envs.make import check_options
from embodied_mem.files import atomic_write_json
from embodied_mem.policies.imitation.trainer import ImitationSeed
from embodied_mem.policies.imitation.workers import train_in_workers
from embodied_mem.policies.training.interrupts import Interrupts
from embodied_mem.policies.training.records import METRICS_FILE
from embodied_mem.policies.training.run import Report, Silent, check_seeds, prepare, summarize, write_run
from embodied_mem.policies.training.seed_run import RESULT_FILE, finished_result


def train_imitation(
    config: Any,
    name: str,
    out: str | Path,
    *,
    seeds: Sequence[int] = (0,),
    resume: bool = False,
    report: Report | None = None,
    episodes: Sequence[Episode] | None = None,
    kind: type[ImitationSeed] = ImitationSeed,
) -> dict[str, Any]:
    """Train every seed, one after another, and return the result object of `results.make_result`.

    Args:
        config: of the run: `ImitationRunConfig`, or what ``kind`` takes.
        name: of the run (preset).
        out: run folder: ``run.json``, ``demonstrations-*.npz``, ``seed{S}/`` per seed and ``result.json``.
        seeds: distinct integers; a resumed run trains these beside the ones it was started with.
        resume: continue an interrupted run in ``out``; finished seeds are kept, an empty or new folder starts afresh.
        report: watches the run.
        episodes: demonstrations from elsewhere; None lets the environment's expert make them.
        kind: what a seed is: the policy, its demonstrations and its loss.

    Raises:
        UsageError: the settings do not fit, or ``out`` holds another run.
        OSError: the disk is full or not writable.
        KeyboardInterrupt: interrupted; a checkpoint was written.
    """
    out, report = Path(out), report or Silent()
    check_seeds(seeds)
    check_options(config.train.env, config.train.env_config)
    kind.check(config)
    fresh = not out.exists()
    seeds = prepare(out, config, seeds, resume)
    write_run(out, config, name, seeds)
    started, results = time.monotonic(), []
    try:
        with Interrupts() as interrupts:
            shown = episodes
            for number, seed in enumerate(seeds, start=1):
                report.start(seed, number, len(seeds))
                folder = out / f"seed{seed}"
                finished = finished_result(folder, config, resume)
                if finished is not None:
                    results.append(finished)
                    continue
                if shown is None:
                    shown = kind.gather(config, out)
                if getattr(config, "workers", 1) > 1:
                    results.append(
                        train_in_workers(
                            kind, config, name, seed, folder, shown, resume=resume, report=report, interrupts=interrupts
                        )
                    )
                    continue
                run = kind(config, name, seed, folder, shown, resume=resume)
                try:
                    while not run.done:
                        report.row(run.iterate(), run.progress)
                        if interrupts.requested and not run.done:
                            run.save()
                            raise KeyboardInterrupt
                    results.append(run.finish())
                finally:
                    run.close()
    except BaseException:
        # A run that failed before its first row left nothing worth keeping.
        if fresh and not any(path.stat().st_size for path in out.glob(f"seed*/{METRICS_FILE}")):
            shutil.rmtree(out, ignore_errors=True)
        raise
    result = summarize(config, name, out, results, time.monotonic() - started)
    atomic_write_json(out / RESULT_FILE, result)
    return result
