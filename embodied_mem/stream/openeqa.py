"""Recorded episodes as OpenEQA episode histories: a folder of frames per episode, and questions that name it.

    FOLDER/frames/house-tour-v0/000-NAME/00000-rgb.png, 00001-rgb.png, ...    and times.csv (name,seconds)
    FOLDER/questions.json    [{"question", "answer", "category", "question_id", "episode_history"}, ...]

The layout is that of `open-eqa-v0.json` and its frame folders (Majumdar et al. 2024): tools for OpenEQA read our
episodes, and `open_source(FOLDER/frames/...)` reads them back with their times. OpenEQA asks about whole episodes: only
the frames up to a question's time are the ones that answer it, so each question of a stream gets an episode of its own
length, kept as a number of frames in ``frames``; tools that do not know the key show the whole episode.
"""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.files import atomic_write_bytes, atomic_write_json, atomic_write_text
from embodied_mem.stream.house_tour.questions import Question

CATEGORIES = {
    "where": "object localization",
    "last": "object localization",
    "what": "spatial understanding",
    "colour": "attribute recognition",
    "when": "world knowledge",
    "order": "object recognition",
    "count": "spatial understanding",
    "change": "object state recognition",
    "never": "object recognition",
}
"""Kind of our question -> the nearest of OpenEQA's categories."""
DATASET = "house-tour-v0"


def export_history(
    frames: Iterable[tuple[np.ndarray, float]], folder: str | Path, episode: str, dataset: str = DATASET
) -> str:
    """Write the frames of an episode; return its name as questions give it (``dataset/episode``).

    Args:
        frames: (rgb (H, W, 3) uint8, seconds), in the order of time.
        folder: of the whole export.
        episode: name of the episode, one path component.
        dataset: name of the set of episodes.

    Raises:
        UsageError: the name is no single path component, there are no frames, or the episode is there already.
    """
    if Path(episode).name != episode or episode in ("", ".", ".."):
        raise UsageError(f"expected an episode's name without slashes, got {episode!r}")
    target = Path(folder) / "frames" / dataset / episode
    if target.exists():
        raise UsageError(f"{target} is there already; give another name or folder")
    times = []
    for number, (rgb, t_s) in enumerate(frames):
        name = f"{number:05d}-rgb.png"
        _, packed = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        atomic_write_bytes(target / name, packed.tobytes())
        times.append((name, f"{t_s:.3f}"))
    if not times:
        raise UsageError(f"expected at least one frame for the episode {episode!r}")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(times)
    atomic_write_text(target / "times.csv", text.getvalue())
    return f"{dataset}/{episode}"


def export_questions(questions: Sequence[Question], history: str, folder: str | Path) -> list[dict[str, Any]]:
    """Write ``questions.json`` for an exported episode and return its rows; their ids depend on their content alone.

    Options become part of the question's words where the question cannot be understood without them.
    """
    rows = []
    for number, q in enumerate(questions):
        words = f"{q.text} ({', '.join(q.options)})" if q.kind in ("what", "order", "when") else q.text
        rows.append(
            {
                "question": words,
                "answer": q.options[q.answer],
                "category": CATEGORIES[q.kind],
                "question_id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{history}/{number}/{words}/{q.ask_s}")),
                "episode_history": history,
                "frames": int(q.ask_s) + 1,
            }
        )
    atomic_write_json(Path(folder) / "questions.json", rows)
    return rows
