"""``embodied-mem bench stream``: does a stream memory stay as fast and as small as it was?

Every registered stream memory gets the same stream: 4 tokens of width 128 per frame, numbers in 0..1 as the encoder
``house`` gives them, scenes of 20 to 300 frames with noise, no key frames. Per memory:

    snapshot_p95_ms               95th percentile of `snapshot` of a memory sized for and filled with 1 000 entries
    ratio_ingest_100k_over_1k     time of the 30 000 frames after 100 000 over that of as many after 1 000: the first
                                  2 000 of them, again and again from where it was, in turns
    ratio_bytes_100k_over_warm    most bytes at any time from frame 40 000 to 100 000 over most bytes from frame 20 000
                                  to 40 000
    ratio_answer_10h_over_2min    time of snapshot, read of 256 tokens and answer by `house-head` after 36 000 frames
                                  over that after 120, in turns

Frames are one second apart, so that memories of hours are full when they are called warm. Blocks of frames that are
timed hold the whole loop of the stream, so that early and late ones have the same content, and late ones follow each
other, so that merges that come seldom are counted. Ratios of times are ratios of sums. The plain names are those of
the worst bounded memory. Times are CPU times of the process; run it with ``OMP_NUM_THREADS=1``, or threads of a
library that wait for each other count too.

Bytes are warm by frame 40 000: the memory that takes longest to fill, `sparse_events`, holds 512 events of at most 64
frames. Most bytes over a stretch are compared, not those of two moments, since a memory that merges or halves when it
is full (`uniform`) holds now less, now more. An answerer gets what it reads: `house-head` tokens and times, no text.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from embodied_mem import registry
from embodied_mem.evaluation.memory_sizes import SIZES
from embodied_mem.experiments.bench.timing import one_thread
from embodied_mem.perception.house_words import WALL_WORDS, concepts_of
from embodied_mem.registry import register
from embodied_mem.results import make_result, metric
from embodied_mem.stream.answerers import Answerer, make_answerer, request_for
from embodied_mem.stream.asker import BUDGET
from embodied_mem.stream.memory import StreamMemory, make_stream_memory

TOKENS, WIDTH = 4, 128
TARGETS = {
    "snapshot_p95_ms": 5.0,
    "ratio_ingest_100k_over_1k": 1.1,
    "ratio_bytes_100k_over_warm": 1.05,
    "ratio_answer_10h_over_2min": 1.2,
}
"""What bounded memories should stay under."""
FIGURES = tuple(TARGETS)
QUESTION = "Between walls of which colour was the red bed last seen?"
_FILLING: dict[str, dict[str, Any]] = {"em_llm": {"surprise": {"min_len": 4, "max_len": 4}}}
"""What fills a memory with entries in fewer frames; the size of an entry stays."""
_SNAPSHOTS = 400
# Frames; a prime, so that the samples do not always meet the same frames of the loop.
_BYTES_EVERY = 97
_DRAWS = 2_000

Metrics = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How many frames come before what is measured."""

    long: int
    """Frames in all."""
    base: int
    """Frames after which early writes are timed."""
    loop: int
    """Frames after which the stream repeats, and of a block of writes that is timed."""
    blocks: int
    """Blocks of writes."""
    hours: int
    """Frames after which a late answer is timed."""
    minutes: int
    """Frames after which an early answer is timed."""
    answers: int
    """Answers of either."""
    entries: int
    """Entries of a memory whose snapshots are timed."""


LONG = Plan(100_000, 1_000, 2_000, 15, 36_000, 120, 31, 1_000)
QUICK = Plan(1_000, 100, 200, 1, 360, 60, 3, 50)


@register("bench", "stream", about="stream memories after 100 000 frames: snapshot time, ingest and bytes over before")
def run(*, device: str = "cpu", seconds: float | None = None, quick: bool = False) -> dict[str, Any]:
    """Measure every stream memory; which one is measured is told on stderr.

    Args:
        device: stream memories live on the CPU whatever is asked for.
        seconds: not used: the number of frames is fixed.
        quick: a hundredth of the frames, not to be quoted.
    """
    began = time.perf_counter()
    plan = QUICK if quick else LONG
    frames = scenes(plan.loop)
    tasks: dict[str, Any] = {}
    metrics: Metrics = {}
    notes = ["device: stream memories live on the CPU"]
    names = registry.names("stream_memory")
    with one_thread():
        answerer = make_answerer("house-head")
        for number, name in enumerate(names, 1):
            print(f"{number}/{len(names)} {name}, {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
            found = _measure(name, frames, plan, answerer)
            tasks[name] = {"metrics": found, "controls": {}, "episodes": None}
            metrics |= _named(name, found)
    for figure in FIGURES:
        bounded = [n for n in tasks if make_stream_memory(n).bounded]
        worst = max(bounded, key=lambda n: tasks[n]["metrics"][figure]["mean"] or 0.0)
        metrics[figure] = tasks[worst]["metrics"][figure]
        notes.append(f"{figure}: the worst bounded memory is {worst}")
        for name in bounded:
            value = tasks[name]["metrics"][figure]["mean"]
            if value is not None and value > TARGETS[figure] and not quick:
                notes.append(f"{figure} of {name} is {value:.3g}, above {TARGETS[figure]}")
    config = {
        **asdict(plan),
        "warm": 2 * plan.long // 5,
        "tokens": TOKENS,
        "width": WIDTH,
        "quick": quick,
        "targets": TARGETS,
    }
    spent = time.perf_counter() - began
    return make_result("bench", "stream", config, metrics, tasks=tasks, seconds=spent, notes=notes)


def scenes(count: int, seed: int = 0) -> np.ndarray:
    """Return frames (count, P, D) float32 of scenes of 20 to 300 frames with noise."""
    draw = np.random.default_rng(seed)
    lengths: list[int] = []
    while sum(lengths) < count:
        lengths.append(int(draw.integers(20, 301)))
    frames = np.repeat(_centres(len(lengths), draw), lengths, axis=0)[:count]
    return np.clip(frames + 0.05 * draw.standard_normal(frames.shape), 0, 1).astype(np.float32)


def filled(name: str, entries: int, seed: int = 0) -> tuple[StreamMemory, int]:
    """Return a memory with room for ``entries``, filled with unlike frames a minute apart, and the entries it holds.

    A memory without a known size is its default, and filled as far as it goes; one without entries holds 0.
    """
    size = SIZES.get(name)
    # some rooms are never quite full: merges make place for several at once
    room = entries + entries // 8
    memory = make_stream_memory(name, **({**size(room), **_FILLING.get(name, {})} if size else {}))
    draw = np.random.default_rng(seed)
    held = 0
    for start in range(0, 10 * entries, entries // 10):
        for offset, tokens in enumerate(_centres(entries // 10, draw).astype(np.float32)):
            memory.write(tokens, 60.0 * (start + offset))
        held = max(len(memory.snapshot().entries), len(memory.arrays.get("times", ())))
        if held >= entries:
            break
    return memory, held


def _centres(count: int, draw: np.random.Generator) -> np.ndarray:
    size = (count, TOKENS, WIDTH)
    return draw.random(size) * (draw.random(size) < 0.15)


def _measure(name: str, frames: np.ndarray, plan: Plan, answerer: Answerer) -> Metrics:
    memory, other = make_stream_memory(name), make_stream_memory(name)
    _write(memory, frames, plan.minutes)
    other.load_state_dict(memory.state_dict())
    _write(memory, frames, plan.base - memory.version)
    early = memory.state_dict()
    _write(memory, frames, plan.long // 5 - memory.version)
    warm = _most_bytes(memory, frames, plan.hours)
    waits = np.array([(_answer(memory, answerer), _answer(other, answerer)) for _ in range(plan.answers)])
    warm = max(warm, _most_bytes(memory, frames, 2 * plan.long // 5))
    size = _most_bytes(memory, frames, plan.long)
    writes = np.empty((plan.blocks, 2))
    for block in range(plan.blocks):
        # the early one goes back to where it was, the late one goes on; neither is always the first
        other.load_state_dict(early)
        for column in (0, 1) if block % 2 else (1, 0):
            writes[block, column] = _write(other if column else memory, frames, plan.loop)
    full, held = filled(name, plan.entries)
    return {
        "snapshot_p95_ms": metric(1000 * float(np.percentile(_snapshots(full), 95)), n=_SNAPSHOTS),
        "ratio_ingest_100k_over_1k": ratio_of_sums(writes),
        "ratio_bytes_100k_over_warm": metric(size / warm if warm else 1.0 if size == warm else None),
        "ratio_answer_10h_over_2min": ratio_of_sums(waits),
        "ingest_us": metric(1e6 * float(writes[:, 0].mean()) / plan.loop),
        "bytes": metric(float(size)),
        "entries": metric(float(held)),
    }


def ratio_of_sums(pairs: np.ndarray) -> Metrics:
    """Return sum / sum of pairs (n, 2) of seconds, with the 95 % interval of a bootstrap over the pairs.

    A clock of CPU time may stand still over a short span, so single pairs have no ratio. None where nothing was spent.
    """
    rows = np.random.default_rng(0).integers(0, len(pairs), (_DRAWS, len(pairs)))
    sums = pairs[rows].sum(1)
    known = sums[sums[:, 1] > 0]
    late, early = pairs.sum(0)
    if early <= 0:
        return metric(None, n=len(pairs))
    low, high = np.percentile(known[:, 0] / known[:, 1], (2.5, 97.5))
    return metric(float(late / early), float(low), float(high), len(pairs), "bootstrap95_ratio_of_sums")


def _snapshots(memory: StreamMemory) -> np.ndarray:
    spent = np.empty(_SNAPSHOTS)
    for number in range(_SNAPSHOTS):
        start = time.process_time()
        memory.snapshot()
        spent[number] = time.process_time() - start
    return spent


def _most_bytes(memory: StreamMemory, frames: np.ndarray, until: int) -> int:
    """Write up to frame ``until``; return the most bytes held on the way."""
    most = 0
    while memory.version < until:
        _write(memory, frames, min(_BYTES_EVERY, until - memory.version))
        most = max(most, memory.nbytes())
    return most


def _write(memory: StreamMemory, frames: np.ndarray, count: int) -> float:
    """Write the next frames of the endless stream; return the CPU seconds."""
    first = memory.version
    start = time.process_time()
    for number in range(first, first + count):
        memory.write(frames[number % len(frames)], float(number))
    return time.process_time() - start


def _answer(memory: StreamMemory, answerer: Answerer) -> float:
    """Return the CPU seconds of one question."""
    start = time.process_time()
    evidence = memory.snapshot().read(concepts_of(QUESTION), BUDGET)
    takes = answerer.capabilities
    answerer.answer(request_for(QUESTION, evidence, options=WALL_WORDS[:4], embeds=takes.embeds, text=takes.text))
    return time.process_time() - start


def _named(name: str, found: Metrics) -> Metrics:
    """Return the figures under names that hold the memory's."""
    keys = {
        "snapshot_p95_ms": f"{name}_snapshot_p95_ms",
        "ratio_ingest_100k_over_1k": f"ratio_{name}_ingest_100k_over_1k",
        "ratio_bytes_100k_over_warm": f"ratio_{name}_bytes_100k_over_warm",
        "ratio_answer_10h_over_2min": f"ratio_{name}_answer_10h_over_2min",
        "ingest_us": f"{name}_ingest_us",
        "bytes": f"{name}_bytes",
        "entries": f"{name}_entries",
    }
    return {keys[key]: value for key, value in found.items()}
