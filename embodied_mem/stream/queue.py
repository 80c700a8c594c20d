"""A bounded queue between a source and a worker, with a stated policy for when it is full.

    block         the producer waits: files, folders, episodes, where nothing may be lost
    drop_oldest   the oldest waiting item leaves: live sources with a little slack
    latest        everything waiting leaves: the worker always gets the newest item

At any time ``produced == consumed + dropped + waiting``.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from embodied_mem.errors import UsageError

T = TypeVar("T")
Policy = Literal["block", "drop_oldest", "latest"]
POLICIES: tuple[Policy, ...] = ("block", "drop_oldest", "latest")


@dataclass(frozen=True)
class QueueCounters:
    """What went through a queue."""

    produced: int
    """Items put in."""
    consumed: int
    """Items taken out."""
    dropped: int
    """Items that left without being taken out."""
    waiting: int
    """Items in the queue."""


class BoundedQueue(Generic[T]):
    """At most ``size`` items between threads."""

    def __init__(self, size: int = 8, policy: Policy = "block") -> None:
        """Make an empty queue.

        Raises:
            UsageError: the size is below 1 or there is no such policy.
        """
        if size < 1:
            raise UsageError(f"expected a queue of at least 1 item, got {size}")
        if policy not in POLICIES:
            raise UsageError(f"expected a policy of {', '.join(POLICIES)}, got {policy!r}")
        self.size, self.policy = size, policy
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._produced = self._consumed = self._dropped = 0

    def put(self, item: T) -> bool:
        """Put one item in; ``block`` waits for room. False if the queue is closed: the item is not taken."""
        with self._changed:
            while self.policy == "block" and len(self._items) >= self.size and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            if self.policy == "latest":
                self._dropped += len(self._items)
                self._items.clear()
            elif len(self._items) >= self.size:
                self._items.popleft()
                self._dropped += 1
            self._items.append(item)
            self._produced += 1
            self._changed.notify_all()
            return True

    def get(self, timeout_s: float | None = None) -> T | None:
        """Take the oldest item; None when the queue is closed and empty, or after ``timeout_s`` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, timeout_s)
            if not self._items:
                return None
            self._consumed += 1
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def wait(self, timeout_s: float) -> None:
        """Wait until there is something to take, the queue is closed, or ``timeout_s`` seconds have passed."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, timeout_s)

    def close(self) -> None:
        """Take no more items; those waiting can still be taken out. Everybody who waits goes on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def counters(self) -> QueueCounters:
        """Return the counters of one moment."""
        with self._changed:
            return QueueCounters(self._produced, self._consumed, self._dropped, len(self._items))
