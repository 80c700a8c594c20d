"""`ImitationConfig`: everything one imitation run needs; `imitation_config` reads it from the flat keys of a preset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from embodied_mem.config import from_dict, merge_dotted, to_dict
from embodied_mem.errors import UsageError
from embodied_mem.policies.imitation.batches import BatchConfig
from embodied_mem.policies.imitation.demonstrations import DemonstrationConfig
from embodied_mem.policies.training.config import (
    CheckpointConfig,
    LogConfig,
    StopConfig,
    drop_options,
    expand_keys,
)
from embodied_mem.policies.vla.config import VLAConfig
from embodied_mem.policies.vla.fusion import find_memory

ALGORITHM: Literal["imitation"] = "imitation"
"""Value of the preset key ``algorithm`` that chooses this trainer."""


@dataclass(frozen=True)
class ImitationConfig:
    """One imitation run."""

    env: str = "embodied_mem/Tabletop-RememberColor3-v0"
    """Gymnasium id of an environment with a scripted expert."""
    env_config: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment."""
    algorithm: Literal["imitation"] = ALGORITHM
    """Always ``imitation``."""
    agent: VLAConfig = field(default_factory=VLAConfig)
    """Perception, memory, action expert."""
    demos: DemonstrationConfig = field(default_factory=DemonstrationConfig)
    """Demonstrations."""
    batch: BatchConfig = field(default_factory=BatchConfig)
    """Rows and frames of an update."""
    updates: int = 800
    """Optimiser steps."""
    lr: float = 1e-3
    """AdamW's highest learning rate."""
    warmup: int = 30
    """Updates over which it rises; after them it falls to 0 along a cosine."""
    weight_decay: float = 1e-4
    """AdamW's decay of matrices."""
    grad_clip: float = 1.0
    """Global gradient-norm limit."""
    ema: float = 0.99
    """Decay of the moving average of the weights, which is what acts; reached gradually."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Mixed precision: auto takes bfloat16 on a GPU and float32 elsewhere. Memories compute in float32 in any case."""
    report_every: int = 50
    """Updates of an iteration: one row of metrics.jsonl, one chance of a checkpoint."""
    rollouts: int = 48
    """Episodes that the finished policy plays, for the run's result; 0 for none."""
    device: str = "auto"
    """Where is computed: auto, cpu, cuda or cuda:<i>."""
    torch_threads: int = 1
    """Torch threads; 0 leaves torch's choice."""
    seed: int | None = 0
    """Seed of weights, order and noise; set per run by ``--seeds``."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, least in (("updates", 1), ("report_every", 1), ("warmup", 0), ("rollouts", 0), ("torch_threads", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"expected {name} >= {least}, got {getattr(self, name)}")
        if not (self.lr > 0 and self.grad_clip > 0 and self.weight_decay >= 0 and 0 <= self.ema < 1):
            raise UsageError(
                "expected lr and grad_clip > 0, weight_decay >= 0 and ema in [0, 1), "
                f"got {self.lr}, {self.grad_clip}, {self.weight_decay} and {self.ema}"
            )


@dataclass(frozen=True)
class ImitationRunConfig:
    """An imitation run: learning, end, files, processes."""

    train: ImitationConfig = field(default_factory=ImitationConfig)
    """The learning; its keys need no prefix."""
    stop: StopConfig = field(default_factory=StopConfig)
    """Ends the run before ``updates``: by iterations, seconds, CPU seconds or frames read (``env_steps``)."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    """When it can be resumed from."""
    log: LogConfig = field(default_factory=LogConfig)
    """What it logs."""
    workers: int = 1
    """Processes that learn together, on a GPU each where there are GPUs (Ray Train); 1 learns in this process."""
    ray_address: str = "local"
    """``local`` starts Ray for several workers; another address joins a cluster that shares this file system."""

    def __post_init__(self) -> None:
        """Check that the rows can be shared out."""
        rows = self.train.batch.rows
        if self.workers < 1 or rows % self.workers:
            raise UsageError(f"expected workers >= 1 that divide batch.rows {rows}, got {self.workers}")
        if self.workers > 1 and ":" in self.train.device:
            raise UsageError(f"expected device auto, cpu or cuda for {self.workers} workers, got {self.train.device!r}")


def imitation_config(values: Mapping[str, Any]) -> ImitationRunConfig:
    """Build the configuration from flat keys, as a preset holds them.

    Raises:
        UsageError: an unknown key (the nearest one is named) or a wrong value.
    """
    return from_dict(ImitationRunConfig, merge_dotted({}, expand_keys(values, ImitationConfig, ImitationRunConfig)))


def apply_imitation_overrides(config: ImitationRunConfig, overrides: Mapping[str, Any]) -> ImitationRunConfig:
    """Return ``config`` with flat dotted keys replaced; another memory drops the options that it does not have.

    Raises:
        UsageError: as `imitation_config`.
    """
    tree, changes = to_dict(config), expand_keys(overrides, ImitationConfig, ImitationRunConfig)
    drop_options(tree["train"]["agent"], changes, find_memory)
    return imitation_config(merge_dotted(tree, changes))
