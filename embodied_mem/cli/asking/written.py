"""What ``ask`` leaves behind: the replies as records and lines, their evidence frames as files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embodied_mem.files import atomic_write_bytes, atomic_write_json
from embodied_mem.stream.asker import Reply
from embodied_mem.stream.evidence import Span
from embodied_mem.stream.pictures import jpeg

ANSWERS_FILE = "answers.json"


def save_frames(reply: Reply, folder: Path, number: int) -> list[Path]:
    """Write the evidence frames of a reply as JPEG files named by question and second, and return their paths.

    Raises:
        OSError: the folder cannot be written.
    """
    paths = []
    for frame in reply.frames:
        path = folder / f"q{number}-{frame.t_s:09.3f}s.jpg"
        atomic_write_bytes(path, jpeg(frame.rgb))
        paths.append(path)
    return paths


def record(reply: Reply, frames: Sequence[Path]) -> dict[str, Any]:
    """Return a reply as a JSON-able record."""
    return {
        "question": reply.question,
        "at_s": second(reply.at_s),
        "answer": reply.text,
        "confidence": None if reply.confidence is None else round(reply.confidence, 4),
        "evidence": [{"t0": span.t0, "t1": span.t1, "text": span.text} for span in reply.spans],
        "frames": [{"t_s": frame.t_s, "file": str(path)} for frame, path in zip(reply.frames, frames)],
        "usage": dict(reply.answer.usage),
        "retrieve_ms": round(reply.retrieve_ms, 3),
        "total_ms": round(reply.answer.total_ms, 3),
    }


def save_answers(folder: Path, result: dict[str, Any]) -> Path:
    """Write the result of the command and return its path."""
    path = folder / ANSWERS_FILE
    atomic_write_json(path, result)
    return path


def lines(reply: Reply, frames: Sequence[Path]) -> list[str]:
    """Return what a person reads of a reply.

    The first line is the question, the second the answer; then confidence, times and files of the evidence.
    """
    sure = "not stated" if reply.confidence is None else f"{reply.confidence:.2f}"
    at = "before the first frame" if math.isinf(reply.at_s) else f"at {reply.at_s:.2f} s"
    shown = [f"Q ({at})  {reply.question}", f"A  {reply.text}", f"   confidence {sure}"]
    if reply.spans:
        shown.append("   evidence   " + ", ".join(_stretch(t0, t1) for t0, t1 in joined(reply.spans)))
    shown += [f"   frame      {path}" for path in frames]
    return shown


def joined(spans: Sequence[Span]) -> list[tuple[float, float]]:
    """Return the stretches of time of some lines; those that touch are one.

    >>> joined([Span("a", 0.0, 2.0), Span("b", 1.0, 3.0), Span("c", 5.0, 5.0)])
    [(0.0, 3.0), (5.0, 5.0)]
    """
    found: list[tuple[float, float]] = []
    for _, t0, t1 in sorted(spans, key=lambda span: span.t0):
        if found and t0 <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], t1)
        else:
            found.append((t0, t1))
    return found


def second(value: float) -> float | None:
    """Return a time for JSON, None where there is none yet."""
    return value if math.isfinite(value) else None


def _stretch(t0: float, t1: float) -> str:
    return f"{t0:.2f} s" if t0 == t1 else f"{t0:.2f}-{t1:.2f} s"
