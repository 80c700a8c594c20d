"""What a question gets to see: a snapshot of a memory, and the evidence read out of it within a budget."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from embodied_mem.errors import UsageError
from embodied_mem.stream.entry import Entry, gathered

_EPS = 1e-8
_IN_TIME = attrgetter("t0", "t", "number")


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


class Lines(Sequence[Span]):
    """Lines that are written when one is looked at: an answerer that reads tokens alone never does."""

    def __init__(self, count: int, write: Callable[[], tuple[Span, ...]]) -> None:
        """Say how many there are, and what writes them; it is called once, later, and gives the same whenever it is."""
        self._count = count
        self._write: Callable[[], tuple[Span, ...]] | None = write
        self._rows: tuple[Span, ...] = ()

    def rows(self) -> tuple[Span, ...]:
        """Return all lines."""
        write = self._write
        if write is not None:
            # two threads may both write, and then write the same
            self._rows = write()
            self._write = None
        return self._rows

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Span]:
        return iter(self.rows())

    def __getitem__(self, index: Any) -> Any:
        return self.rows()[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lines | tuple) and self.rows() == tuple(other)

    def __hash__(self) -> int:
        return hash(self.rows())

    def __repr__(self) -> str:
        return f"Lines{self.rows()!r}"


@dataclass(frozen=True)
class Evidence:
    """What was recalled, in time order."""

    tokens: Tensor
    """(M, D) float32; M is at most the budget."""
    times: Tensor
    """(M, 2) float64 seconds: first and last frame that a token stands for."""
    frames: tuple[KeyFrame, ...]
    """Key frames of what was recalled, each once."""
    text: Sequence[Span]
    """One line per entry recalled, a tuple or `Lines`."""
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
        return tuple(in_time([e for part in self.stores.values() for e in part]))

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
    chosen = _fitting(ranked, budget)
    if not chosen and ranked:
        chosen = [ranked[0]]
        groups = np.array_split(ranked[0].tokens, budget or 1)
        tokens, sizes = np.stack([group.mean(0) for group in groups]), [len(groups)]
    else:
        chosen = in_time(chosen)
        tokens, sizes = gathered(chosen) if chosen else (np.zeros((0, snapshot.width), np.float32), [])
    times = np.array([[e.t0 for e in chosen], [e.t1 for e in chosen]], np.float64).T
    frames = {e.rgb_t: KeyFrame(e.rgb, e.rgb_t) for e in chosen if e.rgb is not None}
    return Evidence(
        tokens=torch.from_numpy(tokens),
        times=torch.from_numpy(np.repeat(times, sizes, axis=0)),
        frames=tuple(frames[t] for t in sorted(frames)),
        text=Lines(len(chosen), lambda: tuple(Span(e.text or describe(e), e.t0, e.t1) for e in chosen)),
        version=snapshot.version,
        until_s=snapshot.until_s,
    )


def _fitting(ranked: Sequence[Entry], budget: int | None) -> list[Entry]:
    """Return the entries that fit, each whole, taken in order."""
    if budget is None:
        return list(ranked)
    room, chosen = budget, []
    for entry in ranked:
        size = len(entry.tokens)
        if size <= room:
            chosen.append(entry)
            room -= size
            if not room:
                break
    return chosen


def in_time(entries: Sequence[Entry]) -> list[Entry]:
    """Return entries in the order of time: by first second, then by mean, then by number."""
    # single numbers sort in a fifth of the time of triples, and nearly always tell all apart
    found = sorted(entries, key=attrgetter("t0"))
    if len({e.t0 for e in found}) < len(found):
        found.sort(key=_IN_TIME)
    return found


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
    tokens, sizes = gathered(entries)
    fit = cosines(tokens, query)
    if len(set(sizes)) == 1:
        return fit.reshape(-1, sizes[0]).max(1)
    return np.maximum.reduceat(fit, np.cumsum([0, *sizes[:-1]]))


def cosines(rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Return (N,) float32 cosines of rows (N, D) with ``query`` (D,)."""
    # one pass over the rows; np.linalg.norm makes an array of squares first
    scale = np.sqrt(np.einsum("nd,nd->n", rows, rows)) * np.linalg.norm(query) + _EPS
    return rows @ query / scale


def by_similarity(entries: Sequence[Entry], query: np.ndarray) -> list[Entry]:
    """Return entries, the most similar to ``query`` first; among equals the latest."""
    order = np.argsort(-similarity(entries, query)[::-1], kind="stable")
    return [entries[index] for index in (len(entries) - 1 - order).tolist()]


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
