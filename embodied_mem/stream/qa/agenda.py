"""When what is asked: questions in the order of their times, and the every-second polls of proactive ones."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

from embodied_mem.stream.qa.sample import Sample

POLL_S = 1.0
POLL_AFTER_S = 4.0
"""Seconds after the true time at which polling ends."""
TOLERANCE_S = 2.0
"""Seconds by which an unprompted answer may miss the true time."""


@dataclass(frozen=True, order=True)
class Due:
    """One moment at which something is asked."""

    t_s: float
    """Seconds into the video; inf after its end."""
    number: int
    """Order among those of one moment."""
    sample: Sample
    poll: bool
    """True where it is asked whether to speak now."""


class Agenda:
    """A queue of moments; a poll that was answered with no puts the next one in."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._number = itertools.count()
        self._heap = [self._first(sample) for sample in samples]
        heapq.heapify(self._heap)

    def __bool__(self) -> bool:
        return bool(self._heap)

    @property
    def next_s(self) -> float:
        """Seconds of the next moment."""
        return self._heap[0].t_s

    def pop(self) -> Due:
        """Return the next moment and take it off."""
        return heapq.heappop(self._heap)

    def again(self, due: Due) -> bool:
        """Poll once more a second later; False where polling is over."""
        t_s = due.t_s + POLL_S
        if t_s > last_poll_s(due.sample):
            return False
        heapq.heappush(self._heap, Due(t_s, next(self._number), due.sample, True))
        return True

    def _first(self, sample: Sample) -> Due:
        at = math.inf if sample.ask_time_s is None else sample.ask_time_s
        poll = sample.kind == "proactive"
        return Due(at + POLL_S if poll else at, next(self._number), sample, poll)


def last_poll_s(sample: Sample) -> float:
    """Return the seconds after which a proactive question is not asked any more."""
    at = sample.ask_time_s or 0.0
    return max(sample.expect_time_s or 0.0, at) + POLL_AFTER_S


def in_time(sample: Sample, said_s: float) -> bool:
    """Return whether an unprompted answer at ``said_s`` seconds is in time."""
    return sample.expect_time_s is not None and abs(said_s - sample.expect_time_s) <= TOLERANCE_S


def moments(sample: Sample) -> list[float]:
    """Return every time at which something may be asked about a sample."""
    if sample.kind != "proactive":
        return [math.inf if sample.ask_time_s is None else sample.ask_time_s]
    first = (sample.ask_time_s or 0.0) + POLL_S
    return [first + POLL_S * step for step in range(int((last_poll_s(sample) - first) // POLL_S) + 1)]
