"""Intervals at three depths, filled as the stream goes on, and a search that goes down where it looks promising.

    tree       intervals of ``spans`` seconds (60, 10, 1), each holding the mean of its frames; children tile the parent
    read       the best node that was not opened yet is opened: its children join the candidates; at most ``steps``
               times; nodes are then ranked by cosine with the query

VideoLucy (Zuo et al. 2025, arXiv 2510.12422) describes intervals by a captioning model, at the depth and with the
instruction a reasoning model asks for. Here an interval is described by its tokens and the search is by similarity;
captions given with the frames are kept. Coarse memory grows window by window, so a stream can be asked at any time.

Bounded: each depth holds ``nodes`` intervals. Of more, the oldest fine ones leave (a search then ends at their parent),
and at the coarsest depth the two most similar neighbours become one.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.registry import register
from embodied_mem.stream.entry import Entry, entry_bytes, joined
from embodied_mem.stream.evidence import Snapshot, similarity, spread
from embodied_mem.stream.memory import StreamMemory, check_at_least
from embodied_mem.stream.neighbours import Neighbours, cosines

_Node = tuple[float, int, int, int]


@dataclass(frozen=True)
class VideoLucyConfig:
    """Depths of the tree and length of the search."""

    spans: tuple[float, ...] = (60.0, 10.0, 1.0)
    """Seconds of an interval at each depth; each a multiple of the next."""
    nodes: int = 128
    """Intervals held at each depth."""
    steps: int = 5
    """Nodes opened by one read."""

    def __post_init__(self) -> None:
        check_at_least(self, nodes=2, steps=0)
        if not self.spans or min(self.spans) <= 0:
            raise UsageError(f"expected spans > 0 seconds, got {self.spans}")
        for outer, inner in zip(self.spans, self.spans[1:]):
            if not math.isclose(outer / inner, round(outer / inner)) or outer <= inner:
                raise UsageError(f"expected every span to be a multiple of the next, got {outer} and {inner}")


@register(
    "stream_memory",
    "videolucy",
    family="hierarchical",
    source="VideoLucy: Zuo et al. 2025, arXiv 2510.12422",
    small={"spans": (12.0, 4.0, 1.0), "nodes": 6},
)
class VideoLucy(StreamMemory):
    """A tree of intervals that is searched from coarse to fine."""

    Config = VideoLucyConfig

    def start(self) -> None:
        """Begin with an empty tree."""
        self.stores = {f"depth{depth}": [] for depth in range(len(self.config.spans))}
        self._neighbours = Neighbours(cosines, joined)

    def capacity(self, tokens: int, width: int, extra: int) -> int:
        """Bytes of the nodes at every depth."""
        return len(self.config.spans) * self.config.nodes * entry_bytes(tokens, width, extra)

    def absorb(self, entry: Entry) -> None:
        """Add the frame to its interval at every depth."""
        for depth, span in enumerate(self.config.spans):
            nodes = self.stores[f"depth{depth}"]
            if nodes and math.floor(nodes[-1].t1 / span) == math.floor(entry.t0 / span):
                nodes[-1] = joined(nodes[-1], entry)
            else:
                nodes.append(replace(entry, tokens=entry.tokens))
                if depth == 0:
                    # the open interval is not merged: it still changes
                    self._neighbours.known(nodes[:-1])
                    self._neighbours.merge(nodes, self.config.nodes - 1)
                elif len(nodes) > self.config.nodes:
                    del nodes[0]

    def restored(self) -> None:
        """Compute the likeness of the coarsest intervals again."""
        self._neighbours = Neighbours(cosines, joined)
        self._neighbours.known(self.stores["depth0"][:-1])

    def rank(self, snapshot: Snapshot, query: np.ndarray | None, budget: int | None) -> list[Entry]:
        """Return the nodes that the search left open, best first; without a query the coarsest ones."""
        levels = [snapshot.stores[f"depth{depth}"] for depth in range(len(self.config.spans))]
        if query is None:
            return spread(levels[0], budget)
        return backtrack(levels, query, self.config.steps)


def backtrack(levels: list[tuple[Entry, ...]], query: np.ndarray, steps: int) -> list[Entry]:
    """Return nodes by similarity after opening the best one ``steps`` times; an opened node gives way to its children.

    Args:
        levels: nodes at each depth, in the order of time.
        query: (D,) float32.
        steps: nodes opened at most; a node is never opened twice.
    """
    fits = [similarity(nodes, query).tolist() for nodes in levels]
    starts, ends = ([[getattr(node, name) for node in nodes] for nodes in levels] for name in ("t0", "t1"))
    # a node is (-fit, -depth, when it joined the candidates, place): sorted, the order of what is returned
    found: set[_Node] = {(-fit, 0, place, place) for place, fit in enumerate(fits[0])}
    # what ends before the oldest node below it begins has lost its children
    fertile = bisect_left(ends[0], starts[1][0]) if len(levels) > 1 and starts[1] else len(fits[0])
    inner = [(-fit, fertile + i, 0, fertile + i) for i, fit in enumerate(fits[0][fertile:])]
    heapify(inner)
    count = len(found)
    while steps and inner:
        fit, number, depth, place = heappop(inner)
        # nodes of a depth follow each other, so the children of a parent do
        first = bisect_left(starts[depth + 1], starts[depth][place])
        last = bisect_right(ends[depth + 1], ends[depth][place])
        if first >= last:
            continue
        steps -= 1
        found.remove((fit, -depth, number, place))
        for child in range(first, last):
            fit = -fits[depth + 1][child]
            found.add((fit, -depth - 1, count, child))
            if depth + 2 < len(levels):
                heappush(inner, (fit, count, depth + 1, child))
            count += 1
    return [levels[-depth][place] for _, depth, _, place in sorted(found)]
