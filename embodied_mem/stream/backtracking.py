"""Iterative backtracking through a tree of intervals: look again, closer, where the answer may be, until it is sure.

    coarse      every interval of the coarsest depth is described once (and kept for the next question)
    answer      a reasoner answers from the descriptions and says whether it is sure; sure ends the search
    periods     unless the question counts in order ("the third ..."), the reasoner may narrow the search to periods
    step        it names a period and an instruction; the best interval there that was not opened yet is described
                again with the instruction, whole and child by child; at most ``max_steps`` times
    forced      then one last answer from everything

VideoLucy (Zuo et al. 2025, arXiv 2510.12422). Different: the tree is that of a running stream (memory ``videolucy``),
intervals are told apart by their place in it and not by their length in seconds, nothing is opened twice, and what is
described are key frames that the memory still holds; an interval without any is not offered. A reply that cannot be
read is asked for once more; then the place is chosen by similarity (or, without a query, by the words that question
and description share), and an answer is taken as it stands, as not sure. Both models see the snapshot alone.
"""

from __future__ import annotations

import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.stream.answerers.base import Answer, Answerer, ImagePart, Request, TextPart
from embodied_mem.stream.answerers.choices import find_choice
from embodied_mem.stream.answerers.plain import words
from embodied_mem.stream.entry import Entry
from embodied_mem.stream.evidence import Snapshot, similarity

Captioner = Callable[[Sequence[ImagePart], str], str]
"""Key frames in the order of time and an instruction -> a description."""

_KEPT = 4096
_DESCRIBE = "Describe what is seen, in one or two sentences."
_REPLY = "Reply with one JSON object and nothing else: "
_ANSWER = _REPLY + '{{"answer": "...", "confident": true or false}}. Question: {question}'
_PERIODS = (
    _REPLY + '{{"some": true or false, "periods": [[start, end], ...]}}: whether a few periods, in seconds, are enough '
    "to answer the question, and which. Question: {question}"
)
_PLACE = (
    _REPLY + '{{"period": [start, end], "instruction": "..."}}: the period, in seconds, to look at again, and what to '
    "look for there. Seen closely already: {seen}. Question: {question}"
)
_FORCED = "Answer as well as you can. Question: {question}"
_ORDINAL = re.compile(
    r"\b(first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|\d+(?:st|nd|rd|th))\b", re.IGNORECASE
)


class Node(NamedTuple):
    """An interval of the tree, by its place."""

    depth: int
    """0 for the coarsest."""
    number: int
    """Number of its first frame in the stream."""
    t0: float
    """Seconds, its first frame."""
    t1: float
    """Seconds, its last frame."""


@dataclass
class Counts:
    """What one question cost."""

    captions: int = 0
    """Descriptions made."""
    calls: int = 0
    """Requests to the reasoner, repeated ones included."""
    repeated: int = 0
    """Requests made again because the reply could not be read."""
    tokens: int = 0
    """Tokens of prompts and replies, where the reasoner tells them."""
    seconds: float = 0.0
    """In all."""


@dataclass(frozen=True)
class Backtracked:
    """An answer, and the way to it."""

    answer: Answer
    """What was answered; ``spans`` are the intervals opened."""
    confident: bool
    """Whether the reasoner was sure."""
    forced: bool
    """Whether the steps ran out."""
    opened: tuple[Node, ...]
    """Intervals in the order they were opened, no two alike."""
    counts: Counts
    """What it cost."""


@dataclass
class _Search:
    question: str
    options: tuple[str, ...] | None
    levels: list[tuple[Entry, ...]]
    fits: list[np.ndarray] | None
    coarse: list[tuple[Node, str]] = field(default_factory=list)
    closer: list[tuple[Node, str]] = field(default_factory=list)
    opened: list[Node] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)


class Backtracker:
    """Asks a reasoner, and a captioner where it has to look closer."""

    def __init__(
        self, reasoner: Answerer, captioner: Captioner | None = None, *, max_steps: int = 5, frames: int = 20
    ) -> None:
        """Choose the models.

        Args:
            reasoner: answers and says where to look.
            captioner: describes key frames; None asks the reasoner itself, which must take images.
            max_steps: intervals opened at most.
            frames: key frames of one description at most.

        Raises:
            UsageError: a value is below its least, or there is nobody to describe pictures.
        """
        if max_steps < 0 or frames < 1:
            raise UsageError(f"expected max_steps >= 0 and frames >= 1, got {max_steps} and {frames}")
        if captioner is None and not reasoner.capabilities.images:
            raise UsageError("expected a captioner, or a reasoner that takes images")
        self.reasoner, self.max_steps, self.frames = reasoner, max_steps, frames
        self.captioner = captioner or self._described_by_reasoner
        self._described: OrderedDict[tuple[int, int, float], str] = OrderedDict()

    def ask(
        self,
        snapshot: Snapshot,
        question: str,
        query: np.ndarray | None = None,
        options: Sequence[str] | None = None,
    ) -> Backtracked:
        """Answer one question from a snapshot of the memory ``videolucy``.

        Args:
            snapshot: of the memory.
            question: what is asked.
            query: (D,) float32 in the space of the tokens, for places chosen by similarity; None for by words.
            options: answers to choose from.

        Raises:
            UsageError: the snapshot is of another memory, or the question is empty.
            AnswererError: the reasoner cannot answer.
        """
        depths = sum(name.startswith("depth") for name in snapshot.stores)
        if not depths:
            raise UsageError("expected a snapshot of the memory videolucy, it has no depths")
        began = time.perf_counter()
        levels = [snapshot.stores[f"depth{depth}"] for depth in range(depths)]
        fits = None if query is None else [similarity(nodes, query) for nodes in levels]
        search = _Search(question, None if options is None else tuple(options), levels, fits)
        for place in range(len(levels[0])):
            if self._frames(search, 0, place) or levels[0][place].text:
                search.coarse.append((self._node(search, 0, place), self._coarse(search, place)))
        text, sure = self._answer(search)
        periods = None if sure else self._periods(search)
        while not sure and len(search.opened) < self.max_steps:
            if not self._open(search, periods):
                break
            text, sure = self._answer(search)
        if not sure:
            text = self._say(search, _FORCED.format(question=question)).strip()
        search.counts.seconds = time.perf_counter() - began
        choice, parsed_by = find_choice(text, search.options) if search.options else (None, "")
        usage = {"calls": search.counts.calls, "captions": search.counts.captions, "tokens": search.counts.tokens}
        spans = tuple((node.t0, node.t1) for node in search.opened)
        answer = Answer(text, choice, parsed_by, usage=usage, total_ms=1000 * search.counts.seconds, spans=spans)
        return Backtracked(answer, sure, not sure, tuple(search.opened), search.counts)

    # What the reasoner is asked

    def _answer(self, search: _Search) -> tuple[str, bool]:
        question = search.question
        if search.options:
            question += " Options: " + "; ".join(search.options)
        text, found = self._object(search, _ANSWER.format(question=question), ("answer", "confident"))
        if found is None:
            return text.strip(), False
        return str(found["answer"]), found["confident"] is True

    def _periods(self, search: _Search) -> list[tuple[float, float]] | None:
        """Return the periods that are enough; None for the whole timeline."""
        if _ORDINAL.search(search.question):
            return None
        _, found = self._object(search, _PERIODS.format(question=search.question), ("some", "periods"))
        if found is None or found["some"] is not True or not isinstance(found["periods"], list):
            return None
        return [pair for pair in map(_pair, found["periods"]) if pair is not None] or None

    def _open(self, search: _Search, periods: list[tuple[float, float]] | None) -> bool:
        """Describe one more interval closely; False where none is left."""
        left = self._openable(search, periods)
        if not left:
            return False
        seen = ", ".join(f"{node.t0:.0f}-{node.t1:.0f}" for node in search.opened) or "nothing"
        prompt = _PLACE.format(seen=seen, question=search.question)
        _, found = self._object(search, prompt, ("period", "instruction"))
        period = None if found is None else _pair(found["period"])
        if found is None or period is None:
            node, instruction = self._likely(search, left), f"{_DESCRIBE} Look for: {search.question}"
        else:
            node = max(left, key=lambda item: (_overlap(item, period), item.depth, -item.t0))
            instruction = str(found["instruction"])
            if _overlap(node, period) == 0:
                node = self._likely(search, left)
        search.opened.append(node)
        place = self._place(search, node)
        rows = [(node, self._caption(search, node.depth, place, instruction))]
        for below in self._children(search, node):
            rows.append(
                (self._node(search, node.depth + 1, below), self._caption(search, node.depth + 1, below, instruction))
            )
        search.closer += [row for row in rows if row[1]]
        return True

    def _object(self, search: _Search, prompt: str, keys: tuple[str, ...]) -> tuple[str, dict[str, Any] | None]:
        """Return a reply and the JSON object in it; None where it cannot be read, also when asked again."""
        text = ""
        for attempt in range(2):
            search.counts.repeated += attempt
            text = self._say(search, prompt)
            found = _json(text)
            if found is not None and set(keys) <= set(found):
                return text, found
        return text, None

    def _say(self, search: _Search, prompt: str) -> str:
        rows = sorted([*search.coarse, *search.closer], key=lambda row: (row[0].t0, row[0].depth))
        context = tuple(TextPart(text, node.t0, node.t1) for node, text in rows)
        answer = self.reasoner.answer(Request(prompt, context=context, max_tokens=256))
        search.counts.calls += 1
        search.counts.tokens += sum(answer.usage.get(name, 0) for name in ("prompt_tokens", "completion_tokens"))
        return answer.text

    # The tree

    def _openable(self, search: _Search, periods: list[tuple[float, float]] | None) -> list[Node]:
        """Return intervals that were not opened, whose parent was (or is none), with frames and children left."""
        found = []
        for depth in range(len(search.levels) - 1):
            for place in range(len(search.levels[depth])):
                node = self._node(search, depth, place)
                reached = depth == 0 or any(_inside(node, parent) for parent in search.opened if parent.depth < depth)
                wanted = periods is None or any(_overlap(node, period) > 0 for period in periods)
                if reached and wanted and node not in search.opened and self._frames(search, depth, place):
                    if self._children(search, node):
                        found.append(node)
        return found

    def _likely(self, search: _Search, left: list[Node]) -> Node:
        """Return the interval most like the query, or whose description shares most words with the question."""
        if search.fits is not None:
            fits = search.fits
            return max(
                left, key=lambda node: (float(fits[node.depth][self._place(search, node)]), node.depth, -node.t0)
            )
        asked = words(search.question)
        said = {node: words(text) for node, text in (*search.coarse, *search.closer)}
        return max(left, key=lambda node: (len(asked & said.get(node, set())), node.depth, -node.t0))

    @staticmethod
    def _node(search: _Search, depth: int, place: int) -> Node:
        entry = search.levels[depth][place]
        return Node(depth, entry.number, entry.t0, entry.t1)

    @staticmethod
    def _place(search: _Search, node: Node) -> int:
        return next(i for i, entry in enumerate(search.levels[node.depth]) if entry.number == node.number)

    @staticmethod
    def _children(search: _Search, node: Node) -> list[int]:
        below = search.levels[node.depth + 1] if node.depth + 1 < len(search.levels) else ()
        return [i for i, entry in enumerate(below) if entry.t0 >= node.t0 and entry.t1 <= node.t1]

    def _frames(self, search: _Search, depth: int, place: int) -> list[ImagePart]:
        """Return the key frames that are still held of an interval, evenly thinned: its own and those below it."""
        entry = search.levels[depth][place]
        inside = (e for level in search.levels[depth:] for e in level if e.t0 >= entry.t0 and e.t1 <= entry.t1)
        held = {e.rgb_t: e.rgb for e in inside if e.rgb is not None}
        times = sorted(held)
        if len(times) > self.frames:
            times = [times[i] for i in np.linspace(0, len(times) - 1, self.frames).round().astype(int)]
        return [ImagePart(held[t], t) for t in times]  # type: ignore[arg-type]

    # Descriptions

    def _coarse(self, search: _Search, place: int) -> str:
        entry = search.levels[0][place]
        key = (entry.number, int(entry.weight), entry.t1)
        if key not in self._described:
            self._described[key] = self._caption(search, 0, place, _DESCRIBE)
            while len(self._described) > _KEPT:
                self._described.popitem(last=False)
        return self._described[key]

    def _caption(self, search: _Search, depth: int, place: int, instruction: str) -> str:
        """Return a description, with what is known of the interval in words; no model is asked without a frame."""
        frames, known = self._frames(search, depth, place), search.levels[depth][place].text
        if not frames:
            return known
        search.counts.captions += 1
        said = self.captioner(frames, instruction).strip()
        return f"{said} ({known})" if known else said

    def _described_by_reasoner(self, frames: Sequence[ImagePart], instruction: str) -> str:
        return self.reasoner.answer(Request(instruction, context=tuple(frames))).text


def _json(text: str) -> dict[str, Any] | None:
    """Return the JSON object in a reply, None without one.

    >>> _json('Sure: {"answer": "red", "confident": true}.')
    {'answer': 'red', 'confident': True}
    """
    found = re.search(r"\{.*\}", text, re.DOTALL)
    try:
        value = json.loads(found[0]) if found else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _pair(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    if not all(isinstance(item, int | float) and not isinstance(item, bool) for item in value):
        return None
    return float(min(value)), float(max(value))


def _overlap(node: Node, period: tuple[float, float]) -> float:
    """Return temporal IoU of an interval and a period; a moment inside counts."""
    both = min(node.t1, period[1]) - max(node.t0, period[0])
    if both < 0:
        return 0.0
    either = max(node.t1, period[1]) - min(node.t0, period[0])
    return (both + 1e-9) / (either + 1e-9)


def _inside(node: Node, parent: Node) -> bool:
    return node.t0 >= parent.t0 and node.t1 <= parent.t1
