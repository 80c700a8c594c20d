"""Minimal gated recurrent unit: gates read the input only, so a sequence is one linear scan.

    z = sig(W_z x + b_z),  n = W_h x + b_h  (with ``positive``: n + 0.5 where n >= 0, else sig(n))
    h = where(reset, h0, (1 - z) * h') + z * n

At a reset the previous value is replaced by h0, not scaled. The log-space cumulative form of the paper is not used:
with a reset written as a constant it loses 1e-3 in float32 or gives NaN (gated_recurrent.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, MemoryModule, State, StateSpec
from embodied_mem.memory.scan import linear_scan
from embodied_mem.registry import register

__all__ = ["MinGRU", "MinGRUConfig"]


@dataclass(frozen=True)
class MinGRUConfig(MemoryConfig):
    """Config of `MinGRU`."""

    width: int | None = None
    """Hidden units of a layer; None for out_dim. Another width adds an output projection."""
    layers: int = 1
    """Layers, each reading the one below."""
    positive: bool = False
    """Keep the candidate, and so the state, positive."""
    learned_init: bool = False
    """Learn the state an episode starts from, instead of zeros."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers < 1 or (self.width is not None and self.width < 1):
            raise UsageError(f"expected layers and width >= 1, got layers={self.layers}, width={self.width}")


@register(
    "memory",
    "min_gru",
    family="gated",
    source="Feng et al. 2024, Were RNNs all we needed?",
    variants=({"layers": 2, "width": 5, "learned_init": True, "positive": True},),
)
class MinGRU(MemoryModule):
    """Minimal GRU with resets inside the scan."""

    Config = MinGRUConfig
    properties = frozenset({"compilable"})
    parallel = "scan"

    def __init__(self, config: MinGRUConfig) -> None:
        super().__init__(config)
        self.layers, self.width, self.positive = config.layers, config.width or config.out_dim, config.positive
        widths = [config.in_dim] + [self.width] * (config.layers - 1)
        self.gates = nn.ModuleList([nn.Linear(width, 2 * self.width) for width in widths])
        self.readout = None if self.width == config.out_dim else nn.Linear(self.width, config.out_dim)
        self.start = nn.Parameter(torch.zeros(self.layers, self.width)) if config.learned_init else None

    def state_spec(self) -> dict[str, StateSpec]:
        """Return the state of every layer."""
        return {"h": StateSpec((self.layers, self.width))}

    def fresh(self, key: str, spec: StateSpec, n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return the state of an episode's start, (n, layers, width)."""
        if self.start is None:
            return super().fresh(key, spec, n, device, dtype)
        return self.start.to(device, dtype).expand(n, -1, -1).contiguous()

    def forward_step(
        self, inputs: MemoryInput, state: State, reset: Tensor | None, *, donate: bool
    ) -> tuple[Tensor, State]:
        """Advance every layer by one token."""
        carried = state["h"].unbind(1)
        x, after = inputs.x, []
        for layer, h in enumerate(carried):
            z, n = self._gates(x, layer)
            if reset is not None:
                # before the product: its gradient would carry a NaN of the old episode to z
                h = h.masked_fill(reset.unsqueeze(1), 0)
            x = torch.lerp(h, n, z)
            if reset is not None and self.start is not None:
                x = torch.where(reset.unsqueeze(1), self.start[layer] + x, x)
            after.append(x)
        h = after[0].unsqueeze(1) if self.layers == 1 else torch.stack(after, 1)
        return (x if self.readout is None else self.readout(x)), {"h": h}

    def forward_sequence(
        self, inputs: MemoryInput, state: State, resets: Tensor | None, *, valid: Tensor | None, chunk: int | None
    ) -> tuple[Tensor, State]:
        """Scan every layer over all tokens."""
        x, after = inputs.x, []
        for layer, h in enumerate(state["h"].unbind(1)):
            z, n = self._gates(x, layer)
            new = z * n
            if resets is not None and self.start is not None:
                new = torch.where(resets.unsqueeze(-1), self.start[layer] + new, new)
            keep = 1 - z
            if valid is not None:
                keep = torch.where(valid.unsqueeze(-1), keep, 1)
                new = torch.where(valid.unsqueeze(-1), new, 0)
            x = linear_scan(keep, new, resets, h)
            after.append(x[:, -1])
        return (x if self.readout is None else self.readout(x)), {"h": torch.stack(after, 1)}

    def macs_per_token(self, t: int | None = None) -> int:
        """Return multiply-accumulates of one step."""
        readout = 0 if self.readout is None else self.readout.weight.numel()
        return readout + 2 * self.width * (self.in_dim + (self.layers - 1) * self.width)

    def _gates(self, x: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        z, n = self.gates[layer](x).chunk(2, -1)
        if self.positive:
            n = torch.where(n >= 0, n + 0.5, n.sigmoid())
        return z.sigmoid(), n
