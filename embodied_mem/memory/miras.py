"""What Moneta, Yaad and Memora share: a regressor with a decaying state, no momentum, and a loss of their own (Miras).

    A_t = alpha_t A_{t-1} - eta_t g_t,   g_t = gradient of the loss at the last boundary (`inner_learner`)

alpha and eta come from the input, per head; eta is theta of `inner_learner`. q and k have unit length, v too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.fast_weights import Token, half_life_spread, softplus_inverse, split_heads, unit
from embodied_mem.memory.inner_learner import InnerLearner, InnerLearnerConfig

__all__ = ["Miras", "MirasConfig"]


@dataclass(frozen=True)
class MirasConfig(InnerLearnerConfig):
    """What the three have in common; the paper's memory is ``mlp``."""

    max_rate: float = 1.0
    """Largest eta."""
    rate: float = 0.2
    """Initial eta."""
    shortest_half_life: float = 16.0
    """Initial half-life in steps of the fastest forgetting head."""
    longest_half_life: float = 1024.0
    """Initial half-life in steps of the slowest forgetting head."""

    def __post_init__(self) -> None:
        super().__post_init__()
        half_life_spread(self.shortest_half_life, self.longest_half_life, 1)
        if not 0 < self.rate < self.max_rate:
            raise UsageError(f"expected 0 < rate < max_rate, got {self.rate} and {self.max_rate}")


class Miras(InnerLearner):
    """Base of the three. ``extra_bias`` starts further gates, H columns each, which `gradient` gets as ``extra``."""

    Config = MirasConfig

    def __init__(self, config: MirasConfig, extra_bias: tuple[float, ...] = ()) -> None:
        H, K, V = config.heads, config.key_dim, config.value_dim
        half_life = half_life_spread(config.shortest_half_life, config.longest_half_life, H)
        share = config.rate / config.max_rate
        bias = [torch.full((H,), math.log(share / (1 - share))), softplus_inverse(math.log(2) / half_life)]
        super().__init__(config, H * (2 * K + V), H * V, torch.cat([*bias, *(torch.full((H,), b) for b in extra_bias)]))
        self.config: MirasConfig = config

    def token(self, pre: Tensor, gates: Tensor, position: Tensor | None) -> Token:
        """Normalise q, k and v; gates become eta, log alpha and what the loss needs."""
        q, k, v = (unit(x) for x in split_heads(F.silu(pre), self.config))
        rate, forget, *more = gates.unflatten(-1, (-1, self.config.heads)).unbind(-2)
        extra = torch.stack(more, -1) if more else None
        return Token(q, k, v, -F.softplus(forget), self.config.max_rate * torch.sigmoid(rate), extra)
