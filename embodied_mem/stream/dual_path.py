"""Two ways to an answer: a fast one over a few lines per event, and a detailed one only where that is not sure.

    fast       all events as text; the answerer ends with "CONFIDENCE: x", 0..1; x above ``fast`` is taken
    detailed   the events most similar to the query, and what the memory holds within ``margin_s`` of them, with frames

    across     with a question about words ("when they mention the red mug") the detailed way begins at the events in
               whose text the words stand and shows the frames of their time alone: a cue of one sense, the other's
               memory

HippoMM (Lin et al. 2025, arXiv 2504.10739). A reply without a readable confidence counts as 0, not as fairly sure.
Both ways see the snapshot alone; the source may be closed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.stream.answerers.base import SYSTEM, Answer, Answerer, request_for
from embodied_mem.stream.answerers.plain import words
from embodied_mem.stream.answerers.stated import ASK, stated
from embodied_mem.stream.entry import Entry
from embodied_mem.stream.evidence import Snapshot, assemble, by_similarity

_ABOUT_WORDS = re.compile(
    r"\b(?:mention(?:s|ed|ing)?|say(?:s|ing)?|said|talk(?:s|ed|ing)? (?:about|of)|speak(?:s|ing)? (?:about|of)|"
    r"spoke (?:about|of)|hear(?:s|d)?)\s+(?:that\s+)?(.+)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class PathAnswer:
    """An answer and how it came about."""

    answer: Answer
    """The answer taken."""
    path: str
    """``fast`` or ``detailed``."""
    confidence: float
    """Of the fast answer."""
    spans: tuple[tuple[float, float], ...]
    """Seconds: the evidence of the answer taken."""
    calls: dict[str, int]
    """Calls of the answerer on each path."""
    ms: dict[str, float]
    """Milliseconds of each path."""


class DualPath:
    """Asks an answerer once, or twice."""

    def __init__(self, answerer: Answerer, *, fast: float = 0.7, top: int = 5, margin_s: float = 1.0) -> None:
        """Choose the answerer.

        Args:
            answerer: who is asked.
            fast: confidence above which the fast answer is taken.
            top: events of the detailed path.
            margin_s: seconds around them that are read as well.

        Raises:
            UsageError: a value is out of range.
        """
        if not 0 <= fast <= 1 or top < 1 or margin_s < 0:
            raise UsageError(f"expected 0 <= fast <= 1, top >= 1, margin_s >= 0, got {fast}, {top}, {margin_s}")
        self.answerer, self.fast, self.top, self.margin_s = answerer, fast, top, margin_s

    def ask(
        self, snapshot: Snapshot, question: str, query: np.ndarray | None = None, options: list[str] | None = None
    ) -> PathAnswer:
        """Answer one question from a snapshot.

        Args:
            snapshot: the memory.
            question: what is asked.
            query: (D,) float32 in the space of the tokens, for the detailed path; None gives it everything. A question
                about words goes by them where they are found in a text.
            options: answers to choose from.
        """
        began = time.perf_counter()
        everything = replace(snapshot.read(), frames=())
        first = self.answerer.answer(request_for(question, everything, options=options, system=SYSTEM + ASK))
        sure, text = confidence(first.text)
        fast_ms = 1000 * (time.perf_counter() - began)
        if sure > self.fast:
            answer = replace(first, text=text)
            spans = tuple((span.t0, span.t1) for span in everything.text)
            return PathAnswer(
                answer, "fast", sure, spans, {"fast": 1, "detailed": 0}, {"fast": fast_ms, "detailed": 0.0}
            )
        began = time.perf_counter()
        entries = snapshot.entries
        hits = said_in(entries, question)[: self.top]
        if not hits and query is not None:
            hits = by_similarity(entries, query)[: self.top]
        if hits:
            entries = tuple(
                e for e in entries if any(e.t0 <= h.t1 + self.margin_s and e.t1 >= h.t0 - self.margin_s for h in hits)
            )
        evidence = assemble(entries, snapshot, None)
        second = self.answerer.answer(request_for(question, evidence, options=options))
        spans = tuple((span.t0, span.t1) for span in evidence.text)
        ms = {"fast": fast_ms, "detailed": 1000 * (time.perf_counter() - began)}
        return PathAnswer(second, "detailed", sure, spans, {"fast": 1, "detailed": 1}, ms)


def said_in(entries: Sequence[Entry], question: str) -> list[Entry]:
    """Return the entries in whose texts all words stand that a question is about; none for other questions.

    >>> said_in([], "What is shown when they mention the red mug?")
    []
    """
    found = _ABOUT_WORDS.search(question)
    wanted = words(found[1]) if found else set()
    return [entry for entry in entries if wanted and wanted <= words(entry.text)]


def confidence(text: str) -> tuple[float, str]:
    """Return the confidence a reply ends with, 0 where there is none, and the reply without that line.

    >>> confidence("on the table\\nCONFIDENCE: 0.8")
    (0.8, 'on the table')
    >>> confidence("very sure")
    (0.0, 'very sure')
    """
    sure, rest = stated(text)
    return sure or 0.0, rest
