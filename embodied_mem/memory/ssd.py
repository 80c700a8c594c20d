"""State space duality (Mamba-2): fast weights with an input-dependent step size that both forgets and writes.

    x, B, C = silu(conv(W u)),   dt = softplus(W u + dt_bias),   a = -exp(A_log) dt
    S = where(reset, S_init, exp(a) S') + B^T (dt x),   o = C S + D x,   y = skip(u) + W rmsnorm(o * silu(W u))

B and C (keys and queries) are shared by the heads. At the start A is uniform in (0, 16) and dt log-uniform in
[1e-3, 1e-1]: half-lives from a few to a thousand steps. ``mimetic`` starts as linear attention instead: hardly any
decay, dt = 1, B equal to C, and a convolution that passes its input; recall is then learned faster.

Give A_log and dt_bias (the last columns of ``bias``) no weight decay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.memory.fast_weights import READ_FLOOR, FastWeights, FastWeightsConfig, Token, softplus_inverse, unit
from embodied_mem.registry import register

__all__ = ["SSD", "SSDConfig"]

_MIMETIC_HALF_LIFE = 1024.0


@dataclass(frozen=True)
class SSDConfig(FastWeightsConfig):
    """Config of `SSD`; ``key_dim`` is the state size N, ``heads * value_dim`` the inner width."""

    key_dim: int = 64
    """State size, the width of B and C."""
    value_dim: int = 64
    """Value width of a head."""
    mimetic: bool = False
    """Start as linear attention."""


@register(
    "memory",
    "ssd",
    family="linear",
    source="Dao and Gu 2024, Transformers are SSMs; Trockman et al. 2024, Mimetic initialization",
    variants=(
        {"conv": 1, "learned_init": True, "key_dim": 12, "value_dim": 20},
        {"mimetic": True, "key_dim": 12, "value_dim": 5, "chunk": 4},
    ),
)
class SSD(FastWeights):
    """Fast weights in the form of Mamba-2."""

    Config = SSDConfig

    def __init__(self, config: SSDConfig) -> None:
        H, N, V = config.heads, config.key_dim, config.value_dim
        dt = torch.exp(math.log(1e-3) + torch.rand(H) * math.log(1e2)).clamp_min(1e-4)
        A = (torch.rand(H) * 16).clamp_min(1e-3)
        if config.mimetic:
            dt, A = torch.ones(H), torch.full((H,), math.log(2) / _MIMETIC_HALF_LIFE)
        super().__init__(config, H * V + 2 * N, H * V, softplus_inverse(dt))
        self.config: SSDConfig = config
        self.A_log = nn.Parameter(A.log())
        self.D = nn.Parameter(torch.ones(H))
        if config.mimetic:
            self._start_as_linear_attention()

    def token(self, pre: Tensor, gates: Tensor, position: Tensor | None) -> Token:
        """Share B and C among the heads and scale what is written by dt."""
        c = self.config
        v, B, C = F.silu(pre).split_with_sizes((c.heads * c.value_dim, c.key_dim, c.key_dim), -1)
        dt = F.softplus(gates)
        shape = (*dt.shape, c.key_dim)
        k = dt.unsqueeze(-1) * B.unsqueeze(-2)
        return Token(C.unsqueeze(-2).expand(shape), k, v.view(*dt.shape, c.value_dim), -self.A_log.exp() * dt)

    def read(self, o: Tensor, gate: Tensor, token: Token) -> Tensor:
        """Skip by D, gate, then normalise over all heads."""
        gated = (o + self.D.unsqueeze(-1) * token.v).flatten(-2) * F.silu(gate)
        return unit(gated, READ_FLOOR) * gated.shape[-1] ** 0.5

    @torch.no_grad()
    def _start_as_linear_attention(self) -> None:
        width, N = self.config.heads * self.config.value_dim, self.config.key_dim
        for weight in (self.project, self.conv):
            if weight is not None:
                weight[:, width + N : width + 2 * N] = weight[:, width : width + N]
        if self.conv is not None:
            self.conv[1:] = 0
        # dt is 1 whatever the input
        self.project[:, -self.config.heads :] = 0
