"""One seed learned by several processes: Ray Train starts them, on a GPU each where the run computes on GPUs.

Each process runs `ImitationSeed` on its rows of every batch (`peers`); the batch of an update, its draws and the step
that is made do not depend on how many there are, but for rounding. The first process writes the files of the run, so
they look as those of a single one, and a run may be resumed with another number of workers.

Limits: every process holds all demonstrations; gradients are sent after the backward pass, not during it; memories or
encoders that draw by themselves (dropout) draw in each process as they would alone. On several machines the run folder
must be on a file system that all see.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from embodied_mem.config import from_dict, to_dict
from embodied_mem.devices import resolve_device
from embodied_mem.errors import UsageError
from embodied_mem.files import read_json, read_jsonl
from embodied_mem.policies.imitation.peers import TorchPeers, agree
from embodied_mem.policies.imitation.trainer import ImitationSeed, share_done
from embodied_mem.policies.training.interrupts import Interrupts
from embodied_mem.policies.training.ray_session import quiet_ray, ray_for
from embodied_mem.policies.training.records import METRICS_FILE
from embodied_mem.policies.training.run import Report
from embodied_mem.policies.training.seed_run import RESULT_FILE

STOP_FILE = "stop"
"""In the folder of a seed: asks its workers to write a checkpoint and end."""
_FOLDER = "ray"
_LOOK_SECONDS = 0.5


def train_in_workers(
    kind: type[ImitationSeed],
    config: Any,
    name: str,
    seed: int,
    directory: Path,
    episodes: Any,
    *,
    resume: bool,
    report: Report,
    interrupts: Interrupts,
) -> dict[str, Any]:
    """Train one seed with ``config.workers`` processes and return its result.

    Args:
        kind: what a seed is.
        config: of the run.
        name: of the run.
        seed: of this part.
        directory: folder of this seed.
        episodes: demonstrations.
        resume: go on from the newest checkpoint.
        report: told about every row.
        interrupts: asked while the workers learn.

    Raises:
        UsageError: there are fewer GPUs than workers, or a worker failed.
        KeyboardInterrupt: interrupted; a checkpoint was written.
    """
    gpus = resolve_device(config.train.device) == "cuda"
    if gpus and config.ray_address == "local":
        _check_gpus(config.workers)
    directory.mkdir(parents=True, exist_ok=True)
    for old in (STOP_FILE, RESULT_FILE):
        (directory / old).unlink(missing_ok=True)
    shutil.rmtree(directory / _FOLDER, ignore_errors=True)
    if not resume:
        # rows of an earlier attempt must not be reported as new ones
        (directory / METRICS_FILE).unlink(missing_ok=True)
    seen = len(_rows(directory))
    failed: list[BaseException] = []
    with ray_for(config.ray_address, config.workers + 1):
        work = {"kind": kind, "config": to_dict(config), "as": type(config), "name": name, "seed": seed}
        work |= {"directory": str(directory.resolve()), "resume": resume}
        thread = threading.Thread(target=_fit, args=(work, episodes, config.workers, gpus, directory, failed))
        thread.start()
        while thread.is_alive():
            thread.join(_LOOK_SECONDS)
            rows = _rows(directory)
            for row in rows[seen:]:
                report.row(row, share_done(config, row))
            seen = max(seen, len(rows))
            if interrupts.requested:
                (directory / STOP_FILE).touch()
    shutil.rmtree(directory / _FOLDER, ignore_errors=True)
    if failed:
        raise UsageError(f"a worker failed: {_last_line(failed[0])}") from failed[0]
    if (directory / STOP_FILE).exists():
        (directory / STOP_FILE).unlink()
        if not (directory / RESULT_FILE).is_file():
            raise KeyboardInterrupt
    return read_json(directory / RESULT_FILE)


def _fit(
    work: Mapping[str, Any], episodes: Any, workers: int, gpus: bool, directory: Path, failed: list[BaseException]
) -> None:
    """Run Ray Train to its end; outside the main thread it leaves the handlers of signals alone."""
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    try:
        trainer = TorchTrainer(
            _work,
            train_loop_config={**work, "episodes": ray.put(episodes)},
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus),
            run_config=RunConfig(name="workers", storage_path=str((directory / _FOLDER).resolve())),
        )
        # Ray Train prints on stdout, which belongs to the result
        with contextlib.redirect_stdout(sys.stderr), _same_folder():
            trainer.fit()
    except BaseException as error:  # noqa: B036 - told to the thread that waits
        failed.append(error)


def _work(work: Mapping[str, Any]) -> None:
    """Be one of the processes."""
    import ray

    quiet_ray()
    config = from_dict(work["as"], work["config"])
    directory, peers = Path(work["directory"]), TorchPeers()
    episodes = ray.get(work["episodes"])
    seed = work["kind"](config, work["name"], work["seed"], directory, episodes, resume=work["resume"], peers=peers)
    try:
        while not agree(peers, seed.done, seed.device):
            seed.iterate()
            if agree(peers, (directory / STOP_FILE).exists(), seed.device) and not agree(peers, seed.done, seed.device):
                seed.save()
                return
        seed.finish()
    finally:
        seed.close()


@contextlib.contextmanager
def _same_folder() -> Iterator[None]:
    """Let workers stay in the folder where the run was started, which relative paths of its settings are from."""
    name = "RAY_CHDIR_TO_TRIAL_DIR"
    before = os.environ.get(name)
    os.environ[name] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _rows(directory: Path) -> list[dict[str, Any]]:
    path = directory / METRICS_FILE
    return read_jsonl(path) if path.is_file() else []


def _check_gpus(workers: int) -> None:
    import torch

    if torch.cuda.device_count() < workers:
        raise UsageError(f"expected a GPU per worker, got {workers} workers and {torch.cuda.device_count()} GPUs")


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else repr(error)
