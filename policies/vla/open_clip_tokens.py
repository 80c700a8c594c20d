"""Perception ``open_clip``: the patch features of an open_clip image tower in place of raw patches.

A frozen tower with named weights stays out of the policy's state dict, as in the encoder ``open_clip``: it is read
again from the user's cache or file when the policy is loaded. Vision transformers only: they have patch features.

Limit: features of frozen towers are not cached between updates.
"""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.perception.open_clip_weights import build_tower
from embodied_mem.policies.vla.config import PerceptionConfig
from embodied_mem.policies.vla.tokens import PatchPerception


class OpenClipPerception(PatchPerception):
    """Patch features of a tower, then the built-in transformer."""

    def __init__(self, config: PerceptionConfig, space: spaces.Dict) -> None:
        """Build the tower and load its weights.

        Raises:
            UsageError: the model or its weights are not available, or it is no vision transformer.
        """
        tower, statistics = build_tower(config.model, config.weights)
        if not hasattr(tower, "output_tokens"):
            raise UsageError(
                f"expected a vision transformer of open_clip, got {config.model!r}: it has no patch tokens"
            )
        tower.output_tokens = True  # type: ignore[assignment]
        size = tower.image_size
        self._size: tuple[int, int] = (size, size) if isinstance(size, int) else tuple(size)  # type: ignore[arg-type]
        with torch.no_grad():
            probe = tower(torch.zeros(1, 3, *self._size))[1]
        pictures = [key for key in config.reads if key in space.spaces and len(space[key].shape or ()) == 3]
        super().__init__(config, space, {key: (probe.shape[1], probe.shape[2]) for key in pictures})
        self.clip_mean: Tensor
        self.clip_std: Tensor
        self.register_buffer("clip_mean", torch.tensor(statistics["mean"]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("clip_std", torch.tensor(statistics["std"]).view(1, 3, 1, 1), persistent=False)
        self._external: list[nn.Module] = []
        if config.frozen:
            tower.requires_grad_(False).eval()
        if config.frozen and config.weights is not None:
            self._external.append(tower)
        else:
            self.tower = tower

    def patches(self, key: str, picture: Tensor) -> Tensor:
        """Return the tower's patch features (n, M, C) of (n, H, W, 3) uint8."""
        planes = picture.permute(0, 3, 1, 2).float() / 255.0
        if tuple(planes.shape[-2:]) != self._size:
            planes = nn.functional.interpolate(planes, self._size, mode="bicubic", antialias=True).clamp(0.0, 1.0)
        tower = self._external[0] if self._external else self.tower
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.frozen):
            return tower((planes - self.clip_mean) / self.clip_std)[1].float()

    def train(self, mode: bool = True) -> OpenClipPerception:
        """Switch the mode; a frozen tower stays in evaluation mode."""
        super().train(mode)
        if self.config.frozen and not self._external:
            self.tower.eval()
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> OpenClipPerception:
        for tower in self._external:
            tower._apply(fn)
        return super()._apply(fn, recurse)
