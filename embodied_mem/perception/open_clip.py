"""Encoder ``open_clip``: the image tower of an open_clip model, frozen (with a feature cache) or tuned.

Frozen towers with named weights stay out of the module's state dict: a policy checkpoint holds the policy, and the
tower is read again from the user's cache or file when the policy is loaded. Random weights (``weights: null``) are
saved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.perception.base import Encoder
from embodied_mem.perception.feature_cache import FeatureCache
from embodied_mem.perception.open_clip_weights import build_text, build_tower
from embodied_mem.registry import register


@dataclass(frozen=True)
class OpenClipConfig:
    """Options of the encoder ``open_clip``."""

    model: str = "ViT-B-32"
    """Architecture known to open_clip, or the path of a JSON model description."""
    weights: str | None = "openai"
    """Checkpoint file, a pretrained tag that lies in the user's cache, or null for random weights."""
    frozen: bool = True
    """Keep the tower fixed and cache its features; False trains it with the policy."""
    cache: int = 4096
    """Images whose features are kept (frozen only); 0 turns the cache off."""
    batch: int = 64
    """Images per forward pass of the frozen tower."""
    download: bool = False
    """Allow open_clip to fetch weights that are not in the cache."""


@register("encoder", "open_clip", about="image tower of an open_clip model, frozen or tuned")
class OpenClipEncoder(Encoder):
    """Images (N, H, W, 3) uint8 to the pooled features of the tower."""

    Config = OpenClipConfig

    def __init__(self, config: OpenClipConfig, space: spaces.Box) -> None:
        """Build the tower and load its weights.

        Raises:
            UsageError: the space is no RGB image, or the model or its weights are not available.
        """
        super().__init__()
        if len(space.shape) != 3 or space.shape[2] != 3 or space.dtype != np.uint8:
            raise UsageError(f"expected RGB images (H, W, 3) uint8, got {space.shape} {space.dtype}")
        tower, statistics = build_tower(config.model, config.weights, config.download)
        self.mean: Tensor
        self.std: Tensor
        self.config = config
        self.size = _pair(tower.image_size)  # type: ignore[arg-type]
        self.register_buffer("mean", torch.tensor(statistics["mean"]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(statistics["std"]).view(1, 3, 1, 1), persistent=False)
        self.cache = FeatureCache(config.cache if config.frozen else 0)
        if config.frozen:
            tower.requires_grad_(False)
        self._external: list[nn.Module] = []
        self._texts: list[Callable[[str], Tensor] | None] = []
        if config.frozen and config.weights is not None:
            self._external.append(tower.eval())
        else:
            self.tower = tower
        with torch.no_grad():
            self.out_dim = int(self._encode(torch.zeros(1, *space.shape, dtype=torch.uint8)).shape[1])

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, D) float32 for ``x`` (N, H, W, 3) uint8."""
        if not self.config.frozen:
            return self._encode(x)
        return self.cache.features(x, self._encode_frozen)

    def embed_text(self, text: str) -> np.ndarray:
        """Return a text in the space of the images (D,) float32; zeros without a text tower, or for random weights.

        The text tower is read at the first call and stays on the CPU.
        """
        c = self.config
        if not self._texts:
            self._texts = [None if c.weights is None else build_text(c.model, c.weights, c.download)]
        embed = self._texts[0]
        return np.zeros(self.out_dim, np.float32) if embed is None else embed(text).numpy()

    def train(self, mode: bool = True) -> OpenClipEncoder:
        """Switch the mode; a frozen tower stays in evaluation mode."""
        super().train(mode)
        if self.config.frozen:
            self._module().eval()
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> OpenClipEncoder:
        for tower in self._external:
            tower._apply(fn)
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.cache.clear()
        super()._load_from_state_dict(*args, **kwargs)

    def _module(self) -> nn.Module:
        return self._external[0] if self._external else self.tower

    def _encode_frozen(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([self._encode(part) for part in images.split(self.config.batch)])

    def _encode(self, images: Tensor) -> Tensor:
        planes = images.permute(0, 3, 1, 2).float() / 255.0
        if tuple(planes.shape[-2:]) != self.size:
            planes = nn.functional.interpolate(planes, self.size, mode="bicubic", antialias=True).clamp(0.0, 1.0)
        features = self._module()((planes - self.mean) / self.std)
        return features[0] if isinstance(features, tuple) else features


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
