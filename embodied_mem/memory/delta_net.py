"""Delta rule: fast weights that overwrite what their key points to and never forget anything else (DeltaNet).

    q, k = l2norm(silu(conv(W x))),   v = silu(conv(W x)),   b = sigmoid(W x)
    S' = where(reset, S_init, S),     S = S' + b k^T (v - k S'),   o = q S,   y = skip(x) + W rmsnorm_h(o)

Keys have length 1, since the rule diverges once ``b |k|^2 > 2``. ``neg_eigval`` doubles b: the eigenvalue ``1 - b`` of
the erased direction may then be negative, which parity-like state tracking needs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from embodied_mem.memory.fast_weights import READ_FLOOR, FastWeights, FastWeightsConfig, Token, split_heads, unit
from embodied_mem.registry import register

__all__ = ["DeltaNet", "DeltaNetConfig"]


@dataclass(frozen=True)
class DeltaNetConfig(FastWeightsConfig):
    """Config of `DeltaNet`."""

    neg_eigval: bool = False
    """Write strength in (0, 2) instead of (0, 1)."""


@register(
    "memory",
    "delta_net",
    family="linear",
    source="Schlag et al. 2021; Yang et al. 2024, Parallelizing linear transformers with the delta rule",
    variants=({"conv": 1, "learned_init": True}, {"neg_eigval": True, "key_dim": 12, "value_dim": 20, "chunk": 4}),
)
class DeltaNet(FastWeights):
    """Fast weights with the delta rule."""

    Config = DeltaNetConfig

    def __init__(self, config: DeltaNetConfig) -> None:
        super().__init__(config, config.heads * (2 * config.key_dim + config.value_dim), 0, torch.zeros(config.heads))
        self.config: DeltaNetConfig = config

    def token(self, pre: Tensor, gates: Tensor, position: Tensor | None) -> Token:
        """Normalise queries and keys."""
        q, k, v = split_heads(F.silu(pre), self.config)
        beta = gates.sigmoid() * (2 if self.config.neg_eigval else 1)
        return Token(unit(q), unit(k), v, torch.zeros_like(beta), beta)

    def read(self, o: Tensor, gate: Tensor, token: Token) -> Tensor:
        """Unit mean square per head."""
        return unit(o, READ_FLOOR).flatten(-2) * o.shape[-1] ** 0.5

    def fast_macs(self) -> int:
        """Two reads and one write."""
        return 3 * super().fast_macs() // 2
