"""Encoder ``scan``: a panoramic or frontal scan, W columns of (depth, code, code, ...), cheap enough for CPU training.

Neighbouring columns form patches. A patch becomes ``channels`` features by one layer shared by all patches; its input
is the columns' one-hot codes (class, colour) and real numbers (depth), so the layer is a sum of table rows and costs
no product with the one-hot width. A dense layer then reads all patches.
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


@dataclass(frozen=True)
class ScanConfig:
    """Options of the encoder ``scan``."""

    codes: tuple[int, ...] | None = None
    """Channels that hold integer codes (class, colour), the others are real numbers; null = all but every third."""
    patch: int = 2
    """Neighbouring columns per patch; divides W."""
    channels: int = 16
    """Features per patch."""
    width: int = 96
    """Features of the whole scan."""
    fovea: int = 0
    """Patches straight ahead whose averaged features are also handed on by themselves; 0 = none. What stands ahead
    then looks alike from everywhere, which memories that match contents need."""
    fovea_gain: float = 1.0
    """Factor on the features straight ahead; below 1 lets what the whole scan shows lead at the start of training."""
    activation: str = "relu"
    """Non-linearity after each layer."""
    max_depth: float = 10.0
    """Depth in metres that becomes 1.0; deeper values are cut."""


@register("encoder", "scan", about="columns (W, C) of depth and integer codes")
class ScanEncoder(Encoder):
    """One layer shared by all patches of columns, one dense layer over the patches."""

    Config = ScanConfig

    def __init__(self, config: ScanConfig, space: spaces.Box) -> None:
        """Build the layers for a (W, C) Box whose code channels have finite upper bounds.

        Raises:
            UsageError: another rank, a code channel that is absent or unbounded, a patch that does not divide W.
        """
        super().__init__()
        if len(space.shape) != 2:
            raise UsageError(f"expected a scan (W, C), got shape {space.shape}")
        columns, channels = space.shape
        if config.patch < 1 or columns % config.patch:
            raise UsageError(f"expected a patch that divides {columns} columns, got {config.patch}")
        self.patches = columns // config.patch
        if not 0 <= config.fovea <= self.patches:
            raise UsageError(f"expected a fovea of at most {self.patches} patches, got {config.fovea}")
        self.codes = tuple(i for i in range(channels) if i % 3) if config.codes is None else tuple(config.codes)
        if any(not 0 <= index < channels for index in self.codes):
            raise UsageError(f"expected code channels below {channels}, got {list(self.codes)}")
        self.reals = tuple(index for index in range(channels) if index not in self.codes)
        self.config = config
        sizes = [_table_size(space, index) for index in self.codes]
        # One block of rows per place in the patch: what a code adds depends on where in the patch it stands.
        starts = np.concatenate([[0], np.cumsum(np.repeat(sizes, config.patch))[:-1]]).reshape(len(sizes), -1)
        self.register_buffer("starts", torch.from_numpy(starts).long(), persistent=False)
        self.limits = [size - 1 for size in sizes]
        self.starts: Tensor
        self.table = nn.Embedding(max(1, sum(sizes) * config.patch), config.channels)
        nn.init.normal_(self.table.weight, std=0.5)
        self.real = linear(len(self.reals) * config.patch, config.channels)
        self.dense = linear(self.patches * config.channels, config.width)
        self.act = activation(config.activation)
        first = (self.patches - config.fovea) // 2
        self.ahead = slice(first, first + config.fovea)
        self.out_dim = config.width + (config.channels if config.fovea else 0)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, width) float32 for ``x`` (N, W, C) float32; with a fovea (N, width + channels)."""
        config = self.config
        x = x.unflatten(1, (self.patches, config.patch))
        reals = x[..., list(self.reals)] if len(self.reals) > 1 else x[..., self.reals[0] : self.reals[0] + 1]
        features = self.real(reals.clamp(max=config.max_depth).flatten(2) * (1.0 / config.max_depth))
        for channel, start, limit in zip(self.codes, self.starts, self.limits):
            rows = x[..., channel].long().clamp_(0, limit) + start
            # Summed by an add per place in the patch: the reduction kernel is slower on so short an axis.
            for place in range(config.patch):
                features.add_(self.table(rows[..., place]))
        patches = self.act(features)
        whole = self.act(self.dense(patches.flatten(1)))
        return torch.cat([whole, features[:, self.ahead].mean(1) * config.fovea_gain], -1) if config.fovea else whole


def _table_size(space: spaces.Box, channel: int) -> int:
    high = float(np.max(space.high[:, channel]))
    if not np.isfinite(high) or high > 65536:
        raise UsageError(f"expected a finite upper bound for scan code channel {channel}, got {high}; bound the space")
    return int(high) + 1
