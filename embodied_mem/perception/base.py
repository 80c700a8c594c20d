"""What every encoder shares: the abstract class, the list of activations and the input scale of a Box."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from embodied_mem import registry
from embodied_mem.config import from_dict
from embodied_mem.errors import UsageError, nearest

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


def activation(name: str) -> nn.Module:
    """Return a fresh activation module.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise UsageError(f"unknown activation {name!r}{nearest(name, ACTIVATIONS)}; available: {known}")
    return ACTIVATIONS[name]()


def linear(in_dim: int, out_dim: int, gain: float = math.sqrt(2.0)) -> nn.Linear:
    """Return a Linear layer with orthogonal weights of the given gain and zero bias."""
    layer = nn.Linear(in_dim, out_dim)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def input_scale(space: spaces.Box) -> Tensor | None:
    """Return float32 factors of the space's shape that bring bounded values into [-1, 1]; None where all are 1.

    Entries without finite bounds, and entries already within [-1, 1], keep factor 1.
    """
    bound = np.maximum(np.abs(space.low.astype(np.float64)), np.abs(space.high.astype(np.float64)))
    scale = np.where((bound > 1.0) & (bound < 1e6), 1.0 / np.maximum(bound, 1e-12), 1.0)
    return None if (scale == 1.0).all() else torch.from_numpy(scale.astype(np.float32))


class Encoder(nn.Module, ABC):
    """One observation entry to features: ``forward(x (N, *space.shape)) -> (N, out_dim) float32``.

    A subclass names its frozen dataclass in ``Config`` and is registered with ``@register("encoder", name)``.
    """

    Config: ClassVar[type]
    out_dim: int

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Return features (N, out_dim) float32 of ``x`` (N, *space.shape) in the dtype of the space."""


@dataclass(frozen=True)
class NoOptions:
    """Config of an encoder without options."""


def make_encoder(name: str, space: spaces.Box, options: Mapping[str, Any] | None = None) -> Encoder:
    """Build the registered encoder ``name`` for one Box of a Dict observation space.

    Raises:
        UsageError: unknown encoder or option, or a space the encoder cannot read.
    """
    cls = registry.get("encoder", name)
    return cls(from_dict(cls.Config, dict(options or {}), f"encoder.options.{name}."), space)
