"""One question to one snapshot: recall within a budget, ask the answerer, keep what the answer was made of.

    snapshot --(query, budget)--> evidence --(text and key frames)--> answerer --> Reply

An answerer that states no confidence by itself is told to end with a line ``CONFIDENCE: x``; where there is none
either, the confidence is None, never a guess.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.stream.answerers.base import SYSTEM, Answer, Answerer, OnText, request_for
from embodied_mem.stream.answerers.stated import ASK, stated, unfinished
from embodied_mem.stream.evidence import Evidence, KeyFrame, Snapshot, Span

BUDGET = 256
SHOWN = 6


@dataclass(frozen=True)
class Reply:
    """An answer with what it was made of."""

    question: str
    """What was asked."""
    at_s: float
    """Seconds of the stream that the memory had seen; -inf before the first frame."""
    answer: Answer
    """What the answerer said."""
    confidence: float | None
    """0..1 as the answerer states it; None where it states none."""
    evidence: Evidence
    """All that was recalled."""
    spans: tuple[Span, ...]
    """The lines of the evidence that are worth showing, in time order."""
    frames: tuple[KeyFrame, ...]
    """The key frames of the evidence that are worth showing, in time order."""
    retrieve_ms: float = 0.0
    """Milliseconds that recalling the evidence took; `Answer.total_ms` is the answer's own."""

    @property
    def text(self) -> str:
        """The answer in words."""
        return self.answer.text


class Asker:
    """Asks one answerer; may be used by several threads where the answerer may."""

    def __init__(self, answerer: Answerer, *, budget: int | None = BUDGET, shown: int = SHOWN) -> None:
        """Choose the answerer.

        Args:
            answerer: who is asked.
            budget: tokens recalled for a question at most; None for no limit.
            shown: lines and key frames of a reply at most.

        Raises:
            UsageError: a value is below 1.
        """
        if shown < 1 or (budget is not None and budget < 1):
            raise UsageError(f"expected budget >= 1 and shown >= 1, got {budget} and {shown}")
        self.answerer, self.budget, self.shown = answerer, budget, shown

    def ask(
        self,
        snapshot: Snapshot,
        question: str,
        *,
        at_s: float | None = None,
        query: np.ndarray | None = None,
        options: Sequence[str] | None = None,
        on_text: OnText | None = None,
    ) -> Reply:
        """Answer one question.

        Args:
            snapshot: the memory.
            question: what is asked.
            at_s: answer as of this second: what reaches beyond it is left out.
            query: (D,) float32, the question in the space of the tokens; None for an overview.
            options: answers to choose from.
            on_text: gets the answer so far while it comes.

        Raises:
            AnswererError: the back-end cannot answer.
            UsageError: the question is empty, or the query has another shape.
        """
        if at_s is not None:
            snapshot = snapshot.before(at_s)
        if not snapshot.width:
            query = None
        began = time.perf_counter()
        evidence = snapshot.read(query, self.budget)
        retrieve_ms = 1000 * (time.perf_counter() - began)
        takes = self.answerer.capabilities
        request = request_for(
            question, evidence, options=options, embeds=takes.embeds, text=takes.text, system=SYSTEM + ASK
        )
        said = None if on_text is None else lambda text: on_text(unfinished(text))
        answer = self.answerer.stream(request, said)
        confidence = answer.confidence
        if confidence is None:
            confidence, text = stated(answer.text)
            answer = replace(answer, text=text)
        if confidence is None and answer.logprobs:
            confidence = float(_softmax_top(answer.logprobs))
        return Reply(
            question,
            snapshot.until_s,
            answer,
            confidence,
            evidence,
            self._spans(evidence, answer, query),
            self._frames(evidence, answer, query),
            retrieve_ms,
        )

    def _spans(self, evidence: Evidence, answer: Answer, query: np.ndarray | None) -> tuple[Span, ...]:
        rows = evidence.text
        worth = _worth(evidence, answer, query, [(row.t0, row.t1) for row in rows])
        return tuple(rows[i] for i in _best(worth, len(rows), self._most(answer, worth)))

    def _frames(self, evidence: Evidence, answer: Answer, query: np.ndarray | None) -> tuple[KeyFrame, ...]:
        rows = evidence.frames
        worth = _worth(evidence, answer, query, [(row.t_s, row.t_s) for row in rows])
        return tuple(rows[i] for i in _best(worth, len(rows), self._most(answer, worth)))

    def _most(self, answer: Answer, worth: np.ndarray | None) -> int:
        """Return how many are shown: of an answer that points at its evidence, what it points at, else the nearest."""
        if worth is None or not answer.spans:
            return self.shown
        return min(self.shown, max(int((worth == 0.0).sum()), len(answer.spans)))


def _worth(
    evidence: Evidence, answer: Answer, query: np.ndarray | None, stretches: Sequence[tuple[float, float]]
) -> np.ndarray | None:
    """Return how much each stretch has to do with the answer, (N,) float64; None where nothing says so."""
    t0, t1 = np.array(stretches, np.float64).reshape(-1, 2).T
    if answer.spans:
        a, b = np.array(answer.spans, np.float64).T
        # a stretch reaching far beyond what is pointed at says less than one that fits; a moment within it fits
        beyond = np.maximum(a[None] - t0[:, None], 0.0) + np.maximum(t1[:, None] - b[None], 0.0)
        before = np.maximum(a[None] - t1[:, None], 0.0) + np.maximum(t0[:, None] - b[None], 0.0)
        return -(beyond + before).min(1)
    if query is None or not len(evidence.tokens):
        return None
    tokens, times = evidence.tokens.numpy(), evidence.times.numpy()
    scale = np.linalg.norm(tokens, axis=1) * np.linalg.norm(query) + 1e-8
    overlap = (times[None, :, 0] <= t1[:, None]) & (times[None, :, 1] >= t0[:, None])
    return np.where(overlap, (tokens @ query / scale)[None], -np.inf).max(1)


def _best(worth: np.ndarray | None, count: int, most: int) -> list[int]:
    """Return at most ``most`` of ``count`` places, ascending: the worthiest, or evenly spread ones if none is known."""
    if worth is None:
        return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist() if count else []
    return sorted(np.argsort(-worth, kind="stable")[:most].tolist())


def _softmax_top(logprobs: Sequence[float]) -> float:
    top = max(logprobs)
    return 1.0 / sum(math.exp(value - top) for value in logprobs)
