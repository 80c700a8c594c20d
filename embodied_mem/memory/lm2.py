"""LM2: a bank of slots beside every layer, read by all tokens and gated once per segment.

    read, every token:   r = attention(LN(h), M, M),     h <- h + self-attention + sig(W_o r) * r
    at the end of a segment, E the layer's inputs after LN:
        N   = attention(M, [M; E], [M; E])
        g_i = sig(W_i mean(E) + b_i),   g_f = sig(U tanh(M) + 1),     M <- g_i * tanh(N) + g_f * M

Slots start as learned rows, at first those of the identity. The update is that of a relational memory core whose input
is the segment: slots see each other without a causal order and attend to tokens, where the published code resamples the
segment to as many positions as slots. Tokens of an earlier episode are in no segment, so nothing pools them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import State, StateSpec
from embodied_mem.memory.segment_policy import SegmentConfig, SegmentMemory
from embodied_mem.memory.slot_loop import linear_macs
from embodied_mem.memory.window_memory import check_positive
from embodied_mem.registry import register

__all__ = ["LM2", "LM2Config"]

_FORGET_BIAS = 1.0


@dataclass(frozen=True)
class LM2Config(SegmentConfig):
    """Bank of every layer. Published scale: 2048 slots of width 2048 in a model of 1.2 billion weights."""

    slots: int = 8
    """Slots N."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "slots")
        if self.slots > self.width:
            raise UsageError(f"expected slots <= width = {self.width}, got {self.slots}: more would start equal")


@register(
    "memory",
    "lm2",
    family="segment",
    source="Kang et al. 2025, LM2: Large Memory Models, arXiv 2502.06049",
    variants=({"segment": 5, "width": 8, "layers": 2, "slots": 3},),
)
class LM2(SegmentMemory):
    """Slots M (L, N, D)."""

    Config = LM2Config

    def __init__(self, config: LM2Config) -> None:
        super().__init__(config)
        self.config: LM2Config = config
        D = config.width
        self.extra_dim = config.layers * D
        self.banks = nn.ModuleList(_Bank(D, config.heads) for _ in range(config.layers))
        self.start = nn.Parameter(torch.eye(config.slots, D).repeat(config.layers, 1, 1))

    def held_spec(self) -> dict[str, StateSpec]:
        """``M`` (L, N, D)."""
        c = self.config
        return {"M": StateSpec((c.layers, c.slots, c.width))}

    def starts(self) -> dict[str, Tensor | int]:
        """Return the learned slots."""
        return {"M": self.start}

    def memory_macs(self) -> tuple[int, int]:
        """Maps of tokens and slots to read, scores and sums; maps of the segment and the slots to write, and gates."""
        c = self.config
        L, N, D = c.layers, c.slots, c.width
        maps = linear_macs(self.banks) // L
        read = 2 * D * D + N * 2 * D * D + 2 * N * D
        write = (N + c.segment) * 2 * D * D + maps + 2 * N * (N + c.segment) * D
        return L * read, L * write

    def record(self, e: Tensor, inputs: list[Tensor]) -> list[Tensor]:
        """Keep the inputs of the layers."""
        return inputs

    def mixed(self, layer: int, h: Tensor, local: Tensor, held: State) -> Tensor:
        """Add what the slots answer, gated by itself."""
        bank = cast(_Bank, self.banks[layer])
        read = bank.read(h, held["M"][:, layer])
        return h + local + bank.out(read).sigmoid() * read

    def close(self, held: State, segment: Tensor, length: Tensor) -> State:
        """Write every bank from its layer's inputs."""
        c = self.config
        inputs = segment[..., -self.extra_dim :].unflatten(2, (c.layers, c.width)).unbind(2)
        exists = torch.arange(segment.shape[1], device=length.device) < length.unsqueeze(1)
        parts = zip(cast(Iterable[_Bank], self.banks), held["M"].unbind(1), inputs)
        banks = [bank.write(M, E, exists) for bank, M, E in parts]
        return {"M": torch.stack(banks, 1)}


class _Bank(nn.Module):
    """Maps and gates of one layer's slots."""

    def __init__(self, D: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(D)
        self.query, self.slots = nn.Linear(D, D), nn.Linear(D, 2 * D)
        self.out = nn.Linear(D, D)
        self.asked, self.offered = nn.Linear(D, D), nn.Linear(D, 2 * D)
        self.gate_input, self.gate_forget = nn.Linear(D, D), nn.Linear(D, D)
        nn.init.constant_(self.gate_forget.bias, _FORGET_BIAS)

    def read(self, h: Tensor, M: Tensor) -> Tensor:
        """Tokens h (R, Q, D) attend to slots M (R, N, D): (R, Q, D)."""
        return self._attention(self.query(self.norm(h)), self.slots(M), None)

    def write(self, M: Tensor, E: Tensor, exists: Tensor) -> Tensor:
        """Return the slots (R, N, D) after tokens E (R, W, D), of which those that exist (R, W) bool count."""
        E = torch.where(exists.unsqueeze(2), self.norm(E), 0)
        every = exists.new_ones(M.shape[:2])
        visible = torch.cat([every, exists], 1).unsqueeze(1).unsqueeze(1)
        new = self._attention(self.asked(M), self.offered(torch.cat([M, E], 1)), visible)
        pooled = E.sum(1) / exists.sum(1, keepdim=True).clamp(min=1)
        keep_new = self.gate_input(pooled).sigmoid().unsqueeze(1)
        return keep_new * new.tanh() + self.gate_forget(M.tanh()).sigmoid() * M

    def _attention(self, q: Tensor, kv: Tensor, visible: Tensor | None) -> Tensor:
        key, value = kv.chunk(2, -1)
        q, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (q, key, value))
        return F.scaled_dot_product_attention(q, key, value, visible).transpose(1, 2).flatten(2)
