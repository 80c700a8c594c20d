"""One question of a benchmark, and the helpers by which every loader reads its own file format into it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from embodied_mem.errors import UsageError
from embodied_mem.files import read_json
from embodied_mem.stream.answerers.choices import LETTERS

Kind = Literal["choice", "count", "number", "yes_no", "open", "proactive"]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Sample:
    """A question with its answer and the time at which it is asked."""

    video_id: str
    """Name of the video, as the file gives it."""
    qid: str
    """Unique within the benchmark."""
    question: str
    """Without options."""
    kind: Kind
    """How a reply is read."""
    answer: int | float | str
    """Index of the option (choice; -1 where the file's answer is none of them), number (count, number), "yes" or "no",
    or a text (open, proactive)."""
    options: tuple[str, ...] | None = None
    """Answers to choose from, without letters."""
    answers_extra: tuple[str, ...] = ()
    """Other texts that are right as well."""
    task: str = "all"
    """Type of question."""
    labels: tuple[str, ...] = ()
    """Further headings under which the question is counted."""
    ask_time_s: float | None = None
    """Seconds into the video; None after its end."""
    evidence: tuple[tuple[float, float], ...] = ()
    """Stretches of seconds that hold the answer, where the file says so."""
    expect_time_s: float | None = None
    """Seconds at which an unprompted answer is due (proactive)."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """What else the file says."""

    def __post_init__(self) -> None:
        if self.kind == "choice" and not (
            self.options and isinstance(self.answer, int) and -1 <= self.answer < len(self.options)
        ):
            count = len(self.options or ())
            raise UsageError(f"question {self.qid!r}: expected an answer among {count} options, got {self.answer!r}")
        if self.ask_time_s is not None and not self.ask_time_s >= 0:
            raise UsageError(f"question {self.qid!r}: expected a time >= 0 s, got {self.ask_time_s}")


def entries(path: Path, what: str) -> list[Row]:
    """Return the list of objects in a JSON or JSON-lines file; lists of lists are joined.

    Args:
        path: the file.
        what: name of the benchmark, for the error.

    Raises:
        UsageError: there is no such file, or it holds no list of objects.
    """
    if path.suffix == ".jsonl":
        if not path.is_file():
            raise UsageError(f"expected the {what} file at {path}, found nothing there")
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        except ValueError as error:
            raise UsageError(f"{path} is not valid JSON lines: {error}") from error
    else:
        rows = read_json(path)
    if isinstance(rows, list) and all(isinstance(row, list) for row in rows):
        rows = [item for row in rows for item in row]
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"expected {path} to hold the {what} list of objects")
    return rows


def need(row: Row, key: str, where: str) -> Any:
    """Return one field of an entry.

    Raises:
        UsageError: it is not there; the message names what is.
    """
    if key not in row:
        raise UsageError(f"{where}: expected the field {key!r}, got {', '.join(sorted(map(str, row)))}")
    return row[key]


def bare(options: Sequence[Any]) -> tuple[str, ...]:
    """Return options without the letter before them, where there is one.

    >>> bare(["A. a cup", "(B) a dog", "C) red", "none"])
    ('a cup', 'a dog', 'red', 'none')
    """
    out = []
    for letter, option in zip(LETTERS, options, strict=False):
        text = str(option).strip()
        out.append(re.sub(rf"^(?:\({letter}\)|{letter}[.):])\s*", "", text) or text)
    return tuple(out)


def letter_index(answer: Any, options: Sequence[str], where: str) -> int:
    """Return the index of an answer given as a letter, ``(B)``, ``B.`` or as the words of an option.

    Raises:
        UsageError: it names none of the options.
    """
    text = str(answer).strip()
    found = re.fullmatch(r"\(?([A-Za-z])[).:]?", text)
    if found and LETTERS.index(found[1].upper()) < len(options):
        return LETTERS.index(found[1].upper())
    said = bare([text])[0]
    for candidate in (text, said):
        if candidate in options:
            return list(options).index(candidate)
    raise UsageError(f"{where}: expected a letter or one of the {len(options)} options as answer, got {answer!r}")


def text_index(answer: Any, options: Sequence[str]) -> int:
    """Return the index of an answer given as the words of an option, -1 where it is none of them."""
    return list(options).index(str(answer)) if str(answer) in options else -1


def clock_s(text: Any, where: str) -> float:
    """Return the seconds of ``HH:MM:SS``, ``MM:SS``, or a number.

    Raises:
        UsageError: it is neither.

    >>> clock_s("01:00:02", ""), clock_s("2:03.5", ""), clock_s(7, "")
    (3602.0, 123.5, 7.0)
    """
    parts = str(text).strip().split(":")
    try:
        seconds = 0.0
        for part in parts:
            seconds = 60 * seconds + float(part)
    except ValueError as error:
        raise UsageError(f"{where}: expected a time like 00:01:30, got {text!r}") from error
    if len(parts) > 3 or not seconds >= 0:
        raise UsageError(f"{where}: expected a time like 00:01:30, got {text!r}")
    return seconds


def as_folder_or_file(path: Path, names: Sequence[str], what: str) -> list[Path]:
    """Return the annotation files that ``path`` stands for: itself, or those of ``names`` that lie in the folder.

    Raises:
        UsageError: nothing is there.
    """
    if path.is_dir():
        found = [path / name for name in names if (path / name).is_file()]
        if found:
            return found
        raise UsageError(f"expected {what} files ({', '.join(names)}) in {path}, found none")
    if not path.is_file():
        raise UsageError(f"expected the {what} file at {path}, found nothing there")
    return [path]
