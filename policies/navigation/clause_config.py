"""`ClauseTrainConfig`: imitation of street instructions by a clause follower, from the flat keys of a preset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from embodied_mem.config import from_dict, merge_dotted, to_dict
from embodied_mem.policies.navigation.clause_follower import ClauseConfig
from embodied_mem.policies.navigation.config import nested
from embodied_mem.policies.navigation.follow_config import FollowConfig
from embodied_mem.policies.training.config import CheckpointConfig, LogConfig, StopConfig, expand_keys

ALGORITHM: Literal["clauses"] = "clauses"
"""Value of the preset key ``algorithm`` that chooses this trainer."""


@dataclass(frozen=True)
class ClauseTrainConfig(FollowConfig):
    """One run of imitation by a clause follower; ``lessons.noise`` is not used."""

    SHARES = (*FollowConfig.SHARES, "misread")

    algorithm: Literal["clauses"] = ALGORITHM
    """Always ``clauses``."""
    agent: ClauseConfig = field(default_factory=ClauseConfig)
    """The follower."""
    rows: int = 128
    """Walks per update."""
    lr: float = 3e-3
    """AdamW's highest learning rate."""
    warmup: int = 30
    """Updates over which it rises; after them it falls to 0 along a cosine."""
    decide_from: float = 0.3
    """Share of the updates after which the loss begins to turn from the likelihood of a good stop to its rate."""
    decide: float = 0.9
    """Weight of the rate at the end, in [0, 1]."""
    misread: float = 0.05
    """Share of the numbers of clauses that are taken for unknown in training."""


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
