"""Frames to tokens: any registered encoder, or colour statistics of a grid that need no weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from embodied_mem import registry
from embodied_mem.errors import UsageError
from embodied_mem.perception.base import Encoder, make_encoder
from embodied_mem.stream.frames import shrink

FrameEncoder = Callable[[np.ndarray], np.ndarray]
"""(H, W, 3) uint8 RGB -> tokens (P, D) float32."""

STATISTICS = 8
"""Numbers per cell of `GridEncoder`."""


class GridEncoder:
    """Colour and texture of a grid of cells: for runs without weights and for tests.

    Per cell: mean and deviation of R, G, B, and the mean size of horizontal and vertical differences of grey, all in
    0..1. Tokens (rows * columns, 8 * rows * columns): each cell writes to its own block, so that places do not mix.
    """

    def __init__(self, rows: int = 2, columns: int = 2, side: int = 64) -> None:
        """Choose the grid.

        Raises:
            UsageError: a side of the grid is below 1, or cells would be smaller than 2 pixels.
        """
        if min(rows, columns) < 1 or side < 2 * max(rows, columns):
            raise UsageError(f"expected a grid of at least 1x1 with side >= 2 pixels per cell, got {rows}x{columns}")
        self.rows, self.columns, self.side = rows, columns, side

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """Return tokens of an image (H, W, 3) uint8; H and W at least the grid's."""
        image = shrink(rgb, self.side).astype(np.float32) / 255
        if image.shape[0] < self.rows or image.shape[1] < self.columns:
            raise UsageError(f"expected an image of at least {self.rows}x{self.columns}, got {image.shape[:2]}")
        grey = image.mean(2)
        across = np.abs(np.diff(grey, axis=1, append=grey[:, -1:]))
        down = np.abs(np.diff(grey, axis=0, append=grey[-1:]))
        cells = self.rows * self.columns
        tokens = np.zeros((cells, cells, STATISTICS), np.float32)
        for place in range(cells):
            row, column = divmod(place, self.columns)
            at = _part(image.shape[0], self.rows, row), _part(image.shape[1], self.columns, column)
            pixels = image[at].reshape(-1, 3)
            tokens[place, place, :3], tokens[place, place, 3:6] = pixels.mean(0), pixels.std(0)
            tokens[place, place, 6:] = across[at].mean(), down[at].mean()
        return tokens.reshape(cells, -1)


class ModuleEncoder:
    """A registered image encoder, one token per frame; it is built at the first frame, whose size it keeps."""

    def __init__(self, name: str, options: Mapping[str, Any] | None = None, device: str = "cpu") -> None:
        """Choose the encoder by name."""
        self.name, self.options, self.device = name, dict(options or {}), device
        self._encoder: Encoder | None = None

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """Return tokens (1, D) of an image (H, W, 3) uint8."""
        if self._encoder is None:
            box = spaces.Box(0, 255, rgb.shape, np.uint8)
            self._encoder = make_encoder(self.name, box, self.options).to(self.device).eval()
        with torch.no_grad():
            return self._encoder(torch.from_numpy(rgb).unsqueeze(0).to(self.device)).cpu().numpy()

    def text_side(self) -> Callable[[str], Any] | None:
        """Return the encoder's ``embed_text``, None without one; one that needs weights is there after a frame."""
        if self._encoder is not None:
            return getattr(self._encoder, "embed_text", None)
        cls = registry.get("encoder", self.name)
        alone = isinstance(inspect.getattr_static(cls, "embed_text", None), staticmethod)
        return cls.embed_text if alone else None


def embed_question(encoder: FrameEncoder, text: str) -> np.ndarray | None:
    """Return a text in the space of an encoder's tokens (D,) float32, for `Snapshot.read`; None without a text side.

    A registered encoder has one if it has a method ``embed_text(text) -> (D,)``. A text that says nothing to the
    encoder (all zeros) gives None too, which recalls an overview.
    """
    side = getattr(encoder, "embed_text", None)
    if side is None and isinstance(encoder, ModuleEncoder):
        side = encoder.text_side()
    found = None if side is None else np.asarray(side(text), np.float32)
    return found if found is not None and found.any() else None


def make_frame_encoder(name: str, options: Mapping[str, Any] | None = None, device: str = "cpu") -> FrameEncoder:
    """Return the encoder ``grid`` or any registered image encoder, for frames.

    Raises:
        UsageError: an option of ``grid`` is unknown; other encoders say so at the first frame.
    """
    if name != "grid":
        return ModuleEncoder(name, options, device)
    unknown = set(options or {}) - {"rows", "columns", "side"}
    if unknown:
        raise UsageError(f"unknown option {sorted(unknown)[0]!r} of encoder grid; options: rows, columns, side")
    return GridEncoder(**(options or {}))


def _part(size: int, parts: int, index: int) -> slice:
    return slice(size * index // parts, size * (index + 1) // parts)
