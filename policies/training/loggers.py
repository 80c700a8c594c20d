"""Where the rows of a run go besides metrics.jsonl: TensorBoard and, if asked for, Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from embodied_mem.errors import UsageError
from embodied_mem.files import atomic_write_text
from embodied_mem.policies.training.config import LogConfig

WANDB_ID_FILE = "wandb_id.txt"


class Logger(Protocol):
    """Receives every row."""

    def log(self, row: Mapping[str, Any]) -> None:
        """Take one row of metrics.jsonl."""

    def close(self) -> None:
        """Write out what is buffered."""


def make_loggers(
    config: LogConfig, directory: Path, name: str, seed: int, values: Mapping[str, Any], iteration: int
) -> list[Logger]:
    """Return the configured loggers of one seed.

    Args:
        config: which.
        directory: folder of the seed.
        name: name of the run.
        seed: its seed.
        values: JSON form of the configuration.
        iteration: last iteration that is kept; later events of an earlier attempt are dropped.

    Raises:
        UsageError: W&B is asked for and not installed.
    """
    loggers: list[Logger] = []
    if config.tensorboard:
        loggers.append(TensorBoardLogger(directory / "tb", iteration))
    if config.wandb:
        loggers.append(WandbLogger(config.wandb_project, directory, name, seed, values))
    return loggers


class TensorBoardLogger:
    """Scalars over environment steps."""

    def __init__(self, directory: Path, iteration: int) -> None:
        """Open an event file that hides events after ``iteration`` of an earlier attempt."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(directory), purge_step=iteration + 1, flush_secs=10)

    def log(self, row: Mapping[str, Any]) -> None:
        """Write every number of the row at the step of its iteration."""
        for key, value in row.items():
            if key != "iteration" and isinstance(value, int | float):
                self._writer.add_scalar(key, value, row["iteration"])

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class WandbLogger:
    """One W&B run per seed, continued on resume."""

    def __init__(self, project: str, directory: Path, name: str, seed: int, values: Mapping[str, Any]) -> None:
        """Start or continue the run."""
        try:
            import wandb
        except ImportError as error:
            raise UsageError("log.wandb needs the package wandb; pip install 'embodied-mem[loggers]'") from error
        path = directory / WANDB_ID_FILE
        known = path.read_text(encoding="utf-8").strip() if path.exists() else None
        self._run = wandb.init(
            project=project,
            name=f"{name}-seed{seed}",
            group=name,
            config=dict(values),
            dir=str(directory),
            id=known,
            resume="allow",
        )
        if known is None:
            atomic_write_text(path, self._run.id + "\n")

    def log(self, row: Mapping[str, Any]) -> None:
        """Send the row at its iteration."""
        self._run.log({key: value for key, value in row.items() if value is not None}, step=int(row["iteration"]))

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()
