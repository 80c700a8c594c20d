"""Linear attention: fast weights that add up, read as a weighted mean of all values of the episode.

    S = where(reset, S_init, S') + phi(k)^T v,   z = where(reset, z_init, z') + phi(k)
    o = phi(q) S / max(phi(q) . z, eps),          y = skip(x) + W o

The normaliser z is one more column of S, written with value 1, so it shares every reset. z_init is 0, or 1 for every
feature where S_init is learned, so that a start weighs something. Nothing is ever forgotten: a new value under an old
key is averaged with the old one. ``feature_map="identity"`` can make the normaliser cross zero, so it goes only with
``normalise=False``; that read is scaled by 1 / sqrt(K) instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.fast_weights import FastWeights, FastWeightsConfig, Token, split_heads
from embodied_mem.memory.state import StateSpec
from embodied_mem.registry import register

__all__ = ["LinearAttention", "LinearAttentionConfig"]

_MAPS = ("elu", "relu", "identity")
_EPS = 1e-6


@dataclass(frozen=True)
class LinearAttentionConfig(FastWeightsConfig):
    """Config of `LinearAttention`."""

    feature_map: str = "elu"
    """Map of queries and keys: "elu" (elu + 1), "relu" or "identity"."""
    normalise: bool = True
    """Divide a read by the sum of its weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.feature_map not in _MAPS:
            raise UsageError(f"expected feature_map in {list(_MAPS)}, got {self.feature_map!r}")
        if self.normalise and self.feature_map == "identity":
            raise UsageError(
                "expected a positive feature_map to normalise by, got 'identity'; "
                "use feature_map='elu' or normalise=False"
            )


@register(
    "memory",
    "linear_attention",
    family="linear",
    source="Katharopoulos et al. 2020, Transformers are RNNs",
    variants=(
        {"conv": 1, "learned_init": True, "feature_map": "relu"},
        {"normalise": False, "feature_map": "identity", "key_dim": 12, "value_dim": 20, "chunk": 4},
    ),
)
class LinearAttention(FastWeights):
    """Fast weights without a gate."""

    Config = LinearAttentionConfig

    def __init__(self, config: LinearAttentionConfig) -> None:
        super().__init__(config, config.heads * (2 * config.key_dim + config.value_dim), 0, torch.zeros(0))
        self.config: LinearAttentionConfig = config

    def fast_spec(self) -> dict[str, StateSpec]:
        """Fast weights (H, K, V), with the normaliser as column V + 1."""
        c = self.config
        return {"S": StateSpec((c.heads, c.key_dim, c.value_dim + c.normalise), role="param_like")}

    def start_of(self, key: str) -> Tensor | None:
        """Learned start, with a normaliser of 1 for every feature."""
        start = super().start_of(key)
        return start if start is None or not self.config.normalise else F.pad(start, (0, 1), value=1.0)

    def token(self, pre: Tensor, gates: Tensor, position: Tensor | None) -> Token:
        """Map queries and keys, and give every value its 1."""
        q, k, v = split_heads(pre, self.config)
        if self.config.normalise:
            v = F.pad(v, (0, 1), value=1.0)
        return Token(self._phi(q), self._phi(k), v, torch.zeros_like(v[..., 0]))

    def read(self, o: Tensor, gate: Tensor, token: Token) -> Tensor:
        """Divide by the sum of weights."""
        if self.config.normalise:
            return (o[..., :-1] / o[..., -1:].clamp_min(_EPS)).flatten(-2)
        return o.flatten(-2) * self.config.key_dim**-0.5

    def _phi(self, x: Tensor) -> Tensor:
        kind = self.config.feature_map
        return F.elu(x) + 1 if kind == "elu" else F.relu(x) if kind == "relu" else x
