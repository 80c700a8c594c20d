"""Tours through the encoder and through memories: tokens once per stream, evidence at the time of every question."""

from __future__ import annotations

import io
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from embodied_mem.files import atomic_write_bytes
from embodied_mem.perception.house_view import HouseViewNet
from embodied_mem.perception.house_words import WIDTH, concepts_of
from embodied_mem.stream.evidence import Evidence, Snapshot, assemble
from embodied_mem.stream.house_tour.questions import Question
from embodied_mem.stream.house_tour.tours import TourLog, TourStream, whole_log
from embodied_mem.stream.memory import StreamMemory

Reading = Literal["whole", "question"]
BUDGET = 256
"""Tokens that a question may recall with ``question``."""
_FRAMES = 128


@dataclass(frozen=True)
class Tokens:
    """A whole stream as the encoder sees it; frame t is at second t."""

    tokens: np.ndarray
    """(T, 128) float32."""
    log: TourLog
    """What was there."""
    decode_ms: float
    """Milliseconds per frame that drawing took, in batches; CPU time of the process."""
    encode_ms: float
    """Milliseconds per frame that the encoder took, likewise."""


@dataclass(frozen=True)
class Recalled:
    """What a memory gave for one question."""

    question: Question
    evidence: Evidence
    """What was read from it."""
    nbytes: int
    """Bytes held."""
    write_ms: float
    """Mean milliseconds of the writes since the question before."""
    read_ms: float
    """Milliseconds of snapshot and read, CPU time of the process."""
    wall_ms: float
    """The same by the clock on the wall."""


@torch.no_grad()
def encode_stream(stream: TourStream, net: HouseViewNet) -> Tokens:
    """Return the tokens of a stream, frames drawn and encoded in batches."""
    logs, rows, spent = [], [], 0.0
    started = time.process_time()
    waiting: list[np.ndarray] = []

    def flush() -> None:
        nonlocal spent
        images = torch.from_numpy(np.concatenate(waiting)).permute(0, 3, 1, 2).float() / 255
        began = time.process_time()
        rows.append(net.tokens(images).numpy())
        spent += time.process_time() - began
        waiting.clear()

    for chunk in stream.chunks():
        logs.append(chunk.log)
        waiting.append(chunk.rgb)
        if sum(len(rgb) for rgb in waiting) >= _FRAMES:
            flush()
    if waiting:
        flush()
    tokens = np.concatenate(rows) if rows else np.zeros((0, WIDTH), np.float32)
    share = 1000 / max(1, len(tokens))
    drawing = time.process_time() - started - spent
    return Tokens(tokens, whole_log(logs), share * drawing, share * spent)


def encode_cached(folder: Path | None, name: str, stream: TourStream, net: HouseViewNet) -> Tokens:
    """Return the tokens of a stream from ``folder/tokens/NAME-....npz``, made and kept there at first use.

    The file's name ends with a sum of the weights: another encoder never reads it.
    """
    if folder is None:
        return encode_stream(stream, net)
    mark = zlib.crc32(b"".join(value.numpy().tobytes() for value in net.state_dict().values()))
    file = folder / "tokens" / f"{name}-{mark:08x}.npz"
    fields = list(TourLog.__dataclass_fields__)
    if file.is_file():
        with np.load(file) as kept:
            log = TourLog(*(kept[field] for field in fields))
            return Tokens(kept["tokens"], log, float(kept["decode_ms"]), float(kept["encode_ms"]))
    made = encode_stream(stream, net)
    packed = io.BytesIO()
    arrays = {name: np.array(getattr(made, name)) for name in ("tokens", "decode_ms", "encode_ms")}
    arrays |= {field: getattr(made.log, field) for field in fields}
    np.savez(packed, allow_pickle=False, **arrays)
    atomic_write_bytes(file, packed.getvalue())
    return made


def recall(snapshot: Snapshot, question: Question, reading: Reading) -> Evidence:
    """Return what a question gets to see of a memory.

    Args:
        snapshot: of the memory.
        question: with its options.
        reading: ``whole`` gives every entry of every store (a memory without entries, its output); ``question`` what
            the memory recalls for the concepts of the question, of its options where it has none, 256 tokens at most.
    """
    if reading == "question":
        concepts = concepts_of(question.text)
        concepts = concepts if concepts.any() else concepts_of(", ".join(question.options))
        return snapshot.read(concepts if concepts.any() else None, BUDGET)
    entries = snapshot.entries
    return assemble(entries, snapshot, None) if entries else snapshot.read()


def replay(
    memory: StreamMemory,
    tokens: np.ndarray,
    questions: Sequence[Question],
    reading: Reading = "whole",
    wipe_s: int | None = None,
) -> Iterator[Recalled]:
    """Write a stream into a memory and read it at the time of every question; yields in the order of time.

    Args:
        memory: fresh.
        tokens: (T, 128) float32, one per second.
        questions: in the order of their times.
        reading: see `recall`.
        wipe_s: the memory is emptied every so many seconds; None for never.
    """
    done = 0
    for question in questions:
        began, first = time.process_time(), done
        while done <= min(int(question.ask_s), len(tokens) - 1):
            if wipe_s and done and done % wipe_s == 0:
                memory.reset()
            memory.write(tokens[done : done + 1], float(done))
            done += 1
        middle = time.process_time()
        wall = time.perf_counter()
        evidence = recall(memory.snapshot(), question, reading)
        read = 1000 * (time.process_time() - middle)
        write = 1000 * (middle - began) / (done - first) if done > first else 0.0
        waited = 1000 * (time.perf_counter() - wall)
        yield Recalled(question, evidence, memory.nbytes(), write, read, waited)
