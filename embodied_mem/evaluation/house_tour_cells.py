"""HouseTourQA, one cell at a time: what one memory or control answered about one stream, and what that cost.

A cell is (length, seed, stream, condition, bytes). A run that is killed goes on with the first cell that is missing;
conditions without a size of their own (``blind``, ``last_frame``, ``full_history``, ``oracle``) have bytes 0 and are
measured once for all tasks of a length.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from embodied_mem.evaluation.memory_sizes import fit
from embodied_mem.evaluation.suite import SEED_BASE
from embodied_mem.perception.house_view import HouseViewNet
from embodied_mem.perception.house_words import WIDTH
from embodied_mem.stream.answerers import Answerer, request_for
from embodied_mem.stream.evidence import Evidence
from embodied_mem.stream.house_tour.questions import Question, ask
from embodied_mem.stream.house_tour.replay import Reading, Recalled, Tokens, encode_cached, replay
from embodied_mem.stream.house_tour.tours import LENGTHS, TourStream
from embodied_mem.stream.memory import StreamMemory, make_stream_memory

WIPE_S = 60
FREE = ("blind", "last_frame", "full_history", "oracle")
"""Controls without a size."""
SIZED = (f"wiped:{WIPE_S}", "shuffled")
"""Controls of the size of the memories."""
COLUMNS = ("choice", "write_ms", "retrieve_ms", "answer_ms", "wall_ms", "bytes", "tokens")
"""What a cell holds, one value per question."""
_OTHER_SECONDS = 900
Record = dict[str, Any]


class StreamKey(NamedTuple):
    """Which stream."""

    length: str
    seed: int
    stream: int


class CellKey(NamedTuple):
    """Which cell; ``nbytes`` 0 where the condition has no size."""

    length: str
    seed: int
    stream: int
    name: str
    nbytes: int


@dataclass(frozen=True)
class Rules:
    """What holds for all cells of a run."""

    split: str
    """"train" or "test"."""
    each: dict[str, int]
    """Length -> questions per kind and stream."""
    read: Reading
    """What a question sees of a memory; controls without a size show everything."""
    lead: str
    """Memory that is wiped and shuffled."""


class Stream:
    """One stream, drawn and encoded when the first cell needs it."""

    def __init__(self, key: StreamKey, rules: Rules, net: HouseViewNet, out: Path | None) -> None:
        """Choose; ``out`` is the folder of the cache, None for none."""
        self.key, self.rules, self.net, self.out = key, rules, net, out
        self.own = (SEED_BASE + key.seed) * 1000 + key.stream
        self._done: tuple[Tokens, list[Question]] | None = None
        self._other: np.ndarray | None = None

    @property
    def content(self) -> tuple[Tokens, list[Question]]:
        """Tokens with their log, and the questions."""
        if self._done is None:
            seconds, houses = LENGTHS[self.key.length]
            name = f"{self.rules.split}-{self.key.length}-{self.key.seed}-{self.key.stream}"
            tour = TourStream(seconds, self.own, self.rules.split, houses)
            tokens = encode_cached(self.out, name, tour, self.net)
            self._done = tokens, ask(tokens.log, self.rules.each[self.key.length], self.own)
        return self._done

    @property
    def other(self) -> np.ndarray:
        """Tokens (T, 128) of a tour of other houses, one for all streams of a seed."""
        if self._other is None:
            split, seed = self.rules.split, self.key.seed
            tour = TourStream(_OTHER_SECONDS, (SEED_BASE + seed) * 1000 + 7919, split, 4)
            self._other = encode_cached(self.out, f"{split}-other-{seed}", tour, self.net).tokens
        return self._other

    def record(self) -> Record:
        """Return the questions and what the frames cost."""
        tokens, questions = self.content
        rows = [{name: value for name, value in asdict(q).items() if name != "subjects"} for q in questions]
        costs = {"decode_ms": round(tokens.decode_ms, 4), "encode_ms": round(tokens.encode_ms, 4)}
        return {**self.key._asdict(), **costs, "questions": rows}


def measure(stream: Stream, name: str, nbytes: int, answerer: Answerer) -> Record:
    """Return one cell: a list per name of `COLUMNS`."""
    found = _answers(answerer, _recalled(stream, name, nbytes))
    return {**CellKey(*stream.key, name, nbytes)._asdict(), **found}


def _recalled(stream: Stream, name: str, nbytes: int) -> Iterator[Recalled]:
    """Return what a condition recalls, question by question."""
    (done, questions), rules = stream.content, stream.rules
    tokens = done.tokens
    made: dict[str, Callable[[], Iterator[Recalled]]] = {
        "blind": lambda: replay(make_stream_memory("none"), tokens, questions),
        "last_frame": lambda: replay(make_stream_memory("last_k", slots=1), tokens, questions),
        "full_history": lambda: replay(make_stream_memory("full_history"), tokens, questions),
        "oracle": lambda: (_oracle(tokens, q) for q in questions),
        SIZED[0]: lambda: replay(_sized(rules.lead, nbytes), tokens, questions, rules.read, WIPE_S),
        SIZED[1]: lambda: _shuffled(_sized(rules.lead, nbytes), stream.other, questions, rules.read),
    }
    if name in made:
        return made[name]()
    return replay(_sized(name, nbytes), tokens, questions, rules.read)


def _sized(name: str, nbytes: int) -> StreamMemory:
    return fit(name, nbytes, 1, WIDTH)[0]


def _oracle(tokens: np.ndarray, question: Question) -> Recalled:
    first, last = int(question.evidence[0]), int(question.evidence[1])
    times = torch.arange(first, last + 1, dtype=torch.float64)
    rows = torch.from_numpy(tokens[first : last + 1])
    evidence = Evidence(rows, torch.stack([times, times], 1), (), (), last + 1, question.ask_s)
    return Recalled(question, evidence, rows.numel() * 4, 0.0, 0.0, 0.0)


def _shuffled(
    memory: StreamMemory, other: np.ndarray, questions: Sequence[Question], reading: Reading
) -> Iterator[Recalled]:
    """Yield what a memory of other houses recalls, its times moved to end at the question."""
    end = float(len(other) - 1)
    at_end = [replace(q, ask_s=end) for q in questions]
    for question, got in zip(questions, replay(memory, other, at_end, reading)):
        times = (got.evidence.times + question.ask_s - end).clamp(min=0)
        evidence = replace(got.evidence, times=times, until_s=question.ask_s)
        yield replace(got, question=question, evidence=evidence)


def _answers(answerer: Answerer, recalled: Iterator[Recalled]) -> Record:
    rows: Record = {key: [] for key in COLUMNS}
    one = Evidence(torch.zeros(1, WIDTH), torch.zeros(1, 2), (), (), 1, 0.0)
    for got in recalled:
        q = got.question
        # or an answer would also be charged for what the processor forgot of the answerer during hours of writes
        answerer.answer(request_for(q.text, one, options=q.options, embeds=True, text=False))
        began, wall = time.process_time(), time.perf_counter()
        # the text of entries is nothing to an answerer of tokens
        request = request_for(q.text, got.evidence, options=q.options, embeds=True, text=False)
        answer = answerer.answer(request)
        rows["answer_ms"].append(round(1000 * (time.process_time() - began), 4))
        rows["wall_ms"].append(round(1000 * (time.perf_counter() - wall) + got.wall_ms, 4))
        rows["choice"].append(answer.choice)
        rows["write_ms"].append(round(got.write_ms, 5))
        rows["retrieve_ms"].append(round(got.read_ms, 4))
        rows["bytes"].append(got.nbytes)
        rows["tokens"].append(len(got.evidence.tokens))
    return rows
