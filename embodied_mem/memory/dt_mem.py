"""Working memory of DT-Mem: slots addressed by content, erased and added to, adapted to a task by low-rank weights.

    w = softmax over slots of beta cos(k, M_i),   beta = 1 + softplus;   candidate a = LN(v + MLP(v)),  v = W x
    M_i <- M_i + w_i (f - 1) * M_i + w_i i * a,   f = sig(W x + U tanh(w M) + 1),  i = sig(W x + U tanh(w M))
    read per head: content addressing of the new M;  y = skip(x) + W reads

f = 1, i = 0 leaves memory as it is. The slots carry from call to call and a token is read when it is written, so no
later token reaches an earlier output (the published memory is drawn anew at every call and has no causal mask). An
episode starts with learned slots, distinct from the first. ``lora_rank`` adds B A x to the maps that write and read;
`adapt` freezes all but these, for a new task.

Limits: no parallel form; one write head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.addressing import content_weights
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, State, StateSpec
from embodied_mem.memory.slot_loop import SlotLoop, Token, linear_macs
from embodied_mem.memory.window_memory import check_positive
from embodied_mem.registry import register

__all__ = ["DTMem", "DTMemConfig"]

_FORGET_BIAS = 1.0


@dataclass(frozen=True)
class DTMemConfig(MemoryConfig):
    """Slots and heads. The published memory has 1290 slots."""

    slots: int = 16
    """Slots N."""
    slot_dim: int = 32
    """Width of a slot."""
    read_heads: int = 2
    """Reading heads."""
    lora_rank: int = 0
    """Rank of the weights for adapting to a task; 0 for none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "slots", "slot_dim", "read_heads")
        if self.lora_rank < 0:
            raise UsageError(f"expected lora_rank >= 0, got {self.lora_rank}")


@register(
    "memory",
    "dt_mem",
    family="slots",
    source="Kang et al. 2023, Think Before You Act, arXiv 2305.16338",
    variants=({"slots": 5, "slot_dim": 6, "read_heads": 1, "lora_rank": 2},),
)
class DTMem(SlotLoop):
    """Slots M (N, W)."""

    Config = DTMemConfig

    def __init__(self, config: DTMemConfig) -> None:
        super().__init__(config)
        self.config: DTMemConfig = config
        N, W, R, rank = config.slots, config.slot_dim, config.read_heads, config.lora_rank
        # write key and strength, value, both gates; read keys and strengths
        self.sizes = (W, 1, W, 2 * W, R * W, R)
        self.project = _LowRank(config.in_dim, sum(self.sizes), rank)
        self.mlp = nn.Sequential(nn.Linear(W, 2 * W), nn.GELU(), nn.Linear(2 * W, W))
        self.norm = nn.LayerNorm(W)
        self.gate_memory = nn.Linear(W, 2 * W, bias=False)
        forget = sum(self.sizes[:3])
        nn.init.constant_(self.project.base.bias[forget : forget + W], _FORGET_BIAS)
        self.start = nn.Parameter(torch.randn(N, W) * W**-0.5)
        self.out = _LowRank(R * W, config.out_dim, rank)
        self.skip = nn.Linear(config.in_dim, config.out_dim, bias=False)

    def state_spec(self) -> dict[str, StateSpec]:
        """Slots ``M`` (N, W)."""
        return {"M": StateSpec((self.config.slots, self.config.slot_dim))}

    def starts(self) -> dict[str, Tensor | float]:
        """Return the learned slots."""
        return {"M": self.start}

    def macs_per_token(self, t: int | None = None) -> int:
        """Projections, candidate, gates, addressing of every head, write and reads."""
        c = self.config
        return linear_macs(self) - self.start.numel() + (2 * c.read_heads + 4) * c.slots * c.slot_dim

    def adapt(self) -> list[nn.Parameter]:
        """Freeze everything but the low-rank weights, and return these for the optimiser of the new task.

        Raises:
            UsageError: the memory was built with ``lora_rank=0``.
        """
        if not self.config.lora_rank:
            raise UsageError("expected lora_rank >= 1 to adapt by low-rank weights, got 0")
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        return [parameter.requires_grad_(True) for part in (self.project, self.out) for parameter in part.low_rank()]

    def prepare(self, inputs: MemoryInput) -> Token:
        """Return write key, strength, candidate, the input's share of the gates, read keys, strengths, skip."""
        key, strength, value, gates, read_keys, read_strengths = self.project(inputs.x).split(self.sizes, -1)
        candidate = self.norm(value + self.mlp(value))
        return (
            key,
            1 + F.softplus(strength),
            candidate,
            gates,
            read_keys,
            1 + F.softplus(read_strengths),
            self.skip(inputs.x),
        )

    def advance(self, token: Token, state: State, *, donate: bool) -> tuple[Tensor, State]:
        """Write, then read."""
        key, strength, candidate, gates, read_keys, read_strengths, _ = token
        M = state["M"]
        weight = content_weights(M, key.unsqueeze(1), strength)
        held = torch.bmm(weight, M).squeeze(1)
        forget, keep_new = (gates + self.gate_memory(held.tanh())).sigmoid().chunk(2, -1)
        weight = weight.transpose(1, 2)
        M = M * (1 - weight * (1 - forget).unsqueeze(1)) + weight * (keep_new * candidate).unsqueeze(1)
        keys = read_keys.unflatten(1, (self.config.read_heads, self.config.slot_dim))
        return torch.bmm(content_weights(M, keys, read_strengths), M).flatten(1), {"M": M}

    def emit(self, token: Token, read: Tensor) -> Tensor:
        """Map all reads (..., R W) to the output."""
        return self.out(read) + token[6]


class _LowRank(nn.Module):
    """W x + b + B A x; B starts at zero, so that adapting starts from the trained memory."""

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.base = nn.Linear(inputs, outputs)
        self.A = nn.Parameter(torch.randn(rank, inputs) * inputs**-0.5) if rank else None
        self.B = nn.Parameter(torch.zeros(outputs, rank)) if rank else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.base(x)
        return y if self.A is None or self.B is None else y + (x @ self.A.T) @ self.B.T

    def low_rank(self) -> list[nn.Parameter]:
        return [] if self.A is None or self.B is None else [self.A, self.B]
