"""The cells of an atlas as trials of Ray Tune: as many at a time as asked for, each in a process of its own."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from embodied_mem.experiments.memory_atlas.cell import Cell, cell_config, run_cell
from embodied_mem.experiments.memory_atlas.plan import Plan
from embodied_mem.experiments.memory_atlas.probes import find
from embodied_mem.policies.training.ray_session import quiet_ray, ray_session

Progress = Callable[[str, float], None]


def run_cells(cells: Sequence[Cell], plan: Plan, out: Path, jobs: int, done: Progress) -> list[str]:
    """Run the cells, which write their records themselves; return what went wrong, a line per failed cell.

    Args:
        cells: those to run.
        plan: says budget and episodes.
        out: folder of the atlas.
        jobs: cells at a time.
        done: told name and score of every cell that ended.
    """
    example = cell_config(cells[0].memory, find(cells[0].probe), plan.cpu_seconds).train
    jobs = min(jobs, len(cells))
    with ray_session("local", example, concurrent=jobs):
        from ray import tune

        trials = [
            {"cell": [cell.memory, cell.probe, cell.seed], "out": str(out.resolve())}
            | {"cpu_seconds": plan.cpu_seconds, "episodes": plan.episodes}
            for cell in cells
        ]
        tuner = tune.Tuner(
            tune.with_resources(_trial, {"CPU": 1.0}),
            param_space={"trial": tune.grid_search(trials)},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=jobs,
                trial_dirname_creator=lambda trial: trial.trial_id,
                # The next cell finds everything imported.
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(out.resolve()),
                verbose=0,
                callbacks=[_watcher(done)],
                failure_config=tune.FailureConfig(max_failures=0),
            ),
        )
        # Tune prints tables on stdout, which belongs to the result.
        with contextlib.redirect_stdout(sys.stderr):
            grid = tuner.fit()
        shutil.rmtree(out / "tune", ignore_errors=True)
    return [_last_line(error) for error in grid.errors]


def _trial(values: Mapping[str, Any]) -> None:
    """Run one cell inside a Tune trial."""
    from ray import tune

    quiet_ray()
    trial = values["trial"]
    memory, probe, seed = trial["cell"]
    cell = Cell(memory, probe, int(seed))
    record = run_cell(cell, Path(trial["out"]), trial["cpu_seconds"], trial["episodes"])
    tune.report({"name": cell.name, "score": record["score"]})


def _watcher(done: Progress) -> Any:
    """Return a Tune callback that passes name and score of every finished cell on."""
    from ray.tune import Callback

    class Watcher(Callback):
        told: tuple[Progress]

        def __getstate__(self) -> dict[str, Any]:
            # Tune stores its callbacks; a progress bar cannot be stored.
            return {}

        def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            row = trial.last_result
            self.told[0](str(row["name"]), float(row["score"]))

    watcher = Watcher()
    watcher.told = (done,)
    return watcher


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else repr(error)
