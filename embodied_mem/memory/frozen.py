"""A memory whose parameters stay as they are; its state runs as ever, and gradients pass through it to what it reads.

    y = W_out memory(W_in x + b_in) + b_out

The two maps (``adapter``) start as the identity and are all that is trained. Without them the memory is a fixed part of
a network. To freeze what was trained before, load its weights:

    frozen = make_memory("frozen", inner={"name": "gru"}, in_dim=8, out_dim=8)
    frozen.parts["inner"].load_state_dict(trained.state_dict())

Limits: the parameters are frozen by ``requires_grad=False``, so ``requires_grad_(True)`` on a module around it thaws
them; the losses of the memory itself (`aux_losses`) are dropped, since they only train it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from embodied_mem.memory.composition import Composed, Part, Plan, plan
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, State
from embodied_mem.memory.slot_loop import linear_macs
from embodied_mem.registry import register

__all__ = ["Frozen", "FrozenConfig"]


@dataclass(frozen=True)
class FrozenConfig(MemoryConfig):
    """The memory, and whether it is adapted."""

    inner: Part = field(default_factory=lambda: Part("gated_delta"))
    """The memory."""
    adapter: bool = True
    """Learn linear maps before and after the memory."""


@register(
    "memory",
    "frozen",
    family="composition",
    source="composition: fixed parameters, running state",
    variants=({"inner": {"name": "gru"}},),
)
class Frozen(Composed):
    """One memory, ``inner``, without trained parameters."""

    Config = FrozenConfig

    def __init__(self, config: FrozenConfig) -> None:
        super().__init__(config)
        self.config: FrozenConfig = config
        self.parts.requires_grad_(False)
        self.enter, self.leave = (_identity(width, config.adapter) for width in (config.in_dim, config.out_dim))

    @classmethod
    def plans(cls, config: MemoryConfig) -> dict[str, Plan]:
        """Return the memory."""
        assert isinstance(config, FrozenConfig)
        return {"inner": plan(config.inner, "inner", config.in_dim, config.out_dim)}

    def own_macs(self) -> int:
        """Both maps."""
        return linear_macs(self.enter) + linear_macs(self.leave)

    def aux_losses(self) -> dict[str, Tensor]:
        """Return none: there is nothing they could train."""
        return {}

    def forward_step(
        self, inputs: MemoryInput, state: State, reset: Tensor | None, *, donate: bool, **soft: Any
    ) -> tuple[Tensor, State]:
        """Advance one token; see `MemoryModule.step`."""
        read = inputs._replace(x=self.enter(inputs.x))
        y, new = self.step_part("inner", read, state, reset, donate=donate, **soft)
        return self.leave(y), new

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
        x = self.enter(inputs.x)
        if valid is not None:
            x = torch.where(valid.unsqueeze(-1), x, 0)
        y, new = self.run_part("inner", inputs._replace(x=x), state, resets, valid=valid, chunk=chunk, **soft)
        return self.leave(y), new


def _identity(width: int, trained: bool) -> nn.Module:
    if not trained:
        return nn.Identity()
    layer = nn.Linear(width, width)
    nn.init.eye_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
