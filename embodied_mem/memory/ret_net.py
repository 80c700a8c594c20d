"""Retention: fast weights with a fixed decay per head and queries and keys turned by their position (RetNet).

    S = where(reset, S_init, gamma_h S') + (R_t k)^T v,   o = (R_t q) S,   gamma_h = 1 - 2^(-5 - h)
    y = skip(x) + W (layernorm_h(o) * silu(W x))

R_t turns pairs of channels by angles proportional to the position t in the episode, so a read depends on how long ago
something was written. The state holds the position as an integer; angles are formed in float64, which keeps them exact
at any age an episode can reach. xPos, whose extra decay gamma already provides, is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.fast_weights import FastWeights, FastWeightsConfig, Token, split_heads
from embodied_mem.registry import register

__all__ = ["RetNet", "RetNetConfig", "rotate"]


@dataclass(frozen=True)
class RetNetConfig(FastWeightsConfig):
    """Config of `RetNet`."""

    rotary_base: float = 10000.0
    """The slowest pair of channels turns by about 1 / ``rotary_base`` radians per step, the fastest by 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.key_dim % 2:
            raise UsageError(f"expected an even key_dim, whose channels turn in pairs, got {self.key_dim}")
        if self.rotary_base <= 1:
            raise UsageError(f"expected rotary_base > 1, got {self.rotary_base}")


@register(
    "memory",
    "ret_net",
    family="linear",
    source="Sun et al. 2023, Retentive network",
    variants=({"conv": 1, "learned_init": True, "key_dim": 12, "value_dim": 20, "chunk": 4},),
)
class RetNet(FastWeights):
    """Fast weights with a fixed decay."""

    Config = RetNetConfig
    clocked = True

    def __init__(self, config: RetNetConfig) -> None:
        H, K, V = config.heads, config.key_dim, config.value_dim
        super().__init__(config, H * (2 * K + V), H * V, torch.zeros(0))
        self.config: RetNetConfig = config
        self.log_gamma: Tensor
        self.register_buffer("log_gamma", torch.log1p(-(2.0 ** (-5 - torch.arange(H)))), persistent=False)

    def token(self, pre: Tensor, gates: Tensor, position: Tensor | None) -> Token:
        """Turn queries and keys by their position."""
        assert position is not None
        q, k, v = split_heads(pre, self.config)
        base = self.config.rotary_base
        return Token(rotate(q, position, base), rotate(k, position, base), v, self.log_gamma.expand(v.shape[:-1]))

    def read(self, o: Tensor, gate: Tensor, token: Token) -> Tensor:
        """Group norm per head, gated."""
        return F.layer_norm(o, o.shape[-1:]).flatten(-2) * F.silu(gate)


def rotate(x: Tensor, position: Tensor, base: float) -> Tensor:
    """Turn pairs (j, j + K/2) of the channels of x (..., H, K) by ``position * base^(-2j/K)``; position (...) int64."""
    half = x.shape[-1] // 2
    speed = base ** (torch.arange(half, dtype=torch.float64, device=x.device) / -half)
    angle = position.to(torch.float64).unsqueeze(-1) * speed
    cos, sin = angle.cos().to(x.dtype).unsqueeze(-2), angle.sin().to(x.dtype).unsqueeze(-2)
    a, b = x.split_with_sizes((half, half), -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
