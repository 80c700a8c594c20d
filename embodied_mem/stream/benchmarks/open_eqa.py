"""OpenEQA: open questions about an episode of a robot's camera (Majumdar et al. 2024).

A JSON list of ``question, answer, category, question_id, episode_history``, and ``extra_answers`` where there are
any. An episode is a folder of frames below ``--videos`` (``hm3d-v0/000-hm3d-...``). A judge grades from 1 to 5:

    C = 100 / N * sum (clip(grade, 1, 5) - 1) / 4
"""

from __future__ import annotations

from pathlib import Path

from embodied_mem.registry import register
from embodied_mem.stream.qa.benchmark import Benchmark, Mark, check_unique
from embodied_mem.stream.qa.judges import Judge
from embodied_mem.stream.qa.sample import Sample, entries, need


@register("benchmark", "openeqa", about="OpenEQA: open questions about an episode of frames, graded 1 to 5")
class OpenEQA(Benchmark):
    """Open questions about an episode of frames, graded 1 to 5."""

    judged = True
    official_rule = (
        "the reply is cut after its last full stop; no reply gets grade 0, clipped to 1; then the grade counts"
    )

    def load(self, path: Path) -> list[Sample]:
        """Return the samples of ``open-eqa-v0.json``."""
        found = []
        for number, entry in enumerate(entries(path, "OpenEQA")):
            where = f"{path}, entry {number}"
            found.append(
                Sample(
                    str(need(entry, "episode_history", where)),
                    str(need(entry, "question_id", where)),
                    str(need(entry, "question", where)),
                    "open",
                    str(need(entry, "answer", where)),
                    answers_extra=tuple(str(item) for item in entry.get("extra_answers") or ()),
                    task=str(need(entry, "category", where)),
                )  # fmt: skip
            )
        return check_unique(found)

    def judged_mark(self, sample: Sample, text: str, judge: Judge) -> Mark:
        """Return the grade of 1 to 5, brought to 0..1."""
        if not text.strip():
            return Mark(0.0, "")
        right = (str(sample.answer), *sample.answers_extra)
        return Mark(graded(judge.grade(sample.question, right, text, "correctness")), text, judge.name)

    def official(self, sample: Sample, text: str | None, judge: Judge) -> Mark:
        """Return the grade of the reply up to its last full stop."""
        if text is None:
            return Mark(graded(0.0), "")
        cut = text[: text.rfind(".") + 1] if "." in text else text
        return self.judged_mark(sample, cut, judge)


def graded(grade: float) -> float:
    """Return (clip(grade, 1, 5) - 1) / 4.

    >>> [graded(grade) for grade in (0, 1, 3, 5)]
    [0.0, 0.0, 0.5, 1.0]
    """
    return (min(max(grade, 1.0), 5.0) - 1) / 4
