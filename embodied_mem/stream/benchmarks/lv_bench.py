"""LVBench: questions about hours of video, with the stretch of time that holds the answer (Wang et al. 2024).

JSON lines, one per video: ``key, type, video_info, qa: [{uid, question`` (with the options inside, ``(A) ...``),
``answer, question_type: [..], time_reference: "00:15-00:19"}]``. A question counts in each of its abilities. The time
reference makes recall itself measurable (``hit`` and ``overlap``), and the oracle baseline possible.
"""

from __future__ import annotations

import re
from pathlib import Path

from embodied_mem.errors import UsageError
from embodied_mem.registry import register
from embodied_mem.stream.answerers.choices import LETTERS
from embodied_mem.stream.qa.benchmark import Benchmark, Mark, check_unique, gold_letter
from embodied_mem.stream.qa.judges import Judge
from embodied_mem.stream.qa.sample import Sample, clock_s, entries, letter_index, need


@register("benchmark", "lvbench", about="LVBench: multiple choice about hours of video, with time references")
class LVBench(Benchmark):
    """Multiple choice about hours of video, with time references."""

    official_rule = "the reply is the letter itself; questions without a reply are left out of the average"

    def load(self, path: Path) -> list[Sample]:
        """Return the samples of ``video_info.meta.jsonl``."""
        found = []
        for number, entry in enumerate(entries(path, "LVBench")):
            where = f"{path}, line {number + 1}"
            video, kind = str(need(entry, "key", where)), str(entry.get("type", "all"))
            for item in need(entry, "qa", where):
                question, options = split_options(str(need(item, "question", where)), where)
                labels = need(item, "question_type", where)
                found.append(
                    Sample(
                        video,
                        str(need(item, "uid", where)),
                        question,
                        "choice",
                        letter_index(need(item, "answer", where), options, where),
                        options,
                        task=kind,
                        labels=tuple(labels) if isinstance(labels, list) else (str(labels),),
                        evidence=_interval(item.get("time_reference"), where),
                    )  # fmt: skip
                )
        return check_unique(found)

    def official(self, sample: Sample, text: str | None, judge: Judge) -> Mark:
        """Return whether the reply is the letter; None without a reply."""
        said = (text or "").strip()
        return Mark(float(said == gold_letter(sample)), said, "equal") if said else Mark(None, "")


def split_options(text: str, where: str) -> tuple[str, tuple[str, ...]]:
    """Return question and options of a text that lists ``(A) ...`` to ``(D) ...``, each on a line or behind another.

    Raises:
        UsageError: it lists fewer than two options in order.
    """
    parts = re.split(r"\s*\(([A-H])\)\s*", text.strip())
    letters, options = parts[1::2], tuple(part.strip() for part in parts[2::2])
    if len(options) < 2 or "".join(letters) != LETTERS[: len(options)]:
        raise UsageError(f"{where}: expected a question with options (A), (B), ... inside, got {text[:80]!r}")
    return parts[0].strip(), options


def _interval(text: object, where: str) -> tuple[tuple[float, float], ...]:
    if not text:
        return ()
    first, _, last = str(text).partition("-")
    t0 = clock_s(first, where)
    return ((t0, clock_s(last, where) if last else t0),)
