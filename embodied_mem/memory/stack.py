"""Memories on top of each other: every layer reads what the one below it puts out.

    y_0 = x,   y_l = memory_l(y_{l-1}),   y = y_L

What a memory needs besides x (tokens, depth, pose) every layer gets as it came. Put `residual` around a layer for the
usual block; the default is two such blocks of `gated_delta`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from embodied_mem.errors import UsageError
from embodied_mem.memory.composition import Composed, Part, Plan, plan, under, within
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, MemoryModule, State
from embodied_mem.registry import register

__all__ = ["Stack", "StackConfig"]


@dataclass(frozen=True)
class StackConfig(MemoryConfig):
    """The layers."""

    layers: tuple[Part, ...] = (Part("residual"), Part("residual"))
    """Memories from the input to the output; a layer's width is ``out_dim`` unless its own config names another."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.layers:
            raise UsageError("expected at least one layer in a stack, got none")


@register(
    "memory",
    "stack",
    family="composition",
    source="composition: layers of memories",
    variants=(
        {"layers": [{"name": "min_gru", "config": {"out_dim": 5}}, {"name": "hopfield", "config": {"slots": 12}}]},
    ),
)
class Stack(Composed):
    """Layers ``layer0``, ``layer1``, ..."""

    Config = StackConfig

    @classmethod
    def plans(cls, config: MemoryConfig) -> dict[str, Plan]:
        """Return the layers, each as wide at its input as the one below at its output."""
        assert isinstance(config, StackConfig)
        plans, width, last = {}, config.in_dim, len(config.layers) - 1
        for i, part in enumerate(config.layers):
            out = config.out_dim if i == last else part.config.get("out_dim", config.out_dim)
            plans[f"layer{i}"] = plan(part, f"layers[{i}]", width, out)
            width = out
        return plans

    def own_macs(self) -> int:
        """Return 0: layers are joined by nothing."""
        return 0

    def forward_step(
        self, inputs: MemoryInput, state: State, reset: Tensor | None, *, donate: bool, **soft: Any
    ) -> tuple[Tensor, State]:
        """Advance every layer by one token; see `MemoryModule.step`."""
        new: State = {}
        for name in self.parts:
            y, held = self.step_part(name, inputs, state, reset, donate=donate, **soft)
            inputs, new = inputs._replace(x=y), new | held
        return inputs.x, new

    def forward_sequence(
        self,
        inputs: MemoryInput,
        state: State,
        resets: Tensor | None,
        *,
        valid: Tensor | None,
        chunk: int | None,
        soft_resets: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Run every layer over all tokens; see `MemoryModule.sequence`."""
        new: State = {}
        for name, part in self.inner().items():
            # the contract's own call: it zeroes padding, and keeps what overflowed below in its episode
            y, held = _call(part, inputs, under(state, name), resets, valid, chunk, soft_resets)
            inputs = inputs._replace(x=y)
            new.update(within(name, held))
        return inputs.x, new


def _call(
    part: MemoryModule,
    inputs: MemoryInput,
    state: State,
    resets: Tensor | None,
    valid: Tensor | None,
    chunk: int | None,
    soft: Tensor | None,
) -> tuple[Tensor, State]:
    soft = soft if "soft_reset" in part.properties else None
    y, new = part.sequence(inputs, state, resets, valid=valid, chunk=chunk, soft_resets=soft)
    return (y if valid is None else torch.where(valid.unsqueeze(-1), y, 0)), new
