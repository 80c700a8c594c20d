"""Gated linear attention: fast weights that forget by a gate per key channel, chosen by the input.

    S = where(reset, S_init, diag(exp(a)) S') + k^T v,   o = q S,   a = logsigmoid(W2 W1 x + b) / temperature
    y = skip(x) + W (rmsnorm_h(o) * silu(W x))

The channels of a head start with half-lives spaced evenly in the logarithm. The sequence form weights products of
queries and keys channel by channel with masked exact differences (`chunk_core`), at most 16 tokens per chunk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.fast_weights import (
    FastWeights,
    FastWeightsConfig,
    Token,
    half_life_spread,
    split_heads,
    uniform,
)
from embodied_mem.registry import register

__all__ = ["GLA", "GLAConfig"]


@dataclass(frozen=True)
class GLAConfig(FastWeightsConfig):
    """Config of `GLA`."""

    gate_rank: int = 16
    """Rank of the map from input to gates."""
    temperature: float = 16.0
    """Divides the log gate, so that gates lie near 1."""
    shortest_half_life: float = 4.0
    """Initial half-life in steps of the fastest forgetting channel."""
    longest_half_life: float = 1024.0
    """Initial half-life in steps of the slowest forgetting channel."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gate_rank < 1 or self.temperature <= 0:
            raise UsageError(
                f"expected gate_rank >= 1 and temperature > 0, got {self.gate_rank} and {self.temperature}"
            )
        half_life_spread(self.shortest_half_life, self.longest_half_life, 1)


@register(
    "memory",
    "gla",
    family="linear",
    source="Yang et al. 2024, Gated linear attention transformers",
    variants=({"conv": 1, "learned_init": True, "key_dim": 12, "value_dim": 20, "gate_rank": 3, "chunk": 4},),
)
class GLA(FastWeights):
    """Fast weights with a gate per channel."""

    Config = GLAConfig

    def __init__(self, config: GLAConfig) -> None:
        H, K, V = config.heads, config.key_dim, config.value_dim
        super().__init__(config, H * (2 * K + V), H * V, torch.zeros(config.gate_rank))
        self.config: GLAConfig = config
        self.gate_weight = nn.Parameter(uniform(config.gate_rank, H * K))
        half_life = half_life_spread(config.shortest_half_life, config.longest_half_life, K)
        log_gate = -config.temperature * math.log(2) / half_life
        # the logit whose logsigmoid is log_gate
        self.gate_bias = nn.Parameter((log_gate - torch.log(-torch.expm1(log_gate))).repeat(H))

    def token(self, pre: Tensor, gates: Tensor, position: Tensor | None) -> Token:
        """Form the gates."""
        q, k, v = split_heads(pre, self.config)
        log_decay = F.logsigmoid(gates @ self.gate_weight + self.gate_bias) / self.config.temperature
        return Token(q, k, v, log_decay.view(k.shape))

    def macs_per_token(self, t: int | None = None) -> int:
        """As the family, the second map of the gates, and one decay of the fast weights."""
        return super().macs_per_token(t) + self.gate_weight.numel()
