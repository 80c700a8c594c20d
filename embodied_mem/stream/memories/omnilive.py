"""Clips cut where the picture changes, a few tokens and a summary for each, chosen by the question.

    boundary   a clip has ``min_len`` frames and the cosine to the frame before is at most ``change``, or ``max_len``
    clip       its frames in ``slots`` groups of neighbours in time, each averaged; summary = mean
    select     s_k = cos(q, summary_k); the best ``select`` clips with s_k > ``tau``; none: the latest frames
    overview   one vector per clip that knows of the others: softmax(T T' / sqrt(D)) T of the summaries T

InternLM-XComposer2.5-OmniLive (Zhang et al. 2024, arXiv 2412.09596). Weaker than the source: means and an attention
without weights stand in for its learned compressor. Different: the best clip above the threshold is taken, not the
earliest; beyond ``clips`` the most similar neighbours become one, where the source grows without bound; an open clip is
not computed again at every frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.registry import register
from embodied_mem.stream.entry import Entry, entry_bytes, frozen, joined
from embodied_mem.stream.evidence import Snapshot, spread
from embodied_mem.stream.memory import StreamMemory, check_at_least, stack_keys
from embodied_mem.stream.neighbours import Neighbours, cosines

_EPS = 1e-8


@dataclass(frozen=True)
class OmniLiveConfig:
    """Clips and their selection."""

    min_len: int = 3
    """Shortest clip, frames."""
    max_len: int = 16
    """Longest clip, frames."""
    change: float = 0.9
    """Cosine of neighbouring frames at or below which a clip ends."""
    clips: int = 256
    """Finished clips that are held."""
    slots: int = 4
    """Tokens of a clip."""
    select: int = 4
    """Clips that a question gets."""
    tau: float = 0.3
    """Least cosine of question and clip."""
    recent: int = 3
    """Latest frames that are given where no clip fits."""

    def __post_init__(self) -> None:
        check_at_least(self, min_len=1, clips=2, slots=1, select=1, recent=1)
        if self.max_len < self.min_len:
            raise UsageError(f"expected max_len >= min_len = {self.min_len}, got {self.max_len}")


@register(
    "stream_memory",
    "omnilive",
    family="clips",
    source="InternLM-XComposer2.5-OmniLive: Zhang et al. 2024, arXiv 2412.09596",
    long_term=True,
    small={"max_len": 8, "clips": 10},
)
class OmniLive(StreamMemory):
    """Clips with summaries; a question selects the best."""

    Config = OmniLiveConfig

    def start(self) -> None:
        """Begin without clips."""
        # the latest frames are those of the open clip, and of `recent` where that is shorter
        self.stores = {"clips": [], "recent": [], "open": []}
        self._neighbours = Neighbours(cosines, joined)

    def capacity(self, tokens: int, width: int, extra: int) -> int:
        """Bytes of the clips, and of the frames of the open one and before it."""
        c = self.config
        return c.clips * entry_bytes(c.slots, width, extra) + (c.max_len + c.recent) * entry_bytes(tokens, width, extra)

    def absorb(self, entry: Entry) -> None:
        """Add the frame to the open clip, or close that first."""
        c, current = self.config, self.stores["open"]
        if current and (len(current) >= c.max_len or (len(current) >= c.min_len and self._changed(current[-1], entry))):
            self._close()
        self.stores["open"].append(entry)

    def _changed(self, before: Entry, after: Entry) -> bool:
        a, b = before.key, after.key
        return float(a @ b) <= self.config.change * float(np.linalg.norm(a) * np.linalg.norm(b) + _EPS)

    def _close(self) -> None:
        c, current, clips = self.config, self.stores["open"], self.stores["clips"]
        clips.append(compressed(current, c.slots))
        self.stores["recent"], self.stores["open"] = current[-c.recent :], []
        self._neighbours.known(clips)
        self._neighbours.merge(clips, c.clips)

    def restored(self) -> None:
        """Compute the likeness of neighbouring clips again."""
        self._neighbours = Neighbours(cosines, joined)
        self._neighbours.known(self.stores["clips"])

    def rank(self, snapshot: Snapshot, query: np.ndarray | None, budget: int | None) -> list[Entry]:
        """Return the selected clips, or the latest frames; without a query the overview."""
        c, current = self.config, list(snapshot.stores["open"])
        clips = [*snapshot.stores["clips"], *([compressed(current, c.slots)] if current else [])]
        if not clips:
            return []
        if query is None:
            views = overview(stack_keys(clips, len(clips[0].key)))
            return spread([replace(clip, tokens=view[None]) for clip, view in zip(clips, views)], budget)
        chosen = select(stack_keys(clips, len(query)), query, c.select, c.tau)
        if chosen:
            return [clips[i] for i in chosen]
        return [*reversed([*snapshot.stores["recent"], *current][-c.recent :])]


def compressed(frames: list[Entry], slots: int) -> Entry:
    """Return one entry of ``slots`` tokens for a clip; a clip of fewer frames repeats its last."""
    keys = stack_keys(frames, 0)
    if len(keys) < slots:
        keys = np.concatenate([keys, np.repeat(keys[-1:], slots - len(keys), axis=0)])
    middle = frames[len(frames) // 2]
    return Entry(
        tokens=frozen(np.stack([group.mean(0) for group in np.array_split(keys, slots)])),
        t0=frames[0].t0,
        t1=frames[-1].t1,
        t=float(np.mean([frame.t for frame in frames])),
        weight=float(len(frames)),
        rgb=middle.rgb,
        rgb_t=middle.rgb_t,
        text=next((frame.text for frame in frames if frame.text), ""),
        number=frames[0].number,
    )


def select(summaries: np.ndarray, query: np.ndarray, most: int, tau: float) -> list[int]:
    """Return the clips of the highest cosine with ``query`` (D,) above ``tau``, best first, at most ``most``.

    Args:
        summaries: (K, D) float32.
        query: (D,) float32.
        most: clips at most.
        tau: cosine that has to be exceeded.
    """
    scores = summaries @ query / (np.linalg.norm(summaries, axis=1) * np.linalg.norm(query) + _EPS)
    best = np.argsort(-scores, kind="stable")[:most]
    return [int(i) for i in best if scores[i] > tau]


def overview(summaries: np.ndarray) -> np.ndarray:
    """Return (K, D) float32: every summary mixed with those like it."""
    scores = summaries @ summaries.T / np.float32(np.sqrt(summaries.shape[1]))
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return (weights / weights.sum(1, keepdims=True)) @ summaries
