"""Encoder ``transformers``: the image tower of any vision model that transformers knows, from a local folder, frozen.

    two towers   CLIP, SigLIP and their like: ``get_image_features``; texts meet images in ``embed_text``
    one tower    DINOv2, ViT and their like: the pooled output, or the mean of the last hidden states without one

Pixels are resized to the size of the folder's image processor (bicubic, antialiased; both sides at once, no crop) and
normalised by its statistics. Nothing is fetched and no code of the folder is run. The tower stays out of the module's
state dict: it is read again from its folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.perception.base import Encoder
from embodied_mem.perception.feature_cache import FeatureCache
from embodied_mem.registry import register


@dataclass(frozen=True)
class TransformersTowerConfig:
    """Options of the encoder ``transformers``."""

    path: str = ""
    """Folder with config, weights, image processor (and tokenizer, for texts), as ``save_pretrained`` writes them."""
    cache: int = 4096
    """Images whose features are kept; 0 turns the cache off."""
    batch: int = 64
    """Images per forward pass."""


@register("encoder", "transformers", about="image tower of a transformers model in a local folder, frozen")
class TransformersTower(Encoder):
    """Images (N, H, W, 3) uint8 to the pooled features of a frozen tower."""

    Config = TransformersTowerConfig

    def __init__(self, config: TransformersTowerConfig, space: spaces.Box) -> None:
        """Load the tower.

        Raises:
            UsageError: the space is no RGB image, or the folder holds no vision model that can be loaded.
        """
        super().__init__()
        if len(space.shape) != 3 or space.shape[2] != 3 or space.dtype != np.uint8:
            raise UsageError(f"expected RGB images (H, W, 3) uint8, got {space.shape} {space.dtype}")
        if not config.path or not (Path(config.path) / "config.json").is_file():
            raise UsageError(f"expected path=FOLDER of a vision model (config.json, weights), got {config.path!r}")
        self.config = config
        model, pixels = _load(config.path)
        self._external = [model.eval().requires_grad_(False)]
        self.size = pixels["size"]
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(pixels["mean"]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(pixels["std"]).view(1, 3, 1, 1), persistent=False)
        self.cache = FeatureCache(config.cache)
        self._tokenizer: Any = None
        try:
            self.out_dim = int(self._encode(torch.zeros(1, *space.shape, dtype=torch.uint8)).shape[1])
        except (RuntimeError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise UsageError(f"the model in {config.path} takes no images alone: {_line(error)}") from error

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, D) float32 for ``x`` (N, H, W, 3) uint8."""
        return self.cache.features(x, self._encode_all)

    def embed_text(self, text: str) -> np.ndarray:
        """Return a text in the space of the images (D,) float32; zeros where the model has no text tower.

        Raises:
            UsageError: the folder holds no tokenizer for the model's text tower.
        """
        model: Any = self._external[0]
        if not hasattr(model, "get_text_features"):
            return np.zeros(self.out_dim, np.float32)
        if self._tokenizer is None:
            from transformers import AutoTokenizer

            try:
                self._tokenizer = AutoTokenizer.from_pretrained(self.config.path, **_SAFE)
            except (OSError, ValueError, KeyError) as error:
                raise UsageError(f"{self.config.path} holds no tokenizer for texts: {_line(error)}") from error
        length = getattr(getattr(model.config, "text_config", None), "max_position_embeddings", None)
        inputs = self._tokenizer([text], return_tensors="pt", truncation=length is not None, max_length=length)
        device = next(model.parameters()).device
        with torch.no_grad():
            found = _pooled(model.get_text_features(input_ids=inputs["input_ids"].to(device)))
        return found[0].float().cpu().numpy()

    def train(self, mode: bool = True) -> TransformersTower:
        """Switch the mode; the tower stays in evaluation mode."""
        super().train(mode)
        self._external[0].eval()
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> TransformersTower:
        self._external[0]._apply(fn)
        return super()._apply(fn, recurse)

    def _encode_all(self, images: Tensor) -> Tensor:
        return torch.cat([self._encode(part) for part in images.split(self.config.batch)])

    @torch.no_grad()
    def _encode(self, images: Tensor) -> Tensor:
        planes = images.permute(0, 3, 1, 2).float() / 255.0
        if tuple(planes.shape[-2:]) != self.size:
            planes = nn.functional.interpolate(planes, self.size, mode="bicubic", antialias=True).clamp(0.0, 1.0)
        planes = (planes - self.mean) / self.std
        model: Any = self._external[0]
        look = getattr(model, "get_image_features", None) or model
        return _pooled(look(pixel_values=planes)).float()


_SAFE = {"local_files_only": True, "trust_remote_code": False}


def _load(path: str) -> tuple[nn.Module, dict[str, Any]]:
    """Return the model, and size (H, W), mean and std of its pixels."""
    try:
        from transformers import AutoImageProcessor, AutoModel

        model = AutoModel.from_pretrained(path, dtype=torch.float32, **_SAFE)
        processor = AutoImageProcessor.from_pretrained(path, **_SAFE)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, AttributeError) as error:
        raise UsageError(f"the vision model in {path} cannot be loaded: {_line(error)}") from error
    config = getattr(model.config, "vision_config", model.config)
    side = getattr(config, "image_size", None)
    if isinstance(side, list | tuple):
        size = (int(side[0]), int(side[1]))
    elif side is not None:
        size = (int(side), int(side))
    else:
        asked = dict(getattr(processor, "crop_size", None) or getattr(processor, "size", None) or {})
        edge = int(asked.get("shortest_edge", 224))
        size = (int(asked.get("height", edge)), int(asked.get("width", edge)))
    mean, std = (
        getattr(processor, name, None) or value for name, value in (("image_mean", [0.0] * 3), ("image_std", [1.0] * 3))
    )
    return model, {"size": size, "mean": list(mean), "std": list(std)}


def _pooled(output: Any) -> Tensor:
    """Return (N, D) of a tower's output: a tensor, its pooled part, or the mean over its tokens."""
    if isinstance(output, Tensor):
        return output
    pooled = getattr(output, "pooler_output", None)
    if pooled is not None:
        return pooled.flatten(1)
    hidden = output.last_hidden_state
    return hidden.mean(1) if hidden.ndim == 3 else hidden.flatten(2).mean(2)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
