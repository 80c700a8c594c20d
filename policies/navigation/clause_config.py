"""`ClauseTrainConfig`: imitation of street instructions by a clause follower, from the flat keys of a preset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from embodied_mem.config import from_dict, merge_dotted, to_dict
from embodied_mem.errors import UsageError
from embodied_mem.policies.navigation.clause_follower import ClauseConfig
from embodied_mem.policies.navigation.config import nested
from embodied_mem.policies.navigation.lessons import LessonConfig
from embodied_mem.policies.training.config import CheckpointConfig, LogConfig, StopConfig, expand_keys

ALGORITHM: Literal["clauses"] = "clauses"
"""Value of the preset key ``algorithm`` that chooses this trainer."""


@dataclass(frozen=True)
class ClauseTrainConfig:
    """One run of imitation by a clause follower."""

    env: str = "embodied_mem/Street-v0"
    """The street environment."""
    env_config: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment: graph and sensors; routes and words follow `lessons`."""
    algorithm: Literal["clauses"] = ALGORITHM
    """Always ``clauses``."""
    agent: ClauseConfig = field(default_factory=ClauseConfig)
    """The follower."""
    lessons: LessonConfig = field(default_factory=LessonConfig)
    """Routes and texts; ``noise`` is not used."""
    rows: int = 128
    """Walks per update."""
    updates: int = 1500
    """Optimiser steps."""
    lr: float = 3e-3
    """AdamW's highest learning rate."""
    warmup: int = 30
    """Updates over which it rises; after them it falls to 0 along a cosine."""
    weight_decay: float = 1e-4
    """AdamW's decay of matrices."""
    grad_clip: float = 1.0
    """Global gradient-norm limit."""
    ema: float = 0.99
    """Decay of the moving average of the weights, which is what acts."""
    decide_from: float = 0.3
    """Share of the updates after which the loss begins to turn from the likelihood of a good stop to its rate."""
    decide: float = 0.9
    """Weight of the rate at the end, in [0, 1]."""
    hide: float = 0.05
    """Share of the words that are hidden in training: what nobody foresaw."""
    misread: float = 0.05
    """Share of the numbers of clauses that are taken for unknown in training."""
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """Mixed precision, as in imitation."""
    report_every: int = 50
    """Updates of an iteration: one row of metrics.jsonl, one chance of a checkpoint."""
    rollouts: int = 128
    """Synthetic episodes of the unseen area that the finished agent plays, per style; 0 for none."""
    device: str = "auto"
    """Where is computed: auto, cpu, cuda or cuda:<i>."""
    torch_threads: int = 1
    """Torch threads; 0 leaves torch's choice."""
    seed: int | None = 0
    """Seed of weights and order; set per run by ``--seeds``."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, least in (
            ("updates", 1), ("rows", 1), ("report_every", 1), ("warmup", 0), ("rollouts", 0), ("torch_threads", 0),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise UsageError(f"expected {name} >= {least}, got {getattr(self, name)}")
        for name in ("decide_from", "decide", "hide", "misread"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UsageError(f"expected {name} in [0, 1], got {getattr(self, name)}")
        if not (self.lr > 0 and self.grad_clip > 0 and self.weight_decay >= 0 and 0 <= self.ema < 1):
            raise UsageError(
                "expected lr and grad_clip > 0, weight_decay >= 0 and ema in [0, 1), "
                f"got {self.lr}, {self.grad_clip}, {self.weight_decay} and {self.ema}"
            )


@dataclass(frozen=True)
class ClauseRunConfig:
    """A run of a clause follower: learning, end, files."""

    train: ClauseTrainConfig = field(default_factory=ClauseTrainConfig)
    """The learning; its keys need no prefix."""
    stop: StopConfig = field(default_factory=StopConfig)
    """Ends the run before ``updates``: by iterations, seconds, CPU seconds or decisions read (``env_steps``)."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    """When it can be resumed from."""
    log: LogConfig = field(default_factory=LogConfig)
    """What it logs."""


def clause_config(values: Mapping[str, Any]) -> ClauseRunConfig:
    """Build the configuration from flat keys, as a preset holds them.

    Raises:
        UsageError: an unknown key (the nearest one is named) or a wrong value.
    """
    return apply_clause_overrides(ClauseRunConfig(), nested(values))


def apply_clause_overrides(config: ClauseRunConfig, overrides: Mapping[str, Any]) -> ClauseRunConfig:
    """Return ``config`` with flat dotted keys replaced.

    Raises:
        UsageError: as `clause_config`.
    """
    changes = expand_keys(overrides, ClauseTrainConfig, ClauseRunConfig)
    return from_dict(ClauseRunConfig, merge_dotted(to_dict(config), changes))
