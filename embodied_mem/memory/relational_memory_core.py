"""Relational memory core: a few slots that attend to each other and to the input, then gate what they keep.

    R   = [M ; W x];   repeated ``blocks`` times:  R = LN(R + attention(R)),  R = LN(R + MLP(R))
    i   = sig(W_i x + U_i tanh(M) + b_i),  f = sig(W_f x + U_f tanh(M) + b_f)
    M'  = i * tanh(rows of M in R) + f * M,     y = W [M'_1, .., M'_S] + b

Queries, keys and values come from one linear map with a layer norm over the whole vector; the weights of attention and
MLP are shared by the blocks. An episode starts with the rows of the identity, cut or padded with zeros, so that slots
differ; beyond the width of a slot they would be equal, which the config refuses.

Limits: no parallel form. The output is a linear map of all slots, because S times the width is large.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, State, StateSpec
from embodied_mem.memory.slot_loop import SlotLoop, Token, linear_macs
from embodied_mem.registry import register

__all__ = ["RelationalMemoryCore", "RelationalMemoryCoreConfig"]

_FORGET_BIAS = 1.0
_INPUT_BIAS = 0.0


@dataclass(frozen=True)
class RelationalMemoryCoreConfig(MemoryConfig):
    """Slots, attention and gates."""

    slots: int = 4
    """Slots S."""
    heads: int = 4
    """Attention heads."""
    head_dim: int = 16
    """Width of a head; a slot is heads * head_dim wide."""
    blocks: int = 1
    """Rounds of attention and MLP per step, with shared weights."""
    gate: Literal["unit", "memory", "none"] = "unit"
    """A gate per element, per slot, or none: the slots are then replaced."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("slots", "heads", "head_dim", "blocks"):
            if getattr(self, name) < 1:
                raise UsageError(f"expected {name} >= 1, got {getattr(self, name)}")
        if self.slots > self.heads * self.head_dim:
            raise UsageError(
                f"expected slots <= heads * head_dim = {self.heads * self.head_dim}, got {self.slots}: "
                "more slots than their width would start equal and stay equal"
            )


@register(
    "memory",
    "relational_memory_core",
    family="slots",
    source="Santoro et al. 2018, arXiv 1806.01822",
    variants=({"gate": "memory", "blocks": 2, "slots": 3, "head_dim": 3}, {"gate": "none", "heads": 1}),
)
class RelationalMemoryCore(SlotLoop):
    """Slots M (S, W) with attention among themselves and to the input."""

    Config = RelationalMemoryCoreConfig

    def __init__(self, config: RelationalMemoryCoreConfig) -> None:
        super().__init__(config)
        self.config: RelationalMemoryCoreConfig = config
        W = self.width = config.heads * config.head_dim
        gates = {"unit": W, "memory": 1, "none": 0}[config.gate]
        self.gates = gates
        self.embed = nn.Linear(config.in_dim, W)
        self.qkv = nn.Linear(W, 3 * W)
        self.norm_qkv = nn.LayerNorm(3 * W)
        self.norm_attention, self.norm_mlp = nn.LayerNorm(W), nn.LayerNorm(W)
        self.mlp = nn.Sequential(nn.Linear(W, W), nn.ReLU(), nn.Linear(W, W), nn.ReLU())
        self.gate_input = nn.Linear(config.in_dim, 2 * gates) if gates else None
        self.gate_memory = nn.Linear(W, 2 * gates, bias=False) if gates else None
        if self.gate_input is not None:
            nn.init.constant_(self.gate_input.bias[:gates], _INPUT_BIAS)
            nn.init.constant_(self.gate_input.bias[gates:], _FORGET_BIAS)
        self.readout = nn.Linear(config.slots * W, config.out_dim)
        self.start: Tensor
        self.register_buffer("start", torch.eye(config.slots, W), persistent=False)

    def state_spec(self) -> dict[str, StateSpec]:
        """Slots ``M`` (S, W)."""
        return {"M": StateSpec((self.config.slots, self.width))}

    def starts(self) -> dict[str, Tensor | float]:
        """Return the rows of the identity."""
        return {"M": self.start}

    def macs_per_token(self, t: int | None = None) -> int:
        """Projections of all slots, attention, MLP, gates and readout."""
        S, W, blocks = self.config.slots, self.width, self.config.blocks
        per_block = (S + 1) * linear_macs(self.qkv) + 2 * S * (S + 1) * W + S * linear_macs(self.mlp)
        gates = 0
        if self.gate_input is not None and self.gate_memory is not None:
            gates = linear_macs(self.gate_input) + S * linear_macs(self.gate_memory)
        return linear_macs(self.embed) + blocks * per_block + gates + linear_macs(self.readout)

    def prepare(self, inputs: MemoryInput) -> Token:
        """Embed the input and its share of the gates."""
        row = self.embed(inputs.x)
        return (row,) if self.gate_input is None else (row, self.gate_input(inputs.x))

    def advance(self, token: Token, state: State, *, donate: bool) -> tuple[Tensor, State]:
        """Attend, gate, and read all slots."""
        M = state["M"]
        rows = torch.cat([M, token[0].unsqueeze(1)], 1)
        for _ in range(self.config.blocks):
            rows = self.norm_attention(rows + self._attention(rows))
            rows = self.norm_mlp(rows + self.mlp(rows))
        new = rows[:, :-1].tanh()
        if self.gate_memory is not None:
            gates = (token[1].unsqueeze(1) + self.gate_memory(M.tanh())).sigmoid()
            keep_new, keep_old = gates.split(self.gates, -1)
            new = keep_new * new + keep_old * M
        return new.flatten(1), {"M": new}

    def emit(self, token: Token, read: Tensor) -> Tensor:
        """Map all slots (..., S W) to the output."""
        return self.readout(read)

    def _attention(self, rows: Tensor) -> Tensor:
        """(n, R, W) -> (n, R, W)."""
        n, R, _ = rows.shape
        qkv = self.norm_qkv(self.qkv(rows)).view(n, R, 3, self.config.heads, -1).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(*qkv.unbind(0)).transpose(1, 2).reshape(n, R, -1)
