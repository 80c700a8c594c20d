"""One seed of a run: builds the RLlib algorithm, iterates, writes rows and checkpoints, exports the agent.

The folder of a seed: config.json, metrics.jsonl, tb/, checkpoints/iter_000123/, agent/, result.json.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from embodied_mem._version import __version__
from embodied_mem.agent import Bundled, save_agent
from embodied_mem.config import override, to_dict
from embodied_mem.errors import UsageError
from embodied_mem.files import atomic_write_json, read_json
from embodied_mem.policies.rllib.config import build
from embodied_mem.policies.training.checkpoints import (
    list_checkpoints,
    open_checkpoint,
    save_checkpoint,
    set_generator_states,
)
from embodied_mem.policies.training.config import RunConfig, StopConfig
from embodied_mem.policies.training.cpu_time import CpuMeter
from embodied_mem.policies.training.loggers import Logger, make_loggers
from embodied_mem.policies.training.records import append_row, cut_rows
from embodied_mem.policies.training.rows import metrics_row

CONFIG_FILE, RESULT_FILE, AGENT_FOLDER = "config.json", "result.json", "agent"

# RLlib's name of the only module of a single-agent algorithm.
DEFAULT_MODULE = "default_policy"

Row = dict[str, Any]


class SeedRun:
    """A running seed. `iterate` until `done`, then `finish`; `close` in any case."""

    def __init__(self, config: RunConfig, name: str, seed: int, directory: Path, *, resume: bool = False) -> None:
        """Build the algorithm in an initialised Ray; with ``resume``, from the newest checkpoint where there is one.

        Args:
            config: of the run; its seed is replaced by ``seed``.
            name: of the run (preset).
            seed: of this part.
            directory: folder of this seed, made if absent.
            resume: go on from the newest checkpoint.

        Raises:
            UsageError: the settings do not fit together, or the checkpoint is corrupted.
        """
        self.config = override(config, {"train.seed": seed})
        self.name, self.seed, self.directory = name, seed, directory
        self.iteration = 0
        self.rows: list[Row] = []
        self._seconds = self._cpu_seconds = 0.0
        self._hits = 0
        self._loggers: list[Logger] = []
        rllib = build(self.config.train)
        self.algorithm = rllib.build_algo()
        _drop_empty(Path(self.algorithm.logdir))
        if resume:
            self._restore()
        else:
            cut_rows(directory, 0)
        values = {"name": name, "seed": seed, "version": __version__, "config": to_dict(self.config)}
        atomic_write_json(directory / CONFIG_FILE, values)
        self._loggers = make_loggers(self.config.log, directory, name, seed, values, self.iteration)
        self._saved_at = (self.iteration, time.monotonic())
        self._started = time.monotonic()
        self._cpu = CpuMeter()

    def iterate(self) -> Row:
        """Run one iteration, write its row, and a checkpoint when one is due. Returns the row.

        Raises:
            OSError: the row or the checkpoint could not be written.
        """
        result = self.algorithm.train()
        self.iteration += 1
        row = metrics_row(
            result, iteration=self.iteration, seconds=self.seconds, cpu_seconds=self._cpu_seconds + self._cpu.seconds()
        )
        append_row(self.directory, row)
        self.rows.append(row)
        for logger in self._loggers:
            logger.log(row)
        if row["return_mean"] is not None:
            self._hits = self._hits + 1 if _reaches_target(self.config.stop, row) else 0
        every = self.config.checkpoint
        since = self.iteration - self._saved_at[0]
        if (every.iterations is not None and since >= every.iterations) or (
            time.monotonic() - self._saved_at[1] >= every.seconds
        ):
            self.save()
        return row

    @property
    def seconds(self) -> float:
        """Wall seconds since the first environment step, earlier attempts included."""
        return self._seconds + time.monotonic() - self._started

    @property
    def progress(self) -> float:
        """Share of the run that is done, in [0, 1], by the limit that is nearest."""
        if not self.rows:
            return 0.0
        return min(1.0, max(_shares(self.config.stop, self.rows[-1]).values()))

    @property
    def done(self) -> bool:
        """True when a stop criterion is met."""
        return self.progress >= 1.0 or self._hits >= self.config.stop.patience

    def save(self) -> Path:
        """Write a checkpoint of the finished iterations and return its folder.

        Raises:
            OSError: it could not be written.
        """
        loop = {
            "iteration": self.iteration,
            "seconds": self.seconds,
            "cpu_seconds": self._cpu_seconds + self._cpu.seconds(),
            "hits": self._hits,
        }
        keep = self.config.checkpoint.keep
        path = save_checkpoint(self.directory, self.iteration, loop, self.algorithm.save_to_path, keep)
        self._saved_at = (self.iteration, time.monotonic())
        return path

    def finish(self) -> dict[str, Any]:
        """Write the last checkpoint, the agent bundle and the result of this seed; return the result."""
        if self._saved_at[0] != self.iteration:
            self.save()
        last = self.rows[-1] if self.rows else {}
        train = self.config.train
        about: dict[str, Any] = {"name": self.name, "env": train.env, "env_config": train.env_config}
        about |= {"algorithm": train.algorithm, "seed": self.seed, "env_steps": last.get("env_steps")}
        save_agent(self.directory / AGENT_FOLDER, self.agent, deterministic=self.config.acting == "mode", about=about)
        result = {"seed": self.seed, "reason": self._reason(), **last, **self._recent()}
        atomic_write_json(self.directory / RESULT_FILE, result)
        return result

    @property
    def agent(self) -> Bundled:
        """The agent as the learner has it now."""
        return learner_agent(self.algorithm)

    def close(self) -> None:
        """Stop the algorithm and the loggers."""
        for logger in self._loggers:
            logger.close()
        self.algorithm.stop()

    def _restore(self) -> None:
        checkpoints = list_checkpoints(self.directory)
        if not checkpoints:
            cut_rows(self.directory, 0)
            return
        loop, rllib = open_checkpoint(checkpoints[-1])
        self.iteration = loop["iteration"]
        self.rows = cut_rows(self.directory, self.iteration)
        self._seconds, self._cpu_seconds, self._hits = loop["seconds"], loop["cpu_seconds"], loop["hits"]
        self.algorithm.restore_from_path(str(rllib.resolve()))
        set_generator_states(loop["generators"])

    def _recent(self) -> Row:
        """Return the newest episode figures; an iteration in which no episode ended has none."""
        found = {}
        for key in ("return_mean", "success_mean", "length_mean"):
            found[key] = next((row[key] for row in reversed(self.rows) if row[key] is not None), None)
        return found

    def _reason(self) -> str:
        if self._hits >= self.config.stop.patience:
            return "target"
        shares = _shares(self.config.stop, self.rows[-1]) if self.rows else {}
        return max(shares, key=lambda key: shares[key]) if shares else "none"


def run_seed(
    config: RunConfig,
    name: str,
    seed: int,
    directory: Path,
    *,
    resume: bool = False,
    interrupted: Callable[[], bool] = lambda: False,
    report: Callable[[Row, float], None] = lambda row, progress: None,
) -> dict[str, Any]:
    """Train one seed to its end and return its result; a finished seed is only read when resuming.

    Args:
        config: of the run.
        name: of the run.
        seed: of this part.
        directory: folder of this seed.
        resume: go on from the newest checkpoint.
        interrupted: asked after each iteration; True writes a checkpoint and stops.
        report: called with every row and the share that is done.

    Raises:
        KeyboardInterrupt: ``interrupted`` answered True; the checkpoint is written.
    """
    finished = finished_result(directory, config, resume)
    if finished is not None:
        return finished
    run = SeedRun(config, name, seed, directory, resume=resume)
    try:
        while not run.done:
            report(run.iterate(), run.progress)
            if interrupted() and not run.done:
                run.save()
                raise KeyboardInterrupt
        return run.finish()
    finally:
        run.close()


def finished_result(directory: Path, config: Any, resume: bool) -> dict[str, Any] | None:
    """Return the stored result of a seed that has ended under the same stop criteria, None where there is work left."""
    path = directory / RESULT_FILE
    if not resume or not path.is_file():
        return None
    stored = read_json(directory / CONFIG_FILE).get("config", {})
    return read_json(path) if stored.get("stop") == to_dict(config.stop) else None


def learner_agent(algorithm: Any) -> Bundled:
    """Return the agent with the learner's newest weights (runners may hold older ones).

    Raises:
        UsageError: the algorithm's module holds no agent.
    """
    group = algorithm.learner_group
    if group.is_remote:
        module = algorithm.get_module()
        weights = group.get_weights()[DEFAULT_MODULE]
        module.load_state_dict({key: torch.as_tensor(value) for key, value in weights.items()}, strict=False)
    else:
        module = group._learner.module[DEFAULT_MODULE].unwrapped()
    agent = getattr(module, "trained", None)
    if agent is None:
        raise UsageError(f"expected an algorithm that trains a MemoryAgent, got a module {type(module).__name__}")
    return agent


def _shares(stop: StopConfig, row: Mapping[str, Any]) -> dict[str, float]:
    limits = {key: getattr(stop, key) for key in ("env_steps", "cpu_seconds", "seconds")}
    shares = {key: row[key] / limit for key, limit in limits.items() if limit}
    if stop.iterations:
        shares["iterations"] = row["iteration"] / stop.iterations
    return shares


def _reaches_target(stop: StopConfig, row: Mapping[str, Any]) -> bool:
    targets = {key: getattr(stop, key) for key in ("return_mean", "success_mean")}
    wanted = {key: value for key, value in targets.items() if value is not None}
    return bool(wanted) and all(row[key] is not None and row[key] >= value for key, value in wanted.items())


def _drop_empty(folder: Path) -> None:
    """Remove the empty result folder RLlib makes in the home directory; results live in the run folder."""
    try:
        os.rmdir(folder)
    except OSError:
        pass
