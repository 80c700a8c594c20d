"""`TokenMemory`: any registered memory between the tokens of a frame and the fused tokens that actions are made from.

A memory that has a form for tokens (``token_options``: the perceptual-cognitive bank) reads and returns them. Any other
reads them as one vector, and what it returns is mapped to retrieved tokens r and joined with the current ones x:

    gate     x~ = g * x + (1 - g) * r,   g = sig(W [x, r] + b)     one gate per stream
    add      x~ = x + r
    prefix   the expert sees the perceptual tokens [x, x~ of gate], and the current cognitive token
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from embodied_mem import registry
from embodied_mem.config import from_dict
from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryInput, MemoryModule, State

_GATE_STD = 1e-3
OWN = ("tokens",)
"""Extra inputs of a memory that this class provides itself."""


def find_memory(name: str) -> type[MemoryModule]:
    """Return the memory ``name``: one of all memories, or one that reads a policy's tokens only (``token_memory``).

    Raises:
        UsageError: there is none.
    """
    kind = "token_memory" if name in registry.names("token_memory") else "memory"
    return registry.get(kind, name)


class TokenMemory(nn.Module):
    """Perceptual tokens (..., P, D_p) and a cognitive token (..., D_c) to the fused ones, through a memory."""

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any],
        *,
        tokens: int,
        width: int,
        cognitive: int,
        fusion: Literal["gate", "add", "prefix"] = "gate",
    ) -> None:
        """Build the memory.

        Args:
            name: registered memory.
            options: of its config, without the widths that follow from the tokens.
            tokens: perceptual tokens P of a frame.
            width: D_p of a perceptual token.
            cognitive: D_c of the cognitive token.
            fusion: see the module docstring.

        Raises:
            UsageError: the memory or an option does not exist, or a width is given that follows from the tokens.
        """
        super().__init__()
        cls = find_memory(name)
        self.shape, self.fusion, total = (tokens, width), fusion, tokens * width + cognitive
        form = getattr(cls, "token_options", None)
        self.direct = form is not None
        fixed = {"in_dim": total} if form is None else form(tokens, width, cognitive)
        for key, value in fixed.items():
            if options.get(key, value) != value:
                raise UsageError(f"expected memory_config.{key} = {value}, which the tokens set, got {options[key]}")
        own = {}
        if form is not None and "fusion" in {item.name for item in dataclasses.fields(cls.Config)}:
            own = {"fusion": "add" if fusion == "add" else options.get("fusion", "gate")}
        self.memory = cls(from_dict(cls.Config, {**options, **own, **fixed}))
        self.needs = tuple(sorted(self.memory.needs - set(OWN)))
        if not self.direct:
            self.retrieved = nn.Linear(self.memory.out_dim, total)
            if fusion != "add":
                self.gates = nn.ModuleList([_gate(width), _gate(cognitive)])

    @property
    def properties(self) -> frozenset[str]:
        """Properties of the memory, see `memory.contract`."""
        return self.memory.properties

    @property
    def perceptual(self) -> int:
        """Perceptual tokens that the expert sees."""
        return self.shape[0] * (2 if self.fusion == "prefix" else 1)

    def initial_state(self, n: int, device: torch.device | str | None = None) -> State:
        """Return the memory's state of ``n`` fresh episodes."""
        return self.memory.initial_state(n, device)

    def step(
        self, perceptual: Tensor, cognitive: Tensor, state: State, reset: Tensor | None, extra: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, State]:
        """Fuse one frame per row.

        Args:
            perceptual: (B, P, D_p) float32.
            cognitive: (B, D_c) float32.
            state: of the memory, leaves (B, ...).
            reset: (B,) bool, True where the frame opens an episode.
            extra: observation entries that the memory needs (``needs``), (B, ...).

        Returns:
            Fused perceptual tokens (B, P', D_p), fused cognitive token (B, D_c), new state.
        """
        y, state = self.memory.step(self._input(perceptual, cognitive, extra), state, reset)
        return *self._fuse(perceptual, cognitive, y), state

    def sequence(
        self,
        perceptual: Tensor,
        cognitive: Tensor,
        state: State | None,
        resets: Tensor | None,
        valid: Tensor | None,
        extra: Mapping[str, Tensor],
    ) -> tuple[Tensor, Tensor, State]:
        """Fuse whole rows: as `step` with a time axis; ``valid`` (B, T) bool is False on right padding."""
        inputs = self._input(perceptual, cognitive, extra)
        y, state = self.memory.sequence(inputs, state, resets, valid=valid)
        return *self._fuse(perceptual, cognitive, y), state

    def _input(self, perceptual: Tensor, cognitive: Tensor, extra: Mapping[str, Tensor]) -> Tensor | MemoryInput:
        x = torch.cat([perceptual.flatten(-2), cognitive], -1)
        if not self.memory.needs:
            return x
        own = {"tokens": perceptual} if "tokens" in self.memory.needs else {}
        return MemoryInput(x, **own, **{key: extra[key] for key in self.needs})

    def _fuse(self, perceptual: Tensor, cognitive: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        found = y if self.direct else self.retrieved(y)
        parts = found.split([found.shape[-1] - cognitive.shape[-1], cognitive.shape[-1]], -1)
        pair = [(perceptual, parts[0].unflatten(-1, self.shape)), (cognitive, parts[1])]
        if self.direct:
            fused = [new for _, new in pair]
        elif self.fusion == "add":
            fused = [x + new for x, new in pair]
        else:
            fused = [_gated(gate, x, new) for gate, (x, new) in zip(self.gates, pair)]
        if self.fusion == "prefix":
            return torch.cat([perceptual, fused[0]], -2), cognitive
        return fused[0], fused[1]


def _gate(width: int) -> nn.Linear:
    gate = nn.Linear(2 * width, width)
    nn.init.normal_(gate.weight, std=_GATE_STD)
    nn.init.normal_(gate.bias, std=_GATE_STD)
    return gate


def _gated(gate: nn.Module, x: Tensor, retrieved: Tensor) -> Tensor:
    g = gate(torch.cat([x, retrieved], -1)).sigmoid()
    return g * x + (1 - g) * retrieved
