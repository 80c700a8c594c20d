"""`FollowConfig`: what every trainer that imitates street instructions is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from embodied_mem.errors import UsageError
from embodied_mem.policies.navigation.lessons import LessonConfig


@dataclass(frozen=True)
class FollowConfig:
    """One run of imitation on the street; a subclass adds the learner and its own terms."""

    SHARES: ClassVar[tuple[str, ...]] = ("decide_from", "decide", "hide")

    env: str = "embodied_mem/Street-v0"
    """The street environment."""
    env_config: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment: graph, sensors, semantics; routes and words follow `lessons`."""
    lessons: LessonConfig = field(default_factory=LessonConfig)
    """Routes and texts."""
    rows: int = 64
    """Walks per update."""
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
        for name in self.SHARES:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UsageError(f"expected {name} in [0, 1], got {getattr(self, name)}")
        if not (self.lr > 0 and self.grad_clip > 0 and self.weight_decay >= 0 and 0 <= self.ema < 1):
            raise UsageError(
                "expected lr and grad_clip > 0, weight_decay >= 0 and ema in [0, 1), "
                f"got {self.lr}, {self.grad_clip}, {self.weight_decay} and {self.ema}"
            )

    def turned(self, update: int) -> float:
        """Return the weight of the rate at an update: 0 to ``decide_from``, then rising to ``decide`` half way on."""
        since = max(0.0, update / self.updates - self.decide_from) / max(1.0 - self.decide_from, 1e-9)
        return self.decide * min(1.0, 2.0 * since)
