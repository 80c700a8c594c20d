"""Chunks of frames: a coarse look at the means of all chunks, a detailed one inside the best.

    coarse   the ``top_k`` chunks of the highest q . mean / sqrt(D), weights w = softmax of these scores
    detail   frames of these chunks and of the open one, ordered by w (cosine with q)

Hierarchical chunk attention (Lampinen et al. 2021, arXiv 2105.14039) over frames instead of states, without learned
projections. Chunks have ``chunk`` frames, or are events of surprise; the last ``chunks`` of them are held.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.registry import register
from embodied_mem.stream.entry import Entry, entry_bytes, frozen
from embodied_mem.stream.evidence import Snapshot, similarity, spread
from embodied_mem.stream.memory import StreamMemory, check_at_least
from embodied_mem.stream.surprise import SurpriseConfig, SurpriseSegmenter


@dataclass(frozen=True)
class HcamConfig:
    """Chunks and how they are read."""

    chunk: int = 16
    """Frames of a chunk, at most."""
    chunks: int = 16
    """Finished chunks that are held."""
    top_k: int = 4
    """Chunks that are looked into."""
    boundary: Literal["fixed", "surprise"] = "fixed"
    """Where a chunk ends: after ``chunk`` frames, or also where a frame surprises."""
    surprise: SurpriseConfig = field(default_factory=lambda: SurpriseConfig(min_len=4, max_len=16))
    """What ends a chunk early."""

    def __post_init__(self) -> None:
        check_at_least(self, chunk=1, chunks=1, top_k=1)
        if self.boundary == "surprise" and self.surprise.max_len > self.chunk:
            raise UsageError(f"expected surprise.max_len <= chunk = {self.chunk}, got {self.surprise.max_len}")


@register(
    "stream_memory",
    "hcam",
    family="hierarchical",
    source="HCAM: Lampinen et al. 2021, arXiv 2105.14039",
    small={"chunk": 5, "chunks": 6, "top_k": 2},
)
class Hcam(StreamMemory):
    """Chunks of frames: the best few are read in detail."""

    Config = HcamConfig

    def start(self) -> None:
        """Begin without chunks."""
        # a summary's `number` and `weight` say which frames are its chunk's
        self.stores = {"summaries": [], "frames": [], "open": []}
        self._segmenter = SurpriseSegmenter(self.config.surprise)

    def capacity(self, tokens: int, width: int, extra: int) -> int:
        """Bytes of the chunks held, of the open one and of the summaries."""
        c = self.config
        frames = (c.chunks + 1) * c.chunk * entry_bytes(tokens, width, extra)
        return frames + c.chunks * entry_bytes(1, width, 0) + self._segmenter.state_bytes(width)

    def absorb(self, entry: Entry) -> None:
        """Add the frame to the open chunk; a finished one joins the ring."""
        c = self.config
        if c.boundary == "surprise":
            opens = self._segmenter.opens(entry.key)
            self.arrays = dict(self._segmenter.state)
            if opens and self.stores["open"]:
                self._finish()
        self.stores["open"].append(entry)
        if len(self.stores["open"]) == c.chunk:
            self._finish()

    def _finish(self) -> None:
        chunk, summaries, frames = self.stores["open"], self.stores["summaries"], self.stores["frames"]
        mean = frozen(np.stack([frame.key for frame in chunk]).mean(0)[None])
        middle = float(np.mean([frame.t for frame in chunk]))
        weight, number = float(len(chunk)), chunk[0].number
        summaries.append(Entry(mean, chunk[0].t0, chunk[-1].t1, middle, weight, number=number))
        frames += chunk
        if len(summaries) > self.config.chunks:
            oldest = summaries.pop(0)
            del frames[: int(oldest.weight)]
        self.stores["open"] = []

    def restored(self) -> None:
        """Hand the segmenter its state."""
        self._segmenter = SurpriseSegmenter(self.config.surprise)
        self._segmenter.state = dict(self.arrays)

    def rank(self, snapshot: Snapshot, query: np.ndarray | None, budget: int | None) -> list[Entry]:
        """Return frames of the best chunks and of the open one, then the summaries of the others."""
        summaries, frames, current = (snapshot.stores[name] for name in ("summaries", "frames", "open"))
        if query is None:
            return [*current, *spread(summaries, budget)]
        chosen = coarse(np.stack([s.tokens[0] for s in summaries]), query, self.config.top_k) if summaries else []
        scored = [(1.0, frame) for frame in current]
        for weight, place in chosen:
            first, count = summaries[place].number, summaries[place].weight
            scored += [(weight, frame) for frame in frames if first <= frame.number < first + count]
        fit = similarity([frame for _, frame in scored], query)
        order = np.argsort([-weight * (1 + match) for (weight, _), match in zip(scored, fit)], kind="stable")
        taken = {place for _, place in chosen}
        return [scored[i][1] for i in order] + [s for place, s in enumerate(summaries) if place not in taken]


def coarse(means: np.ndarray, query: np.ndarray, top_k: int) -> list[tuple[float, int]]:
    """Return (weight, chunk) of the best chunks; of equal ones the latest first.

    Args:
        means: (N, D) float32, in the order of time.
        query: (D,) float32.
        top_k: chunks at most.
    """
    scores = means @ query / np.sqrt(len(query))
    age = np.arange(len(means))[::-1]
    best = np.lexsort((age, -scores))[:top_k]
    weights = np.exp(scores[best] - scores[best].max())
    return [(float(w), int(i)) for w, i in zip(weights / weights.sum(), best)]
