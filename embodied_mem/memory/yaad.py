"""Yaad: a regressor that learns the episode by a Huber loss, so that one outlier cannot overwrite it.

    e = M(k_t) - v_t,   g_t = gradient of sum_i huber(e_i; delta_t),   W_t = alpha_t W_{t-1} - eta_t g_t
    huber'(e) = e where |e| <= delta_t, else delta_t sign(e);          delta_t = softplus(w x) per head

Limits: `inner_learner`; the loss is taken per coordinate (the paper offers this form beside one of the norm of e).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from embodied_mem.memory.miras import Miras, MirasConfig
from embodied_mem.registry import register

__all__ = ["Yaad", "YaadConfig"]


@dataclass(frozen=True)
class YaadConfig(MirasConfig):
    """Config of `Yaad`."""


@register(
    "memory",
    "yaad",
    family="test-time",
    source="Behrouz et al. 2025, It's all connected (Miras)",
    variants=({"memory": "mlp", "heads": 1, "key_dim": 5, "value_dim": 4, "expansion": 2, "chunk": 4, "conv": 1},),
)
class Yaad(Miras):
    """Weights that learn by a Huber loss."""

    Config = YaadConfig

    def __init__(self, config: YaadConfig) -> None:
        super().__init__(config, extra_bias=(0.5,))
        self.config: YaadConfig = config

    def gradient(self, prediction: Tensor, k: Tensor, v: Tensor, extra: Tensor) -> Tensor:
        """Of the Huber loss with the threshold of the token."""
        error, delta = prediction - v, F.softplus(extra)
        return torch.maximum(torch.minimum(error, delta), -delta)
