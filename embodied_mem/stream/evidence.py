"""What a question gets to see: a snapshot of a memory, and the evidence read out of it within a budget."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from embodied_mem.errors import UsageError
from embodied_mem.stream.entry import Entry

_EPS = 1e-8


class KeyFrame(NamedTuple):
    """An image that was kept."""

    rgb: np.ndarray
    """(H, W, 3) uint8, read-only."""
    t_s: float
    """Seconds, its exact time."""


class Span(NamedTuple):
    """A line of text about a stretch of time."""

    text: str
    t0: float
    t1: float


@dataclass(frozen=True)
class Evidence:
    """What was recalled, in time order."""

    tokens: Tensor
    """(M, D) float32; M is at most the budget."""
    times: Tensor
    """(M, 2) float64 seconds: first and last frame that a token stands for."""
    frames: tuple[KeyFrame, ...]
    """Key frames of what was recalled, each once."""
    text: tuple[Span, ...]
    """One line per entry recalled."""
    version: int
    """Version of the memory it was read from."""
    until_s: float
    """Seconds, the latest frame the memory had seen; -inf before the first."""

    def __repr__(self) -> str:
        shape = tuple(self.tokens.shape)
        return f"Evidence(tokens={shape}, frames={len(self.frames)}, until_s={self.until_s:.2f})"


Recall = Callable[["Snapshot", np.ndarray | None, int | None], Evidence]


@dataclass(frozen=True)
class Snapshot:
    """A memory at one moment; it never changes and may be read by any thread, as often as wanted."""

    version: int
    """Frames written since the last reset."""
    until_s: float
    """Seconds, the latest frame; -inf before the first."""
    width: int
    """D, 0 before the first frame."""
    stores: dict[str, tuple[Entry, ...]]
    """What is held, by store."""
    recall: Recall
    """How the memory reads."""
    since_s: float = -math.inf
    """Seconds; what ended at or before them is left out."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries, in time order."""
        return tuple(sorted((e for part in self.stores.values() for e in part), key=lambda e: (e.t0, e.t, e.number)))

    def before(self, t_s: float) -> Snapshot:
        """Return the snapshot without what reaches beyond ``t_s`` seconds (a question about an earlier moment)."""
        stores = {name: tuple(e for e in part if e.t1 <= t_s) for name, part in self.stores.items()}
        return dataclasses.replace(self, stores=stores, until_s=min(self.until_s, t_s))

    def since(self, t_s: float) -> Snapshot:
        """Return the snapshot without what ended at or before ``t_s`` seconds."""
        stores = {name: tuple(e for e in part if e.t1 > t_s) for name, part in self.stores.items()}
        return dataclasses.replace(self, stores=stores, since_s=max(self.since_s, t_s))

    def read(self, query: Tensor | np.ndarray | None = None, budget: int | None = None) -> Evidence:
        """Return what is recalled for a question.

        Args:
            query: (D,) float in the space of the tokens; None for an overview.
            budget: tokens at most; None for no limit.

        Raises:
            UsageError: the query has another shape or is not finite, or the budget is below 1.
        """
        if budget is not None and budget < 1:
            raise UsageError(f"expected a budget of at least 1 token, got {budget}")
        if query is not None:
            query = np.asarray(query.detach().cpu() if isinstance(query, Tensor) else query, np.float32)
            if query.ndim != 1 or (self.width and len(query) != self.width) or not np.isfinite(query).all():
                raise UsageError(f"expected a finite query (D = {self.width},), got shape {query.shape}")
        return self.recall(self, query, budget)


def assemble(ranked: Sequence[Entry], snapshot: Snapshot, budget: int | None) -> Evidence:
    """Return the evidence of entries, best first: whole entries while they fit, in time order.

    If not even the best fits, its tokens are averaged in groups down to the budget.
    """
    room = sum(len(e.tokens) for e in ranked) if budget is None else budget
    chosen: list[Entry] = []
    for entry in ranked:
        if len(entry.tokens) <= room:
            chosen.append(entry)
            room -= len(entry.tokens)
    parts = {id(e): e.tokens for e in chosen}
    if not chosen and ranked:
        best = ranked[0]
        groups = np.array_split(best.tokens, budget or 1)
        parts[id(best)] = np.stack([group.mean(0) for group in groups])
        chosen = [best]
    chosen.sort(key=lambda e: (e.t0, e.t, e.number))
    frames = {e.rgb_t: KeyFrame(e.rgb, e.rgb_t) for e in chosen if e.rgb is not None}
    times = [(e.t0, e.t1) for e in chosen for _ in range(len(parts[id(e)]))]
    rows = [parts[id(e)] for e in chosen]
    return Evidence(
        tokens=torch.from_numpy(np.concatenate(rows)) if rows else torch.zeros(0, snapshot.width),
        times=torch.tensor(times, dtype=torch.float64).reshape(-1, 2),
        frames=tuple(frames[t] for t in sorted(frames)),
        text=tuple(Span(e.text or describe(e), e.t0, e.t1) for e in chosen),
        version=snapshot.version,
        until_s=snapshot.until_s,
    )


def describe(entry: Entry) -> str:
    """Return what is known of an entry that has no text of its own.

    >>> describe(Entry(np.zeros((1, 2), np.float32), 0.5, 2.0, 1.0, 3.0))
    '3 frames from 0.50 s to 2.00 s'
    """
    if entry.weight == 1:
        return f"frame at {entry.t0:.2f} s"
    return f"{entry.weight:.0f} frames from {entry.t0:.2f} s to {entry.t1:.2f} s"


def similarity(entries: Sequence[Entry], query: np.ndarray) -> np.ndarray:
    """Return (N,) float32: for each entry the best cosine of its tokens with ``query`` (D,)."""
    if not entries:
        return np.zeros(0, np.float32)
    tokens = np.concatenate([e.tokens for e in entries])
    starts = np.cumsum([0, *[len(e.tokens) for e in entries[:-1]]])
    scale = np.linalg.norm(tokens, axis=1) * np.linalg.norm(query) + _EPS
    return np.maximum.reduceat(tokens @ query / scale, starts)


def by_similarity(entries: Sequence[Entry], query: np.ndarray) -> list[Entry]:
    """Return entries, the most similar to ``query`` first; among equals the latest."""
    order = np.argsort(-similarity(entries, query)[::-1], kind="stable")
    return [entries[len(entries) - 1 - index] for index in order]


def spread(entries: Sequence[Entry], budget: int | None) -> list[Entry]:
    """Return entries in an order that covers the whole time with any budget: evenly spaced ones first."""
    count = len(entries)
    if budget is None or count == 0:
        return list(entries)
    room = max(1, budget // max(len(e.tokens) for e in entries))
    if room >= count:
        return list(entries)
    first = np.unique(np.linspace(0, count - 1, room).round().astype(int)).tolist()
    return [entries[index] for index in first]
