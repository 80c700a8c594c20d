"""Encoder ``cnn``: images, depth maps and semantic maps (`rgb`, `depth`, `semantic`).

Small images (below 36 pixels) go through 3x3 stride-2 layers, larger ones through the 8-4-3 kernels of Mnih et al.
2015 (Nature 518, 529-533), followed by one dense layer. Semantic instance ids become ``code_dim`` fixed random
channels by hashing, since instance ids carry identity and no order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.perception.base import Encoder, activation, linear
from embodied_mem.registry import register

SMALLEST = 8
CODES = 256


@dataclass(frozen=True)
class CNNConfig:
    """Options of the encoder ``cnn``."""

    channels: tuple[int, ...] = (16, 32, 32)
    """Channels of the convolution layers."""
    width: int = 128
    """Features after the dense layer."""
    activation: str = "relu"
    """Non-linearity after each layer."""
    max_depth: float = 10.0
    """Depth in metres that becomes 1.0 where the space does not bound it; deeper values are cut."""
    code_dim: int = 4
    """Channels that stand for an integer id."""


@register("encoder", "cnn", about="images (H, W, C) uint8, depth (H, W) float, ids (H, W) int")
class CNNEncoder(Encoder):
    """Strided convolutions and one dense layer."""

    Config = CNNConfig

    def __init__(self, config: CNNConfig, space: spaces.Box) -> None:
        """Build the layers for an (H, W) or (H, W, C) Box.

        Raises:
            UsageError: another rank, or an image smaller than 8x8.
        """
        super().__init__()
        shape = tuple(space.shape)
        if len(shape) not in (2, 3) or min(shape[:2]) < SMALLEST:
            raise UsageError(f"expected an image (H, W) or (H, W, C) of at least {SMALLEST}x{SMALLEST}, got {shape}")
        self.is_codes = np.issubdtype(space.dtype, np.integer) and space.dtype != np.uint8
        self.has_channels = len(shape) == 3
        if self.is_codes and self.has_channels:
            raise UsageError(f"expected integer ids as (H, W), got {shape}")
        channels = config.code_dim if self.is_codes else (shape[2] if self.has_channels else 1)
        self.codes = nn.Embedding(CODES, config.code_dim) if self.is_codes else None
        self.scale = 1.0 / 255.0
        if space.dtype != np.uint8:
            high = float(np.max(space.high))
            self.max_depth = high if np.isfinite(high) and high < 1e6 else config.max_depth
            self.scale = 1.0 / self.max_depth
        large = min(shape[:2]) >= 36
        plan = [(8, 4), (4, 2), (3, 1)] if large else [(3, 2), (3, 2), (3, 1)]
        layers: list[nn.Module] = []
        for index, size in enumerate(config.channels):
            kernel, stride = plan[min(index, len(plan) - 1)]
            conv = nn.Conv2d(channels, size, kernel, stride, padding=0 if large else 1)
            nn.init.orthogonal_(conv.weight, 2.0**0.5)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
            layers += [conv, activation(config.activation)]
            channels = size
        self.convolutions = nn.Sequential(*layers)
        with torch.no_grad():
            first = config.code_dim if self.is_codes else (shape[2] if self.has_channels else 1)
            flat = self.convolutions(torch.zeros(1, first, *shape[:2])).numel()
        self.dense = nn.Sequential(linear(flat, config.width), activation(config.activation))
        self.out_dim = config.width

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, width) float32 for ``x`` (N, H, W[, C])."""
        if self.codes is not None:
            planes = self.codes(x.long() % CODES).permute(0, 3, 1, 2)
        else:
            planes = x.permute(0, 3, 1, 2) if self.has_channels else x.unsqueeze(1)
            planes = planes.float()
            if x.dtype is not torch.uint8:
                planes = planes.clamp(max=self.max_depth)
            planes = planes * self.scale
        return self.dense(self.convolutions(planes).flatten(1))
