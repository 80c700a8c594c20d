"""Encoder ``mlp``: flat numbers (`vector`, `goal`, `pose`, `intrinsics`).

Without hidden layers it only scales the numbers: the projection of `ObservationEncoder` is then their first layer, so a
small observation costs one matrix product per step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from gymnasium import spaces
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.perception.base import Encoder, activation, input_scale, linear
from embodied_mem.registry import register


@dataclass(frozen=True)
class MLPConfig:
    """Options of the encoder ``mlp``."""

    hidden: tuple[int, ...] = ()
    """Widths of the layers; empty = scaled numbers go straight to the projection."""
    activation: str = "tanh"
    """Non-linearity after each layer."""
    scale: bool = True
    """Divide entries with finite bounds by their largest magnitude."""


@register("encoder", "mlp", about="flat numbers; zero or more dense layers")
class MLPEncoder(Encoder):
    """Dense layers over the flattened entry."""

    Config = MLPConfig

    def __init__(self, config: MLPConfig, space: spaces.Box) -> None:
        """Build the layers for a Box of any shape.

        Raises:
            UsageError: the space is empty.
        """
        super().__init__()
        self.scale: Tensor | None
        width = 1
        for size in space.shape:
            width *= size
        if width == 0:
            raise UsageError(f"expected a Box with at least one entry, got shape {space.shape}")
        scale = input_scale(space) if config.scale else None
        self.register_buffer("scale", None if scale is None else scale.reshape(-1))
        layers: list[nn.Module] = []
        for size in config.hidden:
            layers += [linear(width, size), activation(config.activation)]
            width = size
        self.layers = nn.Sequential(*layers) if layers else None
        self.out_dim = width

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out_dim) float32 for ``x`` (N, *shape) of any real dtype."""
        x = x.reshape(x.shape[0], -1)
        if x.dtype is not torch.float32:
            x = x.float()
        if self.scale is not None:
            x = x * self.scale
        return x if self.layers is None else self.layers(x)
