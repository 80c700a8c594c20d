"""Masks of objects carried through a video: given in one frame, read from a bank of three stores in all later ones.

    key        features of cells of ``stride`` pixels: colour, contrast and place (or what a function gives)
    value      share of the cell that belongs to each object
    read       every cell recalls the objects of cells like it from working and long-term memory (`stream.bank`)
    sensory    the latest masks, blurred, with weight ``sensory``: where things are does not change at once
    aggregate  odds p / (1 - p) of the objects against that of none of them, prod (1 - p); the greatest takes the pixel
    write      every ``every`` frames, and wherever masks are given; objects may come later

XMem (Cheng & Schwing 2022, arXiv 2207.07115) as a task: semi-supervised video object segmentation with bounded memory.
Keys of colour and place and an average of masks stand in for its trained key and value encoders, its decoder and its
recurrent sensory store, so scores on natural video are far below the published ones; what is the source's is the
memory: consolidation by usage, potentiation, eviction, late objects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.stream.bank import AtkinsonShiffrinBank, BankConfig
from embodied_mem.stream.memory import check_at_least

Features = Callable[[np.ndarray, int], np.ndarray]
"""Image (H, W, 3) uint8 and stride -> (h, w, C) float32, h = ceil(H / stride), w = ceil(W / stride)."""

_EPS = 1e-6
_PAIRS = 4_000_000


@dataclass(frozen=True)
class PropagationConfig:
    """Grid, bank and sensory store."""

    stride: int = 2
    """Pixels of a cell."""
    every: int = 5
    """Frames between two that are written."""
    sensory: float = 0.3
    """Weight of the latest masks; 0 for none."""
    bank: BankConfig = field(default_factory=lambda: BankConfig(work_max=6, work_min=3, protos=128, lt_max=1024))
    """Sizes of the bank."""

    def __post_init__(self) -> None:
        check_at_least(self, stride=1, every=1)
        if not 0 <= self.sensory < 1:
            raise UsageError(f"expected 0 <= sensory < 1, got {self.sensory}")


def colour_and_place(rgb: np.ndarray, stride: int) -> np.ndarray:
    """Return (h, w, 6) float32: colour in Lab, contrast, and where the cell is, scaled to distances that count."""
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB).astype(np.float32)
    mean = cells(lab, stride)
    contrast = np.sqrt(np.maximum(cells(lab[..., :1] ** 2, stride) - mean[..., :1] ** 2, 0))
    rows, columns = np.meshgrid(*(np.linspace(0, 1, n, dtype=np.float32) for n in mean.shape[:2]), indexing="ij")
    # half the picture away counts as 12 steps of 255 in colour; exp(-16 / sqrt(6)) is small beside 1
    return np.concatenate([mean / 3, contrast / 6, 8 * rows[..., None], 8 * columns[..., None]], 2)


def cells(image: np.ndarray, stride: int) -> np.ndarray:
    """Return the means over cells, (ceil(H / stride), ceil(W / stride), C) float32; the last ones are padded."""
    height, width = image.shape[:2]
    down, along = -height % stride, -width % stride
    padded = np.pad(image.astype(np.float32), [(0, down), (0, along), (0, 0)], mode="edge")
    rows, columns = padded.shape[0] // stride, padded.shape[1] // stride
    return padded.reshape(rows, stride, columns, stride, -1).mean((1, 3))


class MaskPropagator:
    """Masks of one video; frames come in order."""

    def __init__(self, config: PropagationConfig | None = None, features: Features = colour_and_place) -> None:
        """Begin without objects.

        Args:
            config: see `PropagationConfig`.
            features: keys of an image.
        """
        self.config, self.features = config or PropagationConfig(), features
        self.bank = AtkinsonShiffrinBank(self.config.bank)
        self.objects = 0
        """Objects that are known; their labels are 1 to this."""
        self._frame = 0
        self._latest: np.ndarray | None = None
        self._shape: tuple[int, ...] = ()

    def step(self, rgb: np.ndarray, given: np.ndarray | None = None) -> np.ndarray:
        """Return the labels (H, W) int32 of one frame, 0 for no object.

        Args:
            rgb: (H, W, 3) uint8, the same shape for the whole video.
            given: labels (H, W) int that are known, negative where they are not: of the first frame, and wherever an
                object (a new label) comes in.

        Raises:
            UsageError: a shape is wrong, or no label was ever given.
        """
        self._check(rgb, given)
        keys = self.features(rgb, self.config.stride)
        rows, columns, width = keys.shape
        flat = keys.reshape(-1, width)
        shares = self._read(flat, rows, columns)
        if given is not None:
            shares = self._with(shares, given)
        if given is not None or self._frame % self.config.every == 0:
            self.bank.write(flat, shares.reshape(rows * columns, -1, 1), self._frame)
        self._latest = shares
        self._frame += 1
        labels = labelled(shares, rgb.shape[0], rgb.shape[1], self.config.stride)
        return labels if given is None else np.where(given >= 0, given, labels).astype(np.int32)

    def nbytes(self) -> int:
        """Return the bytes of the bank."""
        return sum(array.nbytes for part in (self.bank.work, self.bank.long) for array in part.values())

    def _read(self, flat: np.ndarray, rows: int, columns: int) -> np.ndarray:
        """Return the share of every cell that belongs to each object, (h, w, G) float32."""
        if not self.objects:
            return np.zeros((rows, columns, 0), np.float32)
        held = sum(len(part["use"]) for part in (self.bank.work, self.bank.long) if part)
        # similarities of all cells at once would take gigabytes for large images
        pieces = np.array_split(flat, max(1, held * len(flat) // _PAIRS))
        readout = np.concatenate([self.bank.read(piece)[0][..., 0] for piece in pieces])
        shares = readout.reshape(rows, columns, -1).astype(np.float32)
        if self._latest is not None and self.config.sensory:
            blurred = cv2.GaussianBlur(self._latest, (0, 0), 1.0).reshape(rows, columns, -1)
            shares = (1 - self.config.sensory) * shares + self.config.sensory * blurred
        return shares

    def _with(self, shares: np.ndarray, given: np.ndarray) -> np.ndarray:
        """Return the shares with those that are known put in; new labels add objects."""
        self.objects = max(self.objects, int(given.max()))
        missing = self.objects - shares.shape[2]
        shares = np.pad(shares, [(0, 0), (0, 0), (0, missing)])
        known = cells((given >= 0)[..., None], self.config.stride)
        one_hot = given[..., None] == np.arange(1, self.objects + 1)
        told = cells(one_hot & (given >= 0)[..., None], self.config.stride)
        return (told + (1 - known) * shares).astype(np.float32)

    def _check(self, rgb: np.ndarray, given: np.ndarray | None) -> None:
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or (self._shape and rgb.shape != self._shape):
            raise UsageError(f"expected images {self._shape or '(H, W, 3)'} uint8, got {rgb.shape} {rgb.dtype}")
        if given is None and not self.objects:
            raise UsageError("expected labels with the first frame; nothing can be followed without any")
        if given is not None:
            if given.shape != rgb.shape[:2] or not np.issubdtype(given.dtype, np.integer):
                raise UsageError(f"expected labels {rgb.shape[:2]} int, got {given.shape} {given.dtype}")
            if not self.objects and given.max() < 1:
                raise UsageError("expected at least one label >= 1 in the first frame")
        self._shape = rgb.shape


def labelled(shares: np.ndarray, height: int, width: int, stride: int) -> np.ndarray:
    """Return labels (H, W) int32: the greatest odds, of the objects or of none of them.

    Args:
        shares: (h, w, G) float32, 0..1.
        height: H, pixels.
        width: W, pixels.
        stride: pixels of a cell.
    """
    size = shares.shape[1] * stride, shares.shape[0] * stride
    planes = [cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR) for plane in np.moveaxis(shares, 2, 0)]
    p = np.clip(np.stack(planes, 2)[:height, :width], _EPS, 1 - _EPS)
    none = np.clip(np.prod(1 - p, axis=2, keepdims=True), _EPS, 1 - _EPS)
    every = np.concatenate([none, p], 2)
    return (every / (1 - every)).argmax(2).astype(np.int32)
