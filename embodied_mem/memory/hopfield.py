"""Modern Hopfield memory: the last N patterns, retrieved by a few steps down an energy.

    k = unit(W x),  v = W x,  xi_0 = unit(W x);     p_i = softmax_i(beta k_i . xi + code[age_i])
    xi <- sum_i p_i k_i   ``iterations - 1`` times,   read = sum_i p_i v_i,   y = skip(x) + W read

Each iteration lowers ``E(xi) = -lse(beta k . xi + code) / beta + |xi|^2 / 2`` (`energy`). beta is learned per head from
``beta``; the code of the age lets the latest of equal patterns win. ``outlier_efficient`` (default) retrieves by
softmax_1, exp(x_i) / (1 + sum_j exp(x_j)): attention with one more slot of logit 0 and value 0, so that nothing need be
retrieved. An empty memory reads exactly 0 with or without it.

Limits: quadratic in the chunk of the sequence form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryConfig
from embodied_mem.memory.slot_loop import linear_macs
from embodied_mem.memory.window_memory import Window, WindowMemory, check_positive, visible_softmax
from embodied_mem.registry import register

__all__ = ["Hopfield", "HopfieldConfig", "energy", "retrieve"]

_FLOOR = 1e-3


@dataclass(frozen=True)
class HopfieldConfig(MemoryConfig):
    """Patterns and retrieval."""

    slots: int = 64
    """Patterns N."""
    heads: int = 1
    """Independent memories."""
    key_dim: int = 32
    """Width of the stored patterns of a head."""
    value_dim: int = 64
    """Width of what a head returns."""
    iterations: int = 1
    """Retrieval steps; one is attention."""
    beta: float = 8.0
    """Initial inverse temperature; patterns have unit length."""
    outlier_efficient: bool = True
    """Retrieve by softmax_1, which may retrieve nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "slots", "heads", "key_dim", "value_dim", "iterations")
        if self.beta <= 0:
            raise UsageError(f"expected beta > 0, got {self.beta}")


@register(
    "memory",
    "hopfield",
    family="slots",
    source="Ramsauer et al. 2020, arXiv 2008.02217; softmax_1: Hu et al. 2024, arXiv 2404.03828",
    variants=({"slots": 7, "heads": 2, "key_dim": 4, "value_dim": 3, "iterations": 3, "outlier_efficient": False},),
)
class Hopfield(WindowMemory):
    """Ring of patterns and what belongs to them."""

    Config = HopfieldConfig

    def __init__(self, config: HopfieldConfig) -> None:
        super().__init__(config)
        self.config: HopfieldConfig = config
        H, K, V = config.heads, config.key_dim, config.value_dim
        self.slots, self.entry_dim = config.slots, H * (K + V)
        self.query = nn.Linear(config.in_dim, H * K)
        self.key, self.value = nn.Linear(config.in_dim, H * K), nn.Linear(config.in_dim, H * V)
        self.log_beta = nn.Parameter(torch.full((H,), math.log(config.beta)))
        # falls with the logarithm of age, so that the latest of equal patterns wins
        code = -0.1 * torch.log1p(torch.arange(config.slots, dtype=torch.float32))
        self.code = nn.Parameter(code.repeat(H, 1))
        self.out = nn.Linear(H * V, config.out_dim)
        self.skip = nn.Linear(config.in_dim, config.out_dim, bias=False)

    def macs_per_token(self, t: int | None = None) -> int:
        """Projections, and every iteration over the patterns held."""
        c = self.config
        maps = (self.query, self.key, self.value, self.out, self.skip)
        per_pattern = (2 * c.iterations - 1) * c.key_dim + c.value_dim
        return sum(linear_macs(part) for part in maps) + self.held(t) * c.heads * per_pattern

    def entry(self, x: Tensor) -> Tensor:
        """Return pattern and value of every head, (..., H (K + V))."""
        return torch.cat([self._unit(self.key(x)), self.value(x)], -1)

    def read(self, x: Tensor, window: Window) -> Tensor:
        """Retrieve, starting from the projected input."""
        c = self.config
        (n, Q, _), H, K = x.shape, c.heads, c.key_dim
        keys = window.items[..., : H * K].unflatten(2, (H, K)).transpose(1, 2)
        values = window.items[..., H * K :].unflatten(2, (H, c.value_dim)).transpose(1, 2)
        xi = self._unit(self.query(x)).view(n, Q, H, K).transpose(1, 2)
        index = window.place.unsqueeze(1).expand(n, H, Q, -1)
        beta = self.log_beta.exp().view(H, 1, 1)
        for step in range(c.iterations):
            scores = (xi @ keys.transpose(2, 3) * beta).gather(3, index) + self.code.unsqueeze(1)
            p = visible_softmax(scores, window.visible.unsqueeze(1), c.outlier_efficient)
            spread = p.new_zeros(n, H, Q, keys.shape[2]).scatter(3, index, p)
            if step + 1 < c.iterations:
                xi = spread @ keys
        read = (spread @ values).transpose(1, 2).flatten(2)
        return self.out(read) + self.skip(x)

    def _unit(self, x: Tensor) -> Tensor:
        """(..., H K), every head scaled to length 1, or by 1000 where it is shorter than 1e-3."""
        heads = x.unflatten(-1, (self.config.heads, self.config.key_dim))
        return (heads / torch.linalg.vector_norm(heads, dim=-1, keepdim=True).clamp_min(_FLOOR)).flatten(-2)


def retrieve(xi: Tensor, patterns: Tensor, beta: float, null_slot: bool = False) -> Tensor:
    """Return the state after one retrieval step: xi (n, K), patterns (n, N, K) -> (n, K)."""
    scores = beta * (patterns @ xi.unsqueeze(2)).squeeze(2)
    p = visible_softmax(scores, torch.ones_like(scores, dtype=torch.bool), null_slot)
    return (p.unsqueeze(1) @ patterns).squeeze(1)


def energy(xi: Tensor, patterns: Tensor, beta: float, null_slot: bool = False) -> Tensor:
    """Return ``-lse(beta patterns . xi) / beta + |xi|^2 / 2``: xi (n, K), patterns (n, N, K) -> (n,).

    ``null_slot`` counts a pattern 0 in the lse, which is what softmax_1 descends.
    """
    scores = beta * (patterns @ xi.unsqueeze(2)).squeeze(2)
    if null_slot:
        scores = torch.cat([scores, torch.zeros_like(scores[:, :1])], 1)
    return xi.square().sum(1) / 2 - scores.logsumexp(1) / beta
