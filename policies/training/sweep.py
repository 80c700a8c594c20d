"""Sweeps: every combination of values and seeds as one Ray Tune trial, each with a run folder of its own.

``OUT/lr=0.0001,agent.memory=gru/`` is an ordinary run folder per combination; ``OUT/result.json`` compares them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from embodied_mem.config import from_dict, to_dict
from embodied_mem.errors import UsageError
from embodied_mem.files import atomic_write_json
from embodied_mem.policies.training.config import RunConfig, apply_overrides
from embodied_mem.policies.training.ray_session import quiet_ray, ray_session
from embodied_mem.policies.training.run import Report, Silent, check_seeds, summarize, validate, write_run
from embodied_mem.policies.training.seed_run import RESULT_FILE, run_seed
from embodied_mem.results import make_result

SCORES = ("success_mean", "return_mean")


def sweep(
    config: RunConfig,
    name: str,
    out: str | Path,
    tune: Mapping[str, Sequence[Any]],
    *,
    seeds: Sequence[int] = (0,),
    report: Report | None = None,
) -> dict[str, Any]:
    """Run every combination of ``tune`` with every seed and return a result that compares them.

    As many trials run at a time as there are cores. ``metrics`` of the result are those of the best combination (by
    success, then by return); ``tasks`` holds all combinations.

    Args:
        config: what the combinations have in common.
        name: of the run (preset).
        out: folder of the sweep; must not hold another one.
        tune: values per flat key.
        seeds: training seeds of every combination.
        report: told about every finished trial.

    Raises:
        UsageError: a key or value does not fit (all are checked before the first trial), or a trial failed; the
            combinations that were finished keep their folders with their results.
    """
    out, report = Path(out), report or Silent()
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty; give another --out for the sweep")
    check_seeds(seeds)
    values = [dict(zip(tune, combination)) for combination in itertools.product(*tune.values())]
    runs = {label(item): apply_overrides(config, item) for item in values}
    for item in runs.values():
        validate(item)
    for key, item in runs.items():
        write_run(out / key, item, name, seeds)
    started = time.monotonic()
    trials = [
        {"config": to_dict(item), "name": name, "seed": seed, "directory": str((out / key / f"seed{seed}").resolve())}
        for key, item in runs.items()
        for seed in seeds
    ]
    cores = max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    with ray_session(config.ray_address, config.train, concurrent=min(cores, len(trials))):
        found, errors = _tune(trials, config, out, cores, report)
    summaries = {}
    for key, item in runs.items():
        folders = [str((out / key / f"seed{seed}").resolve()) for seed in seeds]
        if any(folder not in found for folder in folders):
            continue
        results = [found[folder] for folder in folders]
        summaries[key] = summarize(item, name, out / key, results, sum(r.get("seconds") or 0.0 for r in results))
        atomic_write_json(out / key / RESULT_FILE, summaries[key])
    if errors:
        kept = f"; {len(summaries)} combinations are complete in {out}" if summaries else ""
        raise UsageError(f"{len(errors)} of {len(trials)} trials failed{kept}; the first: {_last_line(errors[0])}")
    best = max(summaries, key=lambda key: _score(summaries[key]))
    result = make_result(
        "train",
        f"{name} sweep",
        summaries[best]["config"],
        summaries[best]["metrics"],
        seeds=list(seeds),
        episodes=sum(item["episodes"] for item in summaries.values()),
        tasks={
            key: {"metrics": item["metrics"], "controls": {}, "episodes": item["episodes"]}
            for key, item in summaries.items()
        },
        seconds=time.monotonic() - started,
        env_steps=sum(item["env_steps"] for item in summaries.values()),
        out=out,
        notes=[f"best: {best}"],
    )
    atomic_write_json(out / RESULT_FILE, result)
    return result


def label(values: Mapping[str, Any]) -> str:
    """Return the folder name of a combination, for example ``lr=0.0001,agent.memory=gru``."""
    return ",".join(f"{key}={value}" for key, value in values.items()).replace("/", "_")


def _tune(
    trials: Sequence[Mapping[str, Any]], config: RunConfig, out: Path, cores: int, report: Report
) -> tuple[dict[str, dict[str, Any]], list[Exception]]:
    """Run the trials with Ray Tune; return the result of each finished one by its folder, and what went wrong."""
    from ray import tune

    actors = config.train.num_env_runners + config.train.num_learners
    resources = tune.PlacementGroupFactory([{"CPU": 1.0}] * (1 + actors))
    tuner = tune.Tuner(
        tune.with_resources(_trial, resources),
        param_space={"trial": tune.grid_search(list(trials))},
        tune_config=tune.TuneConfig(max_concurrent_trials=cores, trial_dirname_creator=lambda trial: trial.trial_id),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(out.resolve()),
            verbose=0,
            callbacks=[_watcher(report, len(trials))],
            failure_config=tune.FailureConfig(max_failures=0),
        ),
    )
    # Tune prints tables on stdout, which belongs to the result.
    with contextlib.redirect_stdout(sys.stderr):
        grid = tuner.fit()
    shutil.rmtree(out / "tune", ignore_errors=True)
    metrics = [grid[index].metrics or {} for index in range(len(grid))]
    return {item["directory"]: item["final"] for item in metrics if "final" in item}, list(grid.errors)


def _trial(values: Mapping[str, Any]) -> None:
    """Train one seed inside a Tune trial; every row is reported, the result last."""
    from ray import tune

    quiet_ray()
    trial = values["trial"]
    where = Path(trial["directory"])
    final = run_seed(
        from_dict(RunConfig, trial["config"]),
        trial["name"],
        trial["seed"],
        where,
        report=lambda row, progress: tune.report({**row, "progress": progress, "directory": str(where)}),
    )
    tune.report({"directory": str(where), "progress": 1.0, "final": final, **final})


def _watcher(report: Report, total: int) -> Any:
    """Return a Tune callback that tells ``report`` how many trials have ended."""
    from ray.tune import Callback

    class Watcher(Callback):
        watching: tuple[Report, int]
        ended = 0

        def __getstate__(self) -> dict[str, Any]:
            # Tune stores its callbacks; a progress bar cannot be stored.
            return {}

        def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            self.ended += 1
            told, all_trials = self.watching
            row = trial.last_result
            told.start(int(row["seed"]), self.ended, all_trials)
            told.row(row, 1.0)

    watcher = Watcher()
    watcher.watching = (report, total)
    return watcher


def _score(summary: Mapping[str, Any]) -> tuple[float, ...]:
    found = [summary["metrics"].get(key, {}).get("mean") for key in SCORES]
    return tuple(float("-inf") if value is None else value for value in found)


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else repr(error)
