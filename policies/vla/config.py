"""`VLAConfig`: perception, memory and what makes the actions, one frozen dataclass each."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from embodied_mem.errors import UsageError


def positive(config: Any, *names: str) -> None:
    """Refuse values below 1.

    Raises:
        UsageError: one of the named fields of ``config`` is smaller.
    """
    for name in names:
        if getattr(config, name) < 1:
            raise UsageError(f"expected {name} >= 1, got {getattr(config, name)}")


@dataclass(frozen=True)
class PerceptionConfig:
    """Observation and instruction to perceptual tokens and one cognitive token."""

    encoder: Literal["state", "small", "open_clip", "transformers"] = "state"
    """What reads the frame: ``vector`` alone, a small built-in network, an open_clip tower, a vision-language model."""
    parts: tuple[int, ...] = ()
    """Sizes of the parts that ``vector`` is made of, in order, one perceptual token each (``state``): what belongs to
    one thing stays together. Empty: every token is made of everything, ``tokens`` of them."""
    tokens: int = 4
    """Perceptual tokens N_p of a picture (of the state, for ``state``). Published: 256."""
    width: int = 32
    """Width D_p of a perceptual token. Published: 256."""
    cognitive: int = 64
    """Width D_c of the cognitive token. Published: 4096."""
    hidden: int = 128
    """Width of the built-in layers."""
    layers: int = 2
    """Layers of the built-in layers."""
    heads: int = 4
    """Attention heads of the built-in transformer."""
    patch: int = 8
    """Pixels of a patch's edge (``small``)."""
    text: int = 32
    """Width of the instruction's vector (not for ``transformers``)."""
    model: str = ""
    """Architecture of open_clip or its JSON file; folder of a transformers model."""
    weights: str | None = None
    """Weights of the open_clip tower: file, cached tag, or null for random ones."""
    frozen: bool = True
    """Keep the tower or language model fixed."""
    reads: tuple[str, ...] = ("vector", "rgb", "rgb_wrist")
    """Observation entries that are read, where they are there; the instruction always is."""

    def __post_init__(self) -> None:
        """Check the sizes."""
        positive(self, "tokens", "width", "cognitive", "hidden", "layers", "heads", "patch", "text")
        if self.parts and (self.encoder != "state" or min(self.parts) < 1):
            raise UsageError(
                f"expected perception.parts as sizes >= 1 with encoder 'state', got {self.parts} with {self.encoder!r}"
            )
        if self.hidden % self.heads:
            raise UsageError(f"expected perception.hidden divisible by heads {self.heads}, got {self.hidden}")
        if self.encoder in ("open_clip", "transformers") and not self.model:
            raise UsageError(f"expected perception.model for encoder {self.encoder!r}: a name or a folder, got ''")


@dataclass(frozen=True)
class ScheduleConfig:
    """Noise and how it is taken away."""

    kind: Literal["ddim", "dpm", "flow"] = "ddim"
    """DDIM with eta 0, DPM-Solver++, or flow matching with Euler steps; all from diffusers."""
    train_steps: int = 100
    """Noise levels in training."""
    steps: int = 10
    """Steps when acting."""
    predict: Literal["epsilon", "sample", "v_prediction"] = "epsilon"
    """What the network predicts (``flow`` always predicts the velocity)."""

    def __post_init__(self) -> None:
        """Check the steps."""
        positive(self, "train_steps", "steps")
        if self.steps > self.train_steps:
            raise UsageError(f"expected schedule.steps <= train_steps {self.train_steps}, got {self.steps}")


@dataclass(frozen=True)
class ExpertConfig:
    """Diffusion transformer over an action chunk."""

    chunk: int = 16
    """Actions of a chunk."""
    execute: int = 8
    """Actions of a chunk that are played before the next one is planned."""
    width: int = 64
    """Width H."""
    layers: int = 2
    """Blocks."""
    heads: int = 4
    """Attention heads."""
    mlp_ratio: int = 4
    """Hidden width of the MLP over H."""
    drop_condition: float = 0.1
    """Share of samples trained with the null vector instead of the cognitive token."""
    guidance: float = 1.5
    """Classifier-free guidance s; 1 turns it off and halves the cost of acting."""
    start: Literal["drawn", "zero"] = "drawn"
    """Noise that a plan is made from: drawn anew, or 0, so that the same tokens always give the same plan."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """Noise."""
    draws: int = 4
    """Noise levels drawn per sample and update."""
    binary: tuple[int, ...] = ()
    """Action dimensions that are set to the nearer end of their range (grippers)."""

    def __post_init__(self) -> None:
        """Check the sizes."""
        positive(self, "chunk", "execute", "width", "layers", "heads", "mlp_ratio", "draws")
        if self.width % self.heads or self.width % 2:
            raise UsageError(f"expected an even expert.width divisible by heads {self.heads}, got {self.width}")
        if self.execute > self.chunk:
            raise UsageError(f"expected expert.execute <= chunk {self.chunk}, got {self.execute}")
        if not 0.0 <= self.drop_condition < 1.0 or self.guidance < 0.0:
            raise UsageError(
                f"expected drop_condition in [0, 1) and guidance >= 0, got {self.drop_condition} and {self.guidance}"
            )


@dataclass(frozen=True)
class ActorConfig:
    """What reinforcement learning adds to a policy; it is not in the policy's bundle."""

    std: float = 0.05
    """Start of the learned standard deviation of actions, in their normalised range [-1, 1]."""
    hidden: int = 64
    """Width of the value's hidden layer."""
    through: int = 2
    """Denoising steps, the last ones, that gradients pass through."""
    value_gradient: bool = False
    """The value's loss also changes perception and memory, not only the value's own layers."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        positive(self, "hidden", "through")
        if not 0.0 < self.std < math.inf:
            raise UsageError(f"expected actor.std > 0, got {self.std}")


@dataclass(frozen=True)
class KeyFrameConfig:
    """Heat map over places and bins for everything else (``policy=key_frames``)."""

    plane: tuple[int, int] = (0, 1)
    """The two action dimensions that the heat map is over."""
    upsample: int = 2
    """Cells of the heat map along the edge of a perceptual token."""
    bins: int = 33
    """Bins of every other action dimension; an odd number has one at the middle of the range."""
    hidden: int = 128
    """Width of the network that fills them."""

    def __post_init__(self) -> None:
        """Check the sizes."""
        positive(self, "upsample", "hidden")
        if self.bins < 2:
            raise UsageError(f"expected key_frames.bins >= 2, got {self.bins}")
        if len(set(self.plane)) != 2:
            raise UsageError(f"expected key_frames.plane as two different action dimensions, got {self.plane}")


@dataclass(frozen=True)
class DecisionConfig:
    """Actions given the return that is wanted (``policy=decision``)."""

    target: float | None = None
    """Return that is asked for when acting; null for the highest of the demonstrations."""
    bins: int = 33
    """Bins of every action dimension, return and reward."""
    hidden: int = 128
    """Width of the layers."""
    layers: int = 2
    """Times that the one residual layer is applied. Published: 64 blocks with shared weights."""
    sees_action: bool = True
    """Show it its action before. Where demonstrations act on what they know all along, that action is a memory too."""

    def __post_init__(self) -> None:
        """Check the sizes."""
        positive(self, "hidden", "layers")
        if self.bins < 2:
            raise UsageError(f"expected decision.bins >= 2, got {self.bins}")


@dataclass(frozen=True)
class VLAConfig:
    """A policy."""

    policy: Literal["diffusion", "key_frames", "decision"] = "diffusion"
    """What makes the actions: the diffusion expert, heat maps and bins, or bins given a return."""
    perception: PerceptionConfig = field(default_factory=PerceptionConfig)
    """Frame to tokens."""
    memory: str = "perceptual_cognitive_bank"
    """Registered memory (``embodied-mem list memories``), or ``heat_map_attention`` with ``policy=key_frames``."""
    memory_config: dict[str, Any] = field(default_factory=dict)
    """Options of the memory; its widths follow the perception."""
    fusion: Literal["gate", "add", "prefix"] = "gate"
    """How current and retrieved tokens are joined: gated, added, or retrieved ones beside the current ones."""
    expert: ExpertConfig = field(default_factory=ExpertConfig)
    """Tokens to actions."""
    key_frames: KeyFrameConfig = field(default_factory=KeyFrameConfig)
    """Tokens to a heat map and bins."""
    decision: DecisionConfig = field(default_factory=DecisionConfig)
    """Tokens and a return to bins."""
