"""No memory: a feed-forward layer, the control every memory is compared with.

    y = tanh(W x + b)

The state is one int32 counter of the steps of the episode, read by nobody: with it a policy without memory takes the
same path through the trainers as any other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from embodied_mem.memory.contract import MemoryConfig, MemoryInput, MemoryModule, State, StateSpec
from embodied_mem.memory.segments import reset_distance, segment_ids
from embodied_mem.registry import register


@dataclass(frozen=True)
class NoMemoryConfig(MemoryConfig):
    """Config of `NoMemory`."""


@register("memory", "none", family="control", source="control: feed-forward, no memory")
class NoMemory(MemoryModule):
    """Feed-forward layer under the memory contract."""

    Config = NoMemoryConfig
    properties = frozenset({"stateless", "compilable"})
    parallel = "scan"

    def __init__(self, config: NoMemoryConfig) -> None:
        super().__init__(config)
        self.linear = nn.Linear(config.in_dim, config.out_dim)

    def state_spec(self) -> dict[str, StateSpec]:
        """Return the counter ``t``: steps of the episode read so far."""
        return {"t": StateSpec((), torch.int32, "counter")}

    def forward_step(
        self, inputs: MemoryInput, state: State, reset: Tensor | None, *, donate: bool
    ) -> tuple[Tensor, State]:
        """Map one token."""
        t = state["t"] if reset is None else state["t"].masked_fill(reset, 0)
        return torch.tanh(self.linear(inputs.x)), {"t": t + 1}

    def forward_sequence(
        self, inputs: MemoryInput, state: State, resets: Tensor | None, *, valid: Tensor | None, chunk: int | None
    ) -> tuple[Tensor, State]:
        """Map all tokens at once."""
        steps = inputs.x.shape[1]
        real = torch.full_like(state["t"], steps) if valid is None else valid.sum(1, dtype=torch.int32)
        t = state["t"] + real
        if resets is not None:
            since = reset_distance(resets)[:, -1] + 1 - (steps - real)
            t = torch.where(segment_ids(resets)[:, -1] > 0, since.to(torch.int32), t)
        return torch.tanh(self.linear(inputs.x)), {"t": t}

    def macs_per_token(self, t: int | None = None) -> int:
        """Return multiply-accumulates of one step."""
        return self.in_dim * self.out_dim
