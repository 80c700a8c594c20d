"""A memory in a block: normalised input, skip connection, and a feed-forward layer where asked for.

    h = skip(x) + memory(norm(x)),   y = h + W_2 gelu(W_1 norm(h))

``skip=False`` with a norm is pre-normalisation alone; ``norm: none`` with the skip is a plain residual connection;
``mlp`` hidden units make it the block of a transformer. The skip is the identity where the widths agree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.memory.composition import Composed, Part, Plan, plan, skip_connection
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, State
from embodied_mem.memory.slot_loop import linear_macs
from embodied_mem.registry import register

__all__ = ["Residual", "ResidualConfig"]

Norm = Literal["rms", "layer", "none"]


@dataclass(frozen=True)
class ResidualConfig(MemoryConfig):
    """The memory, and what is around it."""

    inner: Part = field(default_factory=lambda: Part("gated_delta"))
    """The memory."""
    norm: Norm = "rms"
    """Normalisation of what the memory reads."""
    skip: bool = True
    """Add the input to the output."""
    mlp: int = 0
    """Hidden units of a feed-forward layer after the memory, in a residual block of its own; 0 for none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mlp < 0:
            raise UsageError(f"expected mlp >= 0, got {self.mlp}")


@register(
    "memory",
    "residual",
    family="composition",
    source="composition: pre-norm and skip connection around a memory",
    variants=(
        {"inner": {"name": "lru"}, "norm": "layer", "mlp": 7},
        {"inner": {"name": "residual", "config": {"inner": {"name": "gru"}, "norm": "none"}}, "skip": False},
    ),
)
class Residual(Composed):
    """One memory, ``inner``."""

    Config = ResidualConfig

    def __init__(self, config: ResidualConfig) -> None:
        super().__init__(config)
        self.config: ResidualConfig = config
        self.norm = _norm(config.norm, config.in_dim)
        self.skip = skip_connection(config.in_dim, config.out_dim) if config.skip else None
        self.mlp: nn.Sequential | None = None
        if config.mlp:
            self.mlp = nn.Sequential(
                _norm(config.norm, config.out_dim),
                nn.Linear(config.out_dim, config.mlp),
                nn.GELU(),
                nn.Linear(config.mlp, config.out_dim),
            )

    @classmethod
    def plans(cls, config: MemoryConfig) -> dict[str, Plan]:
        """Return the memory."""
        assert isinstance(config, ResidualConfig)
        return {"inner": plan(config.inner, "inner", config.in_dim, config.out_dim)}

    def own_macs(self) -> int:
        """Skip and feed-forward layer."""
        return sum(linear_macs(part) for part in (self.skip, self.mlp) if part is not None)

    def forward_step(
        self, inputs: MemoryInput, state: State, reset: Tensor | None, *, donate: bool, **soft: Any
    ) -> tuple[Tensor, State]:
        """Advance one token; see `MemoryModule.step`."""
        read = inputs._replace(x=self.norm(inputs.x))
        y, new = self.step_part("inner", read, state, reset, donate=donate, **soft)
        return self._block(inputs.x, y), new

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
        x = self.norm(inputs.x)
        if valid is not None:
            # the bias of a layer norm
            x = torch.where(valid.unsqueeze(-1), x, 0)
        y, new = self.run_part("inner", inputs._replace(x=x), state, resets, valid=valid, chunk=chunk, **soft)
        return self._block(inputs.x, y), new

    def _block(self, x: Tensor, y: Tensor) -> Tensor:
        """x (..., in_dim), y (..., out_dim) of the memory -> output (..., out_dim)."""
        h = y if self.skip is None else self.skip(x) + y
        return h if self.mlp is None else h + self.mlp(h)


def _norm(kind: Norm, width: int) -> nn.Module:
    if kind == "none":
        return nn.Identity()
    # an eps of its own: the default, that of the input's type, would differ between float32 and float64
    return nn.RMSNorm(width, eps=1e-6) if kind == "rms" else nn.LayerNorm(width)
