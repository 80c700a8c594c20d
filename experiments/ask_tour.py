"""Open questions through ``ask``: walks through painted houses, every kind of question without options.

python -m embodied_mem.experiments.ask_tour [--memory NAME ...] [--short 10] [--long 1] [--out FILE]

The whole way of `embodied-mem ask house-tour:LENGTH:SEED`: frames one by one through the session, its encoder and its
memory; the question in words alone, of ``order`` with the four pairs named in it. An answer is right where it is the
right option; of ``what`` where it names anything that was seen in that room; of ``when`` where the middle of the
stretch it gives lies in the right quarter. Seconds are wall time of recall and answer.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from embodied_mem.evaluation.statistics import summarise
from embodied_mem.files import atomic_write_json
from embodied_mem.perception.house_words import PAIRS, pair_name
from embodied_mem.results import make_result, metric
from embodied_mem.stream.asking import ask_in_time, make_asker, session_config
from embodied_mem.stream.defaults import MEMORY, choose
from embodied_mem.stream.house_tour.questions import KINDS, Question, ask
from embodied_mem.stream.house_tour.tours import TourLog, TourStream, whole_log
from embodied_mem.stream.session import Session
from embodied_mem.stream.sources import TourSource

SEED = 500
"""Of the first walk; HouseTourQA takes others."""


def worded(question: Question) -> str:
    """Return the question in words alone."""
    if question.kind != "order":
        return question.text
    return f"{question.text.rstrip('?')}: {', '.join(question.options)}?"


def is_right(question: Question, said: str, log: TourLog) -> bool:
    """Return whether an open answer is true."""
    right = question.options[question.answer]
    if question.kind == "what":
        first, last = (int(t) for t in question.evidence)
        there = np.flatnonzero(log.seen[first : last + 1].any(0))
        return said in {pair_name(int(k)) for k in there if k < PAIRS and int(k) not in question.subjects}
    if question.kind == "when":
        spans = [[float(word) for word in words.split() if word.isdigit()] for words in (said, right)]
        return len(spans[0]) == 2 and spans[1][0] <= sum(spans[0]) / 2 < spans[1][1] + 1
    return said == right


def asked(memory: str, length: str, count: int, each: int) -> dict[str, Any]:
    """Return the metrics of one memory on some walks."""
    encoder, answerer = choose()
    right: dict[str, list[float]] = {kind: [] for kind in KINDS}
    waits: list[float] = []
    rows: list[np.ndarray] = []
    for number in range(count):
        log = whole_log([chunk.log for chunk in TourStream(length, SEED + number).chunks()])
        questions = ask(log, each, SEED + number)
        asker = make_asker(answerer)
        with Session(TourSource(length, SEED + number), session_config(memory, encoder)) as session:
            replies = ask_in_time(session, asker, [(worded(q), q.ask_s) for q in questions])
            waits += [(reply.retrieve_ms + reply.answer.total_ms) / 1000 for reply in replies]
        found = [float(is_right(q, reply.text, log)) for q, reply in zip(questions, replies)]
        rows.append(np.array(found))
        for question, value in zip(questions, found):
            right[question.kind].append(value)
    metrics = {"success": summarise([[values] for values in rows], "rate")}
    metrics |= {f"success_{kind}": metric(float(np.mean(v)) if v else None, n=len(v)) for kind, v in right.items()}
    metrics["answer_p95_s"] = metric(float(np.percentile(waits, 95)), n=len(waits))
    metrics["answer_max_s"] = metric(float(np.max(waits)), n=len(waits))
    return metrics


def main(words: Sequence[str] | None = None) -> None:
    """Ask, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", action="append", help=f"repeatable; default: {MEMORY} and sparse_events")
    for name, value in {"short": 10, "long": 1, "each": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    began = time.perf_counter()
    memories = given.memory or [MEMORY, "sparse_events"]
    tasks = {}
    for length, count, each in (("short", given.short, given.each), ("long", given.long, 6 * given.each)):
        if count:
            first, *others = ({name: asked(name, length, count, each)} for name in memories)
            controls = {name: found for other in others for name, found in other.items()}
            tasks[length] = {"metrics": first[memories[0]], "controls": controls, "episodes": count}
    config = {"memories_asked": memories, "command_line": "python -m embodied_mem.experiments.ask_tour"}
    notes = [f"the first column is the memory {memories[0]}, the default of ask", "one thread, one token per frame"]
    result = make_result(
        "ask",
        "house-tour",
        config,
        {
            f"{key}_{task}": found["metrics"][key]
            for task, found in tasks.items()
            for key in ("success", "answer_p95_s")
        },
        seeds=[SEED],
        episodes=given.short + given.long,
        tasks=tasks,
        seconds=time.perf_counter() - began,
        notes=notes,
    )
    if given.out is not None:
        atomic_write_json(given.out, result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
