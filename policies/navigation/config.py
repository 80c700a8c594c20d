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
from embodied_mem.policies.navigation.follow_config import FollowConfig
from embodied_mem.policies.navigation.following import COUNTED
from embodied_mem.policies.training.config import CheckpointConfig, LogConfig, StopConfig, drop_options, expand_keys

ALGORITHM: Literal["street"] = "street"
"""Value of the preset key ``algorithm`` that chooses this trainer."""


@dataclass(frozen=True)
class StreetConfig(FollowConfig):
    """One run of imitation on the street by an agent with a memory."""

    algorithm: Literal["street"] = ALGORITHM
    """Always ``street``."""
    agent: AgentConfig = field(default_factory=lambda: AgentConfig(reader=ReaderConfig()))
    """Encoder, memory, reader, head."""
    guide: float = 1.0
    """Weight of the loss that asks the memory to count turns, junctions and panoramas; 0 leaves it out."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        super().__post_init__()
        if self.agent.reader is None:
            raise UsageError("expected agent.reader: a street agent without it does not know its instruction")
        width = self.agent.memory_config.get("out_dim", MemoryConfig().out_dim)
        if self.guide < 0 or (self.guide and width < sum(COUNTED)):
            raise UsageError(
                f"expected guide >= 0 and agent.memory_config.out_dim >= {sum(COUNTED)} for its counters, "
                f"got {self.guide} and {width}; guide=0 does without"
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
