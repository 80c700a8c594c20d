"""Recurrent memory transformer: memory tokens read before a segment and written after it.

    segment of layer 0:  [m_1 .. m_S | e_1 .. e_L | m_1 .. m_S]
    M' = LN(output at the last S tokens),   with a gate:  M <- sig(g) M' + (1 - sig(g)) M

Tokens in front attend to each other, a segment token to those and causally to its segment, tokens at the end to
everything. M at the start of an episode is learned. The layer norm of M' keeps it in range over many more segments than
were trained on; the gate (``gate``) lets a memory stay by default (sig(-1) = 0.27 is new).

Keys and values of the front tokens are computed once per segment, so a step costs one token. Gradients pass through
every segment of a `sequence` call: rows cut them (the paper uses 4 to 7 segments, growing in training).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from embodied_mem.memory.contract import State, StateSpec
from embodied_mem.memory.segment_policy import SegmentConfig, SegmentMemory, place_after
from embodied_mem.memory.window_memory import check_positive
from embodied_mem.registry import register

__all__ = ["RMT", "RMTConfig"]

_GATE_BIAS = -1.0


@dataclass(frozen=True)
class RMTConfig(SegmentConfig):
    """Memory tokens. Published scale: 10 to 16 tokens, segments of 128 to 512."""

    memory_tokens: int = 8
    """Memory tokens S."""
    gate: bool = False
    """Mix the new memory with the old by learned weights, instead of replacing it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "memory_tokens")


@register(
    "memory",
    "rmt",
    family="segment",
    source="Bulatov et al. 2022, arXiv 2207.06881",
    variants=({"segment": 5, "width": 8, "layers": 2, "memory_tokens": 3, "gate": True},),
)
class RMT(SegmentMemory):
    """Memory tokens M (S, D) and their keys and values."""

    Config = RMTConfig

    def __init__(self, config: RMTConfig) -> None:
        super().__init__(config)
        self.config: RMTConfig = config
        self.start = nn.Parameter(torch.randn(config.memory_tokens, config.width))
        self.gate = nn.Parameter(torch.full((config.width,), _GATE_BIAS)) if config.gate else None

    def held_spec(self) -> dict[str, StateSpec]:
        """``M`` (S, D) and ``front`` (S, 2 L D), its keys and values."""
        c = self.config
        return {
            "M": StateSpec((c.memory_tokens, c.width)),
            "front": StateSpec((c.memory_tokens, 2 * c.layers * c.width)),
        }

    def starts(self) -> dict[str, Tensor | int]:
        """Return the learned memory."""
        return {"M": self.start, "front": self._front(self.start.unsqueeze(0)).squeeze(0)}

    def memory_macs(self) -> tuple[int, int]:
        """Attention to the front; tokens at the end, then at the front."""
        S, c = self.config.memory_tokens, self.config
        return 2 * c.layers * S * c.width, self.encode_macs(S, S + c.segment) + self.encode_macs(S, 0)

    def prefix(self, held: State) -> tuple[Tensor, Tensor]:
        """Show the memory tokens."""
        front = held["front"]
        return front, torch.ones(front.shape[:2], dtype=torch.bool, device=front.device)

    def origin(self, held: State) -> int:
        """Segments follow the memory tokens."""
        return self.config.memory_tokens

    def close(self, held: State, segment: Tensor, length: Tensor) -> State:
        """Read the segment by memory tokens at its end."""
        S, old = self.config.memory_tokens, held["M"]
        every = torch.ones(S, S, dtype=torch.bool, device=old.device)
        new = self.norm(self.attend(old, place_after(length, S), held, segment, length, every).out)
        if self.gate is not None:
            new = torch.lerp(old, new, self.gate.sigmoid())
        return {"M": new, "front": self._front(new)}

    def _front(self, M: Tensor) -> Tensor:
        """M (R, S, D) -> keys and values (R, S, 2 L D)."""
        R, S, _ = M.shape
        nothing = M.new_zeros(R, 0, 2 * self.config.layers * self.config.width)
        every = torch.ones(S, S, dtype=torch.bool, device=M.device)
        place = torch.arange(S, device=M.device).expand(R, S)
        return self.encode(M, place, nothing, torch.zeros(R, 0, dtype=torch.bool, device=M.device), every)
