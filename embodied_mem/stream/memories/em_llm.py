"""Events of a stream, recalled by similarity together with their neighbours in time.

    event        frames between two boundaries of surprise (`embodied_mem.stream.surprise`)
    refinement   when an event ends, the boundary before it moves to the best split of the two, by modularity
    key          mean of the ``represent`` frames nearest to the mean of the event
    read         the ``similar`` events of the highest q . key; then for each, best first, the event after it and the
                 one before it, up to ``contiguous`` more

EM-LLM (Fountas et al. 2024, arXiv 2407.09450). The source keeps every event and moves old ones to disk; here the two
most similar neighbours become one when there are more than ``events``. What is kept of an event are its representative
frames (means over their tokens), not all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.registry import register
from embodied_mem.stream.entry import Entry, entry_bytes, frozen
from embodied_mem.stream.evidence import Snapshot, spread
from embodied_mem.stream.memory import StreamMemory, check_at_least, stack_keys
from embodied_mem.stream.neighbours import Neighbours, cosines
from embodied_mem.stream.surprise import Refine, SurpriseConfig, SurpriseSegmenter, refined


@dataclass(frozen=True)
class EmLlmConfig:
    """Events and how they are recalled."""

    events: int = 128
    """Finished events that are held."""
    represent: int = 4
    """Frames kept of an event."""
    similar: int = 8
    """Events recalled by similarity."""
    contiguous: int = 4
    """Events recalled as their neighbours in time."""
    refine: Refine = "modularity"
    """How boundaries are refined."""
    surprise: SurpriseConfig = field(default_factory=SurpriseConfig)
    """What opens an event."""

    def __post_init__(self) -> None:
        check_at_least(self, events=2, represent=1, similar=1, contiguous=0)
        if self.represent > self.surprise.min_len:
            raise UsageError(f"expected represent <= surprise.min_len = {self.surprise.min_len}, got {self.represent}")


@register(
    "stream_memory",
    "em_llm",
    family="events",
    source="EM-LLM: Fountas et al. 2024, arXiv 2407.09450",
    small={"events": 6, "represent": 2, "surprise": {"min_len": 3, "max_len": 12, "window": 16}},
)
class EmLlm(StreamMemory):
    """Events by surprise, recalled with their neighbours in time."""

    Config = EmLlmConfig

    def start(self) -> None:
        """Begin without events."""
        self.stores = {"events": [], "last": [], "open": []}
        self._segmenter = SurpriseSegmenter(self.config.surprise)
        self._neighbours = Neighbours(cosines, self._merged)

    def capacity(self, tokens: int, width: int, extra: int) -> int:
        """Bytes of the events, of the frames of the last two, and of the segmenter."""
        c = self.config
        # frames of the last event may grow by refinement, by at most what the open one gives
        frames = 2 * c.surprise.max_len * entry_bytes(tokens, width, extra)
        return c.events * entry_bytes(c.represent, width, extra) + frames + self._segmenter.state_bytes(width)

    def absorb(self, entry: Entry) -> None:
        """Add the frame to the open event, or close that and open another."""
        opens = self._segmenter.opens(entry.key)
        if opens and self.stores["open"]:
            self._close()
        self.stores["open"].append(entry)
        self.arrays = dict(self._segmenter.state)

    def _close(self) -> None:
        """Refine the boundary between the last event and the open one; the last becomes an entry for good."""
        c, last, current = self.config, self.stores["last"], self.stores["open"]
        if last:
            frames = [*last, *current]
            features = stack_keys(frames, 0)
            cut = refined(features, 0, len(last), c.surprise.min_len, c.refine)
            if max(cut, len(frames) - cut) > c.surprise.max_len:
                cut = len(last)
            self.stores["events"].append(self._event(frames[:cut]))
            current = frames[cut:]
        self.stores["last"], self.stores["open"] = current, []
        events = self.stores["events"]
        self._neighbours.known(events)
        self._neighbours.merge(events, c.events)

    def restored(self) -> None:
        """Hand the segmenter its state, and compute the likeness of neighbouring events again."""
        self._segmenter = SurpriseSegmenter(self.config.surprise)
        self._segmenter.state = dict(self.arrays)
        self._neighbours = Neighbours(cosines, self._merged)
        self._neighbours.known(self.stores["events"])

    def _event(self, frames: Sequence[Entry]) -> Entry:
        features = stack_keys(frames, 0)
        chosen = representative(features, features.mean(0), self.config.represent)
        centre = frames[chosen[0]]
        return Entry(
            tokens=frozen(features[sorted(chosen)]),
            t0=frames[0].t0,
            t1=frames[-1].t1,
            t=float(np.mean([frame.t for frame in frames])),
            weight=float(len(frames)),
            rgb=centre.rgb,
            rgb_t=centre.rgb_t,
            text=next((frame.text for frame in frames if frame.text), ""),
            number=frames[0].number,
        )

    def _merged(self, a: Entry, b: Entry) -> Entry:
        tokens, total = np.concatenate([a.tokens, b.tokens]), a.weight + b.weight
        mean = (a.weight * a.key + b.weight * b.key) / np.float32(total)
        lead = a if a.weight >= b.weight else b
        return Entry(
            tokens=frozen(tokens[sorted(representative(tokens, mean, self.config.represent))]),
            t0=a.t0,
            t1=b.t1,
            t=(a.weight * a.t + b.weight * b.t) / total,
            weight=total,
            rgb=lead.rgb,
            rgb_t=lead.rgb_t,
            text=lead.text or a.text or b.text,
            number=a.number,
        )

    def rank(self, snapshot: Snapshot, query: np.ndarray | None, budget: int | None) -> list[Entry]:
        """Return similar events, their neighbours in time, and the frames of the present event."""
        recent = [e for name in ("last", "open") for e in snapshot.stores[name]]
        present = [self._event(recent)] if recent else []
        events = [*snapshot.stores["events"], *present]
        if query is None or not events:
            return spread(events, budget)
        scores = stack_keys(events, len(query)) @ query
        hits = np.argsort(-scores, kind="stable")[: self.config.similar].tolist()
        more = contiguous(hits, self.config.contiguous, len(events))
        return [events[i] for i in (*hits, *more)]


def representative(features: np.ndarray, mean: np.ndarray, count: int) -> list[int]:
    """Return the rows of features (T, D) that are nearest to ``mean`` (D,), at most ``count``, nearest first."""
    away = np.square(features - mean).sum(1)
    return np.argsort(away, kind="stable")[:count].tolist()


def contiguous(hits: Sequence[int], most: int, count: int) -> list[int]:
    """Return at most ``most`` neighbours of ``hits``, in the order of the hits: the next one, then the one before.

    Args:
        hits: events, best first.
        most: neighbours in all.
        count: events there are.

    >>> contiguous([5, 9], 4, 20)
    [6, 4, 10, 8]
    """
    found: list[int] = []
    for hit in hits:
        for place in (hit + 1, hit - 1):
            if len(found) < most and 0 <= place < count and place not in hits and place not in found:
                found.append(place)
    return found
