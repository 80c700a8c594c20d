"""Standing questions, "tell me when ...": put to a stream again and again, told once whenever the answer turns to yes.

    every ``every_s`` seconds of the stream:  what the memory holds of the time since the question was last true
        --> answerer, options yes and no -->  yes, and no before: an `Alert`;  after a yes it has to be no once again

A question looks only at what came after it was put and after its last alert, so the past raises no alarm. It runs in a
thread of its own: neither ingest nor other questions wait for it, and where the answerer is slower than ``every_s`` the
question is put less often.
"""

from __future__ import annotations

import itertools
import math
import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embodied_mem.errors import UsageError
from embodied_mem.stream.asker import Asker, Reply

if TYPE_CHECKING:
    from embodied_mem.stream.session import Session

_POLL_S = 0.05
_TELL = re.compile(
    r"\s*(?:please\s+)?(?:tell|notify|alert|warn|let)\s+me(?:\s+know)?\s+(?:when|whenever|as soon as|once|if)\s+(.+)",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class Alert:
    """A standing question whose answer has turned to yes."""

    number: int
    """Number of the question, as `StandingQueries.add` gave it."""
    question: str
    """The question."""
    at_s: float
    """Seconds of the stream that the memory had seen."""
    reply: Reply
    """The answer with its evidence."""


OnAlert = Callable[[Alert], None]


@dataclass
class _Watched:
    question: str
    since_s: float
    asked_s: float
    armed: bool = True
    trouble: str | None = None


class StandingQueries:
    """Questions that wait for something to happen in one session."""

    def __init__(
        self, session: Session, asker: Asker, on_alert: OnAlert, *, every_s: float = 1.0, sure: float = 0.5
    ) -> None:
        """Watch a session.

        Args:
            session: whose memory is asked.
            asker: who answers.
            on_alert: takes every alert, in the thread of this object.
            every_s: seconds of the stream between two times that a question is put.
            sure: confidence below which a yes does not count; an answerer that states none is believed.

        Raises:
            UsageError: a value is out of range.
        """
        if every_s < 0 or not 0 <= sure <= 1:
            raise UsageError(f"expected every_s >= 0 and 0 <= sure <= 1, got {every_s} and {sure}")
        self.session, self.asker, self.on_alert, self.every_s, self.sure = session, asker, on_alert, every_s, sure
        self.reports: deque[str] = deque(maxlen=16)
        """Why the latest questions could not be answered."""
        self._watched: dict[int, _Watched] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, question: str) -> int:
        """Put a question from now on, and return its number.

        Raises:
            UsageError: it is empty, the questions were closed, or the stream is over.
        """
        if not question.strip():
            raise UsageError("expected a question, got an empty text")
        if self._closed.is_set():
            raise UsageError("these standing questions are closed; make others")
        if self.session.ended:
            raise UsageError("the stream has ended and nothing more will come; ask about what was seen instead")
        now = self.session.memory.until_s
        with self._lock:
            number = next(self._numbers)
            self._watched[number] = _Watched(question, now, now)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="standing", daemon=True)
                self._thread.start()
        return number

    def remove(self, number: int) -> bool:
        """Stop putting a question; False if there is none of this number."""
        with self._lock:
            return self._watched.pop(number, None) is not None

    @property
    def questions(self) -> dict[int, str]:
        """The questions that are put, by number."""
        with self._lock:
            return {number: item.question for number, item in self._watched.items()}

    def trouble(self, number: int) -> str | None:
        """Return why a question got neither yes nor no the last time it was put; None where it did."""
        with self._lock:
            item = self._watched.get(number)
        return None if item is None else item.trouble

    def check(self) -> None:
        """Put every question that is due to the memory as it is now; the thread does so by itself."""
        with self._lock:
            watched = list(self._watched.items())
        now = self.session.memory.until_s
        for number, item in watched:
            fresh = now > item.asked_s or item.asked_s == -math.inf
            if math.isfinite(now) and fresh and (now - item.asked_s >= self.every_s or not self.session.running):
                self._put(number, item)

    def close(self) -> None:
        """Put no more questions; waits for one that is being answered."""
        self._closed.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _watch(self) -> None:
        while not self._closed.wait(_POLL_S):
            self.check()

    def _put(self, number: int, item: _Watched) -> None:
        snapshot = self.session.snapshot().since(item.since_s)
        item.asked_s = snapshot.until_s
        # a memory without stores keeps no entries and shows what it has when it is read
        if snapshot.stores and not snapshot.entries:
            return
        try:
            query = self.session.query(item.question)
            reply = self.asker.ask(snapshot, item.question, query=query, options=("yes", "no"))
        except UsageError as error:
            # a server that is away now may be back for the next frame
            item.trouble = str(error)
            self.reports.append(item.trouble)
            return
        item.trouble = None
        if reply.answer.choice is None:
            item.trouble = f"expected yes or no, the answerer says {reply.text[:80]!r}"
            self.reports.append(item.trouble)
        yes = reply.answer.choice == 0 and (reply.confidence is None or reply.confidence >= self.sure)
        item.since_s = snapshot.until_s if yes else item.since_s
        if yes and item.armed and number in self.questions:
            self.on_alert(Alert(number, item.question, snapshot.until_s, reply))
        item.armed = not yes


def to_be_told(text: str) -> str | None:
    """Return what a person wants to be told of, or None where the text is an ordinary question.

    >>> to_be_told("Tell me when the red mug is on the table.")
    'the red mug is on the table'
    >>> to_be_told("When was the red mug on the table?") is None
    True
    """
    found = _TELL.fullmatch(text)
    return found[1].strip().rstrip(".!") if found else None
