"""Two banks per class: fixed anchors, and the surest frames seen so far; both sharpen what is recognised later.

    label      class of the highest cosine with an anchor;  h = entropy of softmax(scale cos)
    write      a class with a free slot takes the frame; else it replaces the slot of the highest entropy, if h is lower
    read       w_cs = exp(-beta (1 - cos(f, M_cs))),  v_c = normalised sum_s w_cs M_cs / |M_cs|
    classify   P = softmax(scale anchors . f) + share softmax(scale v . f)

Dual memory networks (Zhang et al. 2024, CVPR), training-free form. There the anchors are text features of known
classes; give those as ``anchors``. Without them the first ``classes`` frames whose cosine to all anchors is below
``novelty`` become anchors. The anchor is a permanent slot of its class; empty slots are zeros and add nothing.

Wrong labels reinforce themselves, and the order of the stream matters, as in the source. The weight ``share`` is
fixed here; the source searches it on the test set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.registry import register
from embodied_mem.stream.entry import Entry, entry_bytes
from embodied_mem.stream.evidence import Snapshot, by_similarity, spread
from embodied_mem.stream.memory import StreamMemory, check_at_least

_EPS = 1e-8


@dataclass(frozen=True)
class DmnDualConfig:
    """Banks and their temperatures."""

    classes: int = 16
    """Anchors at most."""
    slots: int = 8
    """Frames of a class in the dynamic bank."""
    beta: float = 5.5
    """Sharpness of the read; 0 is the plain mean."""
    scale: float = 20.0
    """Sharpness of the labels."""
    share: float = 1.0
    """Weight of the dynamic bank in a classification."""
    novelty: float = 0.7
    """Cosine to every anchor below which a frame becomes one."""

    def __post_init__(self) -> None:
        check_at_least(self, classes=1, slots=1, beta=0.0, share=0.0, novelty=-1.0)
        if self.scale <= 0:
            raise UsageError(f"expected scale > 0, got {self.scale}")


@register(
    "stream_memory",
    "dmn_dual",
    family="classes",
    source="Dual memory networks: Zhang et al. 2024, CVPR",
    small={"classes": 4, "slots": 3},
)
class DmnDual(StreamMemory):
    """Fixed anchors and the surest frames of every class."""

    Config = DmnDualConfig

    def __init__(self, config: DmnDualConfig, anchors: np.ndarray | None = None) -> None:
        """Begin without frames.

        Args:
            config: see `DmnDualConfig`.
            anchors: (C, D) features of known classes, C at most ``classes``; None to find them in the stream.

        Raises:
            UsageError: more anchors than classes.
        """
        self._anchors = None if anchors is None else np.asarray(anchors, np.float32)
        if self._anchors is not None and not (self._anchors.ndim == 2 and 1 <= len(self._anchors) <= config.classes):
            raise UsageError(f"expected anchors (C, D) with C <= {config.classes}, got {self._anchors.shape}")
        super().__init__(config)

    def start(self) -> None:
        """Begin with the anchors that were given."""
        # `labels`: class and entropy of every frame of the store, in its order
        self.stores = {"frames": []}
        self.arrays = {"labels": np.zeros((0, 2))}
        if self._anchors is not None:
            self.arrays["anchors"] = self._anchors

    def capacity(self, tokens: int, width: int, extra: int) -> int:
        """Bytes of anchors, frames and labels."""
        c = self.config
        return c.classes * (4 * width + c.slots * (entry_bytes(tokens, width, extra) + 16))

    def absorb(self, entry: Entry) -> None:
        """Label the frame; keep it if it is surer than one of its class."""
        c, key = self.config, entry.key
        anchors = self.arrays.get("anchors", np.zeros((0, len(key)), np.float32))
        if anchors.shape[1] != len(key):
            raise UsageError(f"expected tokens of width {anchors.shape[1]} for the anchors given, got {len(key)}")
        if self._anchors is None and len(anchors) < c.classes:
            if len(anchors) == 0 or cosines(key, anchors).max() < c.novelty:
                anchors = np.concatenate([anchors, key[None]])
                self.arrays["anchors"] = anchors
        chances = _softmax(c.scale * cosines(key, anchors))
        label, entropy = int(chances.argmax()), float(-(chances * np.log(chances + 1e-12)).sum())
        frames, labels = self.stores["frames"], self.arrays["labels"]
        leaves = replaced(labels[:, 0], labels[:, 1], label, entropy, c.slots)
        if leaves is None:
            return
        if leaves < len(frames):
            del frames[leaves]
            labels = np.delete(labels, leaves, axis=0)
        frames.append(entry)
        self.arrays["labels"] = np.concatenate([labels, [[label, entropy]]])

    def classify(self, feature: np.ndarray) -> np.ndarray:
        """Return (C,) scores of a feature (D,): softmax over the anchors, plus that over both banks, weighted.

        Raises:
            UsageError: there is no anchor yet.
        """
        with self._lock:
            anchors, labels = self.arrays.get("anchors"), self.arrays["labels"]
            keys = np.stack([e.key for e in self.stores["frames"]]) if self.stores["frames"] else None
        if anchors is None:
            raise UsageError("expected a frame, or anchors, before a classification")
        c = self.config
        bank = np.zeros((len(anchors), c.slots + 1, anchors.shape[1]), np.float32)
        bank[:, 0] = anchors
        for k in range(len(anchors)):
            rows = np.flatnonzero(labels[:, 0] == k)
            if keys is not None:
                bank[k, 1 : 1 + len(rows)] = keys[rows]
        unit = feature / (np.linalg.norm(feature) + _EPS)
        seen = soft_read(feature, bank, c.beta) @ unit
        return _softmax(c.scale * cosines(feature, anchors)) + c.share * _softmax(c.scale * seen)

    def rank(self, snapshot: Snapshot, query: np.ndarray | None, budget: int | None) -> list[Entry]:
        """Return frames, the most similar first (the order of the read weights)."""
        entries = snapshot.entries
        return spread(entries, budget) if query is None else by_similarity(entries, query)


def soft_read(feature: np.ndarray, bank: np.ndarray, beta: float) -> np.ndarray:
    """Return v (C, D) float32, of length 1, or 0 for a class without a filled slot.

    Args:
        feature: (D,) float32.
        bank: (C, S, D) float32; empty slots are zeros.
        beta: sharpness; 0 gives the mean direction of the filled slots.
    """
    size = np.linalg.norm(bank, axis=2, keepdims=True)
    unit = bank / np.where(size > 0, size, 1)
    alike = unit @ (feature / (np.linalg.norm(feature) + _EPS))
    # a common factor does not change the direction: without it a large beta underflows
    filled = np.where(size[..., 0] > 0, alike, -np.inf)
    best = filled.max(1, keepdims=True)
    weights = np.exp(beta * (alike - np.where(np.isfinite(best), best, 0)))
    total = np.einsum("cs,csd->cd", weights, unit)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return (total / np.where(length > 0, length, 1)).astype(np.float32)


def replaced(labels: np.ndarray, entropies: np.ndarray, label: int, entropy: float, slots: int) -> int | None:
    """Return the place in the bank that a new frame takes; the length for a free one, None for no place.

    Args:
        labels: (N,) classes of what is held.
        entropies: (N,) its entropies.
        label: class of the new frame.
        entropy: its entropy.
        slots: places of a class.
    """
    ours = np.flatnonzero(labels == label)
    if len(ours) < slots:
        return len(labels)
    worst = int(ours[entropies[ours].argmax()])
    return worst if entropy < entropies[worst] else None


def cosines(feature: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return (N,) cosines of a feature (D,) with rows (N, D)."""
    return rows @ feature / (np.linalg.norm(rows, axis=1) * np.linalg.norm(feature) + _EPS)


def _softmax(scores: np.ndarray) -> np.ndarray:
    chances = np.exp(scores - scores.max())
    return chances / chances.sum()
