"""`StreetConfig`: imitation of street instructions; `street_config` reads it from the flat keys of a preset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from embodied_mem import registry
from embodied_mem.agent import AgentConfig
from embodied_mem.config import from_dict, merge_dotted, to_dict
from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryConfig
from embodied_mem.perception.text_reader import ReaderConfig
from embodied_mem.policies.navigation.following import COUNTED
from embodied_mem.policies.navigation.lessons import LessonConfig
from embodied_mem.policies.training.config import CheckpointConfig, LogConfig, StopConfig, drop_options, expand_keys

ALGORITHM: Literal["street"] = "street"
"""Value of the preset key ``algorithm`` that chooses this trainer."""


@dataclass(frozen=True)
class StreetConfig:
    """One run of imitation on the street."""

    env: str = "embodied_mem/Street-v0"
    """The street environment."""
    env_config: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment: graph, sensors, semantics; routes and words follow `lessons`."""
    algorithm: Literal["street"] = ALGORITHM
    """Always ``street``."""
    agent: AgentConfig = field(default_factory=lambda: AgentConfig(reader=ReaderConfig()))
    """Encoder, memory, reader, head."""
    lessons: LessonConfig = field(default_factory=LessonConfig)
    """Routes and texts."""
    rows: int = 64
    """Episodes per update."""
    updates: int = 1500
    """Optimiser steps."""
    lr: float = 2e-3
    """AdamW's highest learning rate."""
    warmup: int = 50
    """Updates over which it rises; after them it falls to 0 along a cosine."""
    weight_decay: float = 1e-4
    """AdamW's decay of matrices."""
    grad_clip: float = 1.0
    """Global gradient-norm limit."""
    ema: float = 0.99
    """Decay of the moving average of the weights, which is what acts."""
    decide_from: float = 0.6
    """Share of the updates after which the loss begins to turn from the likelihood of a good stop to its rate."""
    decide: float = 0.7
    """Weight of the rate at the end, in [0, 1]."""
    guide: float = 1.0
    """Weight of the loss that asks the memory to count turns, junctions and panoramas; 0 leaves it out."""
    hide: float = 0.05
    """Share of the words that are hidden in training: what nobody foresaw."""
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
        if self.agent.reader is None:
            raise UsageError("expected agent.reader: a street agent without it does not know its instruction")
        width = self.agent.memory_config.get("out_dim", MemoryConfig().out_dim)
        if self.guide < 0 or (self.guide and width < sum(COUNTED)):
            raise UsageError(
                f"expected guide >= 0 and agent.memory_config.out_dim >= {sum(COUNTED)} for its counters, "
                f"got {self.guide} and {width}; guide=0 does without"
            )
        for name in ("decide_from", "decide", "hide"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UsageError(f"expected {name} in [0, 1], got {getattr(self, name)}")
        if not (self.lr > 0 and self.grad_clip > 0 and self.weight_decay >= 0 and 0 <= self.ema < 1):
            raise UsageError(
                "expected lr and grad_clip > 0, weight_decay >= 0 and ema in [0, 1), "
                f"got {self.lr}, {self.grad_clip}, {self.weight_decay} and {self.ema}"
            )


@dataclass(frozen=True)
class StreetRunConfig:
    """A run of street imitation: learning, end, files."""

    train: StreetConfig = field(default_factory=StreetConfig)
    """The learning; its keys need no prefix."""
    stop: StopConfig = field(default_factory=StopConfig)
    """Ends the run before ``updates``: by iterations, seconds, CPU seconds or frames read (``env_steps``)."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    """When it can be resumed from."""
    log: LogConfig = field(default_factory=LogConfig)
    """What it logs."""


def street_config(values: Mapping[str, Any]) -> StreetRunConfig:
    """Build the configuration from flat keys, as a preset holds them.

    Raises:
        UsageError: an unknown key (the nearest one is named) or a wrong value.
    """
    base = to_dict(StreetRunConfig())
    return from_dict(StreetRunConfig, merge_dotted(base, nested(expand_keys(values, StreetConfig, StreetRunConfig))))


def apply_street_overrides(config: StreetRunConfig, overrides: Mapping[str, Any]) -> StreetRunConfig:
    """Return ``config`` with flat dotted keys replaced; another memory drops the options that it does not have.

    Raises:
        UsageError: as `street_config`.
    """
    tree, changes = to_dict(config), expand_keys(overrides, StreetConfig, StreetRunConfig)
    drop_options(tree["train"]["agent"], changes, partial(registry.get, "memory"))
    return from_dict(StreetRunConfig, merge_dotted(tree, changes))


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return mappings as dotted keys, so that a preset changes a part of a default; option dicts stay whole."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        whole = key.rpartition(".")[2] in ("env_config", "memory_config", "encoders", "options", "gains")
        if isinstance(value, Mapping) and not whole:
            found.update({f"{key}.{name}": item for name, item in nested(value).items()})
        else:
            found[key] = value
    return found
