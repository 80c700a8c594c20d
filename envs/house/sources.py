"""Numbered houses: a source says how many there are and makes the plan of any index; train and test never share one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from embodied_mem.envs.house.generator import GeneratorConfig, generate
from embodied_mem.envs.house.plan import HousePlan
from embodied_mem.errors import UsageError

SPLITS = ("train", "test")
TEST_OFFSET = 1_000_000_000
"""Seeds of generated test houses start here; training indices stay below."""


class HouseSource(Protocol):
    """Where plans come from."""

    def __len__(self) -> int:
        """How many different houses there are."""

    def plan(self, index: int) -> HousePlan:
        """Return house ``index`` in [0, len)."""


@dataclass(frozen=True)
class GeneratedHouses:
    """Procedural houses of one split.

    >>> houses = GeneratedHouses(count=2, config=GeneratorConfig(rooms=(1, 1), boxes=8))
    >>> houses.plan(0).name, len(houses)
    ('generated:train:0', 2)
    """

    config: GeneratorConfig = field(default_factory=GeneratorConfig)
    split: str = "train"
    """`train` or `test`: disjoint seeds."""
    count: int = 256
    """Number of different houses."""

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise UsageError(f"expected split 'train' or 'test', got {self.split!r}")
        if not 1 <= self.count < TEST_OFFSET:
            raise UsageError(f"count must lie in [1, {TEST_OFFSET}), got {self.count}")

    def __len__(self) -> int:
        return self.count

    def plan(self, index: int) -> HousePlan:
        """Return house ``index``; it depends on the split, the index and the config alone."""
        if not 0 <= index < self.count:
            raise UsageError(f"house index must lie in [0, {self.count}), got {index}")
        seed = index + (TEST_OFFSET if self.split == "test" else 0)
        return generate(seed, self.config, name=f"generated:{self.split}:{index}")


@dataclass(frozen=True)
class MixedHouses:
    """The first ``share`` houses of one source, then all of another."""

    first: HouseSource
    second: HouseSource
    share: int
    """How many houses come from ``first``."""

    def __len__(self) -> int:
        return self.share + len(self.second)

    def plan(self, index: int) -> HousePlan:
        """Return house ``index``."""
        return self.first.plan(index) if index < self.share else self.second.plan(index - self.share)
