"""A whole run: its folder, its seeds one after another, its result."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from embodied_mem import registry
from embodied_mem._version import __version__
from embodied_mem.config import from_dict, to_dict
from embodied_mem.devices import resolve_device
from embodied_mem.envs.make import check_options, make_vec
from embodied_mem.errors import UsageError
from embodied_mem.files import atomic_write_json, read_json
from embodied_mem.policies.rllib.config import check
from embodied_mem.policies.training.config import RunConfig
from embodied_mem.policies.training.interrupts import Interrupts
from embodied_mem.policies.training.ray_session import ray_session
from embodied_mem.policies.training.records import METRICS_FILE
from embodied_mem.policies.training.seed_run import RESULT_FILE, run_seed
from embodied_mem.results import make_result, metric

C = TypeVar("C")

RUN_FILE = "run.json"
# Settings that may differ when a run is resumed: they change when it ends and what it writes, not what it learns.
RESUMABLE = ("stop", "checkpoint", "log", "ray_address", "acting", "workers")


class Report(Protocol):
    """Watches a run; the command line draws a progress bar."""

    def start(self, seed: int, number: int, total: int) -> None:
        """A seed begins, the ``number``-th of ``total``."""

    def row(self, row: Mapping[str, Any], progress: float) -> None:
        """A row was written; ``progress`` in [0, 1] is the share of this seed that is done."""


class Silent:
    """A report that shows nothing."""

    def start(self, seed: int, number: int, total: int) -> None:
        """Ignore it."""

    def row(self, row: Mapping[str, Any], progress: float) -> None:
        """Ignore it."""


def train_run(
    config: RunConfig,
    name: str,
    out: str | Path,
    *,
    seeds: Sequence[int] = (0,),
    resume: bool = False,
    report: Report | None = None,
) -> dict[str, Any]:
    """Train every seed, one after another, and return the result object of `results.make_result`.

    Args:
        config: of the run.
        name: of the run (preset).
        out: run folder: ``run.json``, ``seed{S}/`` per seed and ``result.json``.
        seeds: distinct integers; a resumed run trains these beside the ones it was started with.
        resume: continue an interrupted run in ``out``; finished seeds are kept, an empty or new folder starts afresh.
        report: watches the run.

    Raises:
        UsageError: the settings do not fit, ``out`` holds a run already, or it holds another one than is resumed.
        OSError: the disk is full or not writable; what is complete stays, nothing half-written is left.
        KeyboardInterrupt: interrupted; a checkpoint was written.
    """
    out, report = Path(out), report or Silent()
    check_seeds(seeds)
    validate(config)
    fresh = not out.exists()
    seeds = prepare(out, config, seeds, resume)
    write_run(out, config, name, seeds)
    started = time.monotonic()
    results = []
    try:
        with Interrupts() as interrupts, ray_session(config.ray_address, config.train):
            for number, seed in enumerate(seeds, start=1):
                report.start(seed, number, len(seeds))
                results.append(
                    run_seed(
                        config,
                        name,
                        seed,
                        out / f"seed{seed}",
                        resume=resume,
                        interrupted=lambda: interrupts.requested,
                        report=report.row,
                    )
                )
    except BaseException:
        # A run that failed before its first row left nothing worth keeping.
        if fresh and not any(path.stat().st_size for path in out.glob(f"seed*/{METRICS_FILE}")):
            shutil.rmtree(out, ignore_errors=True)
        raise
    result = summarize(config, name, out, results, time.monotonic() - started)
    atomic_write_json(out / RESULT_FILE, result)
    return result


def validate(config: RunConfig) -> None:
    """Check everything a run needs before Ray starts: settings, environment and its options, memory, encoders.

    Raises:
        UsageError: something does not fit; the message says what to change.
    """
    train = config.train
    check(train)
    resolve_device(train.device)
    registry.get("algorithm", train.algorithm)
    check_options(train.env, train.env_config)
    env = make_vec(train.env, 1, **train.env_config)
    try:
        train.make_agent(env.single_observation_space, env.single_action_space)
    finally:
        env.close()


def summarize(
    config: Any, name: str, out: Path, results: Sequence[Mapping[str, Any]], seconds: float
) -> dict[str, Any]:
    """Return the result object of a run from the results of its seeds; intervals span the lowest to the highest."""
    metrics = {}
    for key in ("return_mean", "success_mean", "length_mean", "cpu_seconds", "seconds", "env_steps"):
        values = [float(result[key]) for result in results if result.get(key) is not None]
        if values:
            metrics[key] = metric(sum(values) / len(values), min(values), max(values), len(values), "range_over_seeds")
    if "success_mean" in metrics:
        metrics["success"] = metrics["success_mean"]
    return make_result(
        "train",
        name,
        to_dict(config),
        metrics,
        seeds=[int(result["seed"]) for result in results],
        episodes=sum(int(result.get("episodes") or 0) for result in results),
        seconds=seconds,
        env_steps=sum(int(result.get("env_steps") or 0) for result in results),
        out=out,
        notes=[f"seed {result['seed']} ended by {result['reason']}" for result in results],
    )


def write_run(out: Path, config: Any, name: str, seeds: Sequence[int]) -> None:
    """Write what is run into ``out``, before anything else: a resumed run knows from it which seeds are left.

    Raises:
        OSError: the folder cannot be written.
    """
    values = {"name": name, "version": __version__, "seeds": list(seeds), "config": to_dict(config)}
    atomic_write_json(out / RUN_FILE, values)


def stored_algorithm(out: str | Path) -> str | None:
    """Return the algorithm of the run in ``out``, which tells the kind of its configuration; None if there is none."""
    path = Path(out) / RUN_FILE
    stored = read_json(path) if path.is_file() else {}
    train = stored.get("config", {}).get("train", {}) if isinstance(stored, dict) else {}
    return train.get("algorithm") if isinstance(train, dict) else None


def stored_config(out: str | Path, kind: type[C]) -> tuple[str, C, list[int]]:
    """Return name, configuration (of class ``kind``) and seeds of the run in ``out``.

    Raises:
        UsageError: there is none.
    """
    path = Path(out) / RUN_FILE
    if not path.is_file():
        raise UsageError(f"nothing to resume in {out}: expected {RUN_FILE}; give the folder of a run")
    stored = read_json(path)
    try:
        return stored["name"], from_dict(kind, stored["config"]), [int(seed) for seed in stored["seeds"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is no configuration of a run ({error!r})") from error


def check_seeds(seeds: Sequence[int]) -> None:
    """Check the seeds of a run.

    Raises:
        UsageError: there is none, one is negative, or one is doubled.
    """
    if not seeds or len(set(seeds)) != len(seeds) or any(seed < 0 for seed in seeds):
        raise UsageError(f"expected distinct seeds of at least 0, got {list(seeds)}")


def prepare(out: Path, config: C, seeds: Sequence[int], resume: bool) -> list[int]:
    """Check that the run may be written to ``out`` and return all its seeds: those it has and those it gets."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"expected a folder at {out}, found a file")
    if not (out / RUN_FILE).is_file():
        if out.exists() and any(out.iterdir()):
            what = "nothing to resume in" if resume else "other files are in"
            raise UsageError(f"{what} {out}: expected the folder of a run, or an empty or new one")
        return list(seeds)
    if not resume:
        raise UsageError(f"{out} holds a run already; continue it with --resume or give another --out")
    _, before, known = stored_config(out, type(config))
    stored, wanted = to_dict(before), to_dict(config)
    for values in (stored, wanted):
        values["train"].pop("seed")
    changed = [
        f"{group}.{key}" if group == "train" else group
        for group in wanted
        if group not in RESUMABLE
        for key in (wanted[group] if isinstance(wanted[group], dict) else [""])
        if stored.get(group) != wanted[group]
        and (not isinstance(wanted[group], dict) or stored[group].get(key) != wanted[group][key])
    ]
    if changed:
        raise UsageError(f"{out} holds a run with other settings ({', '.join(changed)}); resume it without overrides")
    return [*known, *(seed for seed in seeds if seed not in known)]
