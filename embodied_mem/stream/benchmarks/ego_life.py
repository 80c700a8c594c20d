"""EgoLifeQA: questions about a week seen through one person's glasses (Yang et al. 2025).

A JSON list of ``ID, query_time: {date: "DAY1", time: "11210217"}`` (hours, minutes, seconds, frames of 1/20 s),
``type, question, choice_a .. choice_d, answer`` (a letter), ``target_time`` and more. The week is one stream: a time is
(day - 1) * 86400 seconds plus the time of day, which is what the frames of the stream must carry (a folder of frames
with ``times.csv``). Only the past of the question may be used.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from embodied_mem.errors import UsageError
from embodied_mem.registry import register
from embodied_mem.stream.qa.benchmark import Benchmark, check_unique
from embodied_mem.stream.qa.sample import Row, Sample, bare, entries, letter_index, need

FRAMES_PER_S = 20
_CHOICES = ("choice_a", "choice_b", "choice_c", "choice_d")


@register("benchmark", "egolifeqa", about="EgoLifeQA: multiple choice about a week of first-person video")
class EgoLifeQA(Benchmark):
    """Multiple choice about a week of first-person video."""

    def load(self, path: Path) -> list[Sample]:
        """Return the samples of one person's file, for example ``EgoLifeQA_A1_JAKE.json``."""
        found = []
        for number, entry in enumerate(entries(path, "EgoLifeQA")):
            where = f"{path}, entry {number}"
            options = bare([need(entry, name, where) for name in _CHOICES])
            target = entry.get("target_time")
            asked = week_s(need(entry, "query_time", where), where)
            evidence = tuple((t, t) for t in _targets(target, where) if t <= asked)
            found.append(
                Sample(
                    str(entry.get("video_id", _person(path))),
                    str(need(entry, "ID", where)),
                    str(need(entry, "question", where)),
                    "choice",
                    letter_index(need(entry, "answer", where), options, where),
                    options,
                    task=str(need(entry, "type", where)),
                    ask_time_s=asked,
                    evidence=evidence,
                )  # fmt: skip
            )
        return check_unique(found)


def week_s(moment: Row, where: str) -> float:
    """Return the seconds since the first day's midnight of ``{date: "DAY2", time: "HHMMSSff"}``.

    Raises:
        UsageError: it is not of this form.

    >>> week_s({"date": "DAY2", "time": "01020310"}, "")
    90123.5
    """
    day = re.fullmatch(r"DAY(\d+)", str(need(moment, "date", where)).strip())
    clock = re.fullmatch(r"(\d{2})(\d{2})(\d{2})(\d{2})", str(need(moment, "time", where)).strip().zfill(8))
    if not day or int(day[1]) < 1 or not clock:
        raise UsageError(f'{where}: expected {{"date": "DAY1", "time": "HHMMSSff"}}, got {dict(moment)}')
    hours, minutes, seconds, frames = map(int, clock.groups())
    return (int(day[1]) - 1) * 86400 + hours * 3600 + minutes * 60 + seconds + frames / FRAMES_PER_S


def _targets(target: Any, where: str) -> list[float]:
    moments = target if isinstance(target, list) else [target]
    usable = [item for item in moments if isinstance(item, dict) and re.fullmatch(r"\d{1,8}", str(item.get("time")))]
    return [week_s(item, where) for item in usable]


def _person(path: Path) -> str:
    return path.stem.removeprefix("EgoLifeQA_")
