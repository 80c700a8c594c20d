"""Exact attention over a short window, beside a compressive memory for what lies further back; gated.

    a = attention of x over the entries of the last ``window`` steps,   m = memory(x),   g = sigmoid(W [x, a, m] + b)
    y = skip(x) + g * a + (1 - g) * m

The window holds keys and values of the steps before the present one; logits have a learned bias by age and head, and a
null slot, so that nothing is read where nothing is held. The memory is any registered one and reads every step, not
only those that have left the window.

State: the window under ``window/``, the memory under ``memory/``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from embodied_mem.memory.composition import Composed, Part, Plan, plan, skip_connection
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, State
from embodied_mem.memory.null_slot import null_slot_softmax
from embodied_mem.memory.slot_loop import linear_macs
from embodied_mem.memory.window_memory import Window, WindowMemory, check_positive
from embodied_mem.registry import register

__all__ = ["Hybrid", "HybridConfig", "WindowAttention", "WindowAttentionConfig"]


@dataclass(frozen=True)
class WindowAttentionConfig(MemoryConfig):
    """Size of the window and its heads."""

    slots: int = 16
    """Steps attended."""
    heads: int = 2
    """Attention heads."""
    head_dim: int = 16
    """Width of a head's queries, keys and values."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "slots", "heads", "head_dim")


@dataclass(frozen=True)
class HybridConfig(MemoryConfig):
    """Window and memory."""

    window: int = 16
    """Steps attended exactly."""
    heads: int = 2
    """Attention heads of the window."""
    head_dim: int = 16
    """Width of a head's queries, keys and values."""
    memory: Part = field(default_factory=lambda: Part("gated_delta"))
    """The compressive memory."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "window", "heads", "head_dim")


class WindowAttention(WindowMemory):
    """Attention over the last steps of the episode; the part ``window`` of `Hybrid`."""

    Config = WindowAttentionConfig

    def __init__(self, config: WindowAttentionConfig) -> None:
        super().__init__(config)
        self.slots, self.heads, width = config.slots, config.heads, config.heads * config.head_dim
        self.entry_dim = 2 * width
        self.query = nn.Linear(config.in_dim, width, bias=False)
        self.keys_values = nn.Linear(config.in_dim, 2 * width, bias=False)
        self.age = nn.Parameter(torch.zeros(config.heads, config.slots))
        self.out = nn.Linear(width, config.out_dim, bias=False)

    def entry(self, x: Tensor) -> Tensor:
        """Return keys and values, (..., 2 H K)."""
        return self.keys_values(x)

    def read(self, x: Tensor, window: Window) -> Tensor:
        """Attend; see `WindowMemory.read`."""
        keys, values = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in window.items.chunk(2, -1))
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        scores = window.scores(query @ keys.transpose(2, 3) * query.shape[-1] ** -0.5) + self.age.unsqueeze(1)
        weights = null_slot_softmax(scores, window.visible.unsqueeze(1))
        spread = weights.new_zeros(*weights.shape[:3], keys.shape[2])
        place = window.place.unsqueeze(1).expand_as(weights)
        return self.out((spread.scatter(3, place, weights) @ values).transpose(1, 2).flatten(2))

    def macs_per_token(self, t: int | None = None) -> int:
        """Projections, scores and the weighted sum."""
        projections = (self.query, self.keys_values, self.out)
        return sum(linear_macs(part) for part in projections) + self.held(t) * self.entry_dim


@register(
    "memory",
    "hybrid",
    family="composition",
    source="composition: sliding-window attention beside a compressive memory, gated",
    variants=({"window": 5, "heads": 1, "head_dim": 3, "memory": {"name": "ssd"}},),
)
class Hybrid(Composed):
    """Parts ``window`` and ``memory``."""

    Config = HybridConfig

    def __init__(self, config: HybridConfig) -> None:
        super().__init__(config)
        self.config: HybridConfig = config
        self.gate = nn.Linear(config.in_dim + 2 * config.out_dim, config.out_dim)
        self.skip = skip_connection(config.in_dim, config.out_dim)

    @classmethod
    def plans(cls, config: MemoryConfig) -> dict[str, Plan]:
        """Return both parts."""
        assert isinstance(config, HybridConfig)
        window = WindowAttentionConfig(config.in_dim, config.out_dim, config.window, config.heads, config.head_dim)
        memory = plan(config.memory, "memory", config.in_dim, config.out_dim)
        return {"window": (WindowAttention, window), "memory": memory}

    def own_macs(self) -> int:
        """Gate and skip."""
        return linear_macs(self.gate) + linear_macs(self.skip)

    def forward_step(
        self, inputs: MemoryInput, state: State, reset: Tensor | None, *, donate: bool, **soft: Any
    ) -> tuple[Tensor, State]:
        """Advance one token; see `MemoryModule.step`."""
        near, window = self.step_part("window", inputs, state, reset, donate=donate, **soft)
        far, memory = self.step_part("memory", inputs, state, reset, donate=donate, **soft)
        return self._mix(inputs.x, near, far), window | memory

    def forward_sequence(
        self,
        inputs: MemoryInput,
        state: State,
        resets: Tensor | None,
        *,
        valid: Tensor | None,
        chunk: int | None,
        **soft: Any,
    ) -> tuple[Tensor, State]:
        """Advance T tokens; see `MemoryModule.sequence`."""
        near, window = self.run_part("window", inputs, state, resets, valid=valid, chunk=chunk, **soft)
        far, memory = self.run_part("memory", inputs, state, resets, valid=valid, chunk=chunk, **soft)
        return self._mix(inputs.x, near, far), window | memory

    def _mix(self, x: Tensor, near: Tensor, far: Tensor) -> Tensor:
        """x (..., in_dim), near and far (..., out_dim) -> output (..., out_dim)."""
        gate = self.gate(torch.cat([x, near, far], -1)).sigmoid()
        return self.skip(x) + torch.lerp(far, near, gate)
