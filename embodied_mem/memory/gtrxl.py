"""Gated Transformer-XL: Transformer-XL whose layers start as the identity, and open by learned gates.

    a = relu(attention(LN(h); cached LN(h))),   g = gate(h, a),   h' = gate(g, relu(FF(LN(g))))
    gate(x, y):  r = sigmoid(W_r y + U_r x),  z = sigmoid(W_z y + U_z x - b),  c = tanh(W_c y + U_c (r * x))
                 (1 - z) x + z c

With b = ``gate_bias`` = 2 at the start a layer passes nine tenths of its input unchanged, so at first the policy is a
reactive one, which is what makes the architecture trainable by reinforcement learning. Window, cache and limits are
those of `trxl`; the cache holds what attention reads, the normalised inputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from embodied_mem.memory.trxl import CachedTransformer, CachedTransformerConfig, Sublayers
from embodied_mem.registry import register

__all__ = ["GTrXL", "GTrXLConfig", "GRUGate"]


@dataclass(frozen=True)
class GTrXLConfig(CachedTransformerConfig):
    """Config of `GTrXL`."""

    gate_bias: float = 2.0
    """Initial bias of the gates towards passing the input unchanged."""


class GRUGate(nn.Module):
    """Gate between a stream x and what a sublayer adds to it, y."""

    def __init__(self, width: int, bias: float) -> None:
        super().__init__()
        self.added = nn.Linear(width, 3 * width, bias=False)
        self.stream = nn.Linear(width, 2 * width, bias=False)
        self.candidate = nn.Linear(width, width, bias=False)
        self.bias = nn.Parameter(torch.full((width,), bias))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x, y (..., D) -> (..., D)."""
        r_y, z_y, c_y = self.added(y).chunk(3, -1)
        r_x, z_x = self.stream(x).chunk(2, -1)
        z = (z_y + z_x - self.bias).sigmoid()
        return torch.lerp(x, (c_y + self.candidate((r_y + r_x).sigmoid() * x)).tanh(), z)


class _Gated(Sublayers):
    def __init__(self, config: GTrXLConfig, ages: int) -> None:
        super().__init__(config, ages)
        self.gates = nn.ModuleList([GRUGate(config.width, config.gate_bias) for _ in range(2)])


@register(
    "memory",
    "gtrxl",
    family="attention",
    source="Parisotto et al. 2019, Stabilizing transformers for reinforcement learning",
)
class GTrXL(CachedTransformer):
    """Gated Transformer-XL."""

    Config = GTrXLConfig

    def layer(self) -> Sublayers:
        """Return one new layer with its two gates."""
        assert isinstance(self.config, GTrXLConfig)
        return _Gated(self.config, self.cached + 1)

    def attended(self, layer: Sublayers, h: Tensor) -> Tensor:
        """Return the normalised input."""
        return layer.norms[0](h)

    def join(self, layer: Sublayers, h: Tensor, read: Tensor) -> Tensor:
        """Gate what was read, then the feed-forward part, into the stream."""
        assert isinstance(layer, _Gated)
        h = layer.gates[0](h, read.relu())
        return layer.gates[1](h, layer.feed(layer.norms[1](h)).relu())
