"""Video-MME: 900 videos from short to an hour, three questions each (Fu et al. 2024).

A JSON list of ``video_id, duration`` (short, medium, long), ``domain, sub_category, questions: [{question_id,
task_type, question, options, answer}]``. Reported over all and by duration; also by type of question.
"""

from __future__ import annotations

import re
from pathlib import Path

from embodied_mem.registry import register
from embodied_mem.stream.qa.benchmark import Benchmark, Mark, check_unique, gold_letter
from embodied_mem.stream.qa.judges import Judge
from embodied_mem.stream.qa.sample import Sample, bare, entries, letter_index, need


@register("benchmark", "videomme", about="Video-MME: multiple choice by duration, from short clips to an hour")
class VideoMME(Benchmark):
    """Multiple choice by duration, from short clips to an hour."""

    official_rule = "the first capital A to D of the reply, once phrases such as 'The answer is' are cut out"

    def load(self, path: Path) -> list[Sample]:
        """Return the samples of the annotation (or submission) file."""
        found = []
        for number, entry in enumerate(entries(path, "Video-MME")):
            where = f"{path}, entry {number}"
            video, duration = str(need(entry, "video_id", where)), str(need(entry, "duration", where))
            facts = {key: entry[key] for key in ("domain", "sub_category", "url", "videoID") if key in entry}
            for question in need(entry, "questions", where):
                options = bare(need(question, "options", where))
                found.append(
                    Sample(
                        video,
                        str(need(question, "question_id", where)),
                        str(need(question, "question", where)),
                        "choice",
                        letter_index(need(question, "answer", where), options, where),
                        options,
                        task=duration,
                        labels=(str(question.get("task_type", "other")),),
                        meta=facts,
                    )  # fmt: skip
                )
        return check_unique(found)

    def official(self, sample: Sample, text: str | None, judge: Judge) -> Mark:
        """Return the score of the first capital letter A to D, wherever it stands."""
        said = (text or "").strip()
        for phrase in ("The best answer is", "The correct answer is", "The answer is", "The answer", "Answer:"):
            said = said.replace(phrase, "")
        found = re.search(r"[ABCD]", said)
        read = found[0] if found else ""
        return Mark(float(read == gold_letter(sample)), read, "first capital" if found else "")
