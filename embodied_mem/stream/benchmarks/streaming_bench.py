"""StreamingBench: questions at moments of a stream, 18 types, and unprompted answers (Lin et al. 2024).

A JSON list of entries with ``video_path`` and ``questions``; each question has ``question``, ``time_stamp``
(``HH:MM:SS``), ``options``, ``answer`` (a letter) and ``task_type``. Proactive questions have
``ground_truth_time_stamp`` and ``ground_truth_output`` instead of options.

Proactive output is asked every second from one second after the question to four after the true time, until the reply
is yes; then the output is asked for. Right: within two seconds of the true time, and the output contains the true one.
Ours does not tell the expected output in the poll; the published one does.

The questions of a sequential file (``questions_sqa.json``, a list of lists) refer to those before them: as published,
each is asked with the earlier ones of its video and their right answers before it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from embodied_mem.registry import register
from embodied_mem.stream.qa.benchmark import Benchmark, Mark, check_unique, gold_letter
from embodied_mem.stream.qa.judges import Judge
from embodied_mem.stream.qa.sample import Row, Sample, bare, clock_s, entries, letter_index, need
from embodied_mem.stream.qa.texts import normalised

SEQUENTIAL = "Sequential Question Answering"
_GROUPS = {
    "omni-source": (
        "Emotion Recognition", "Scene Understanding", "Source Discrimination", "Multimodal Alignment",
    ),
    "contextual": (
        "Misleading Context Understanding", "Anomaly Context Understanding", "Sequential Question Answering",
        "Proactive Output",
    ),
}  # fmt: skip


@register(
    "benchmark", "streamingbench", about="StreamingBench: multiple choice at moments of a stream, and when to speak"
)
class StreamingBench(Benchmark):
    """Multiple choice at moments of a stream, and when to speak."""

    official_rule = "the first character of the reply is the letter; empty replies are left out of the average"

    def load(self, path: Path) -> list[Sample]:
        """Return the samples of a question file (real, omni, sqa, proactive)."""
        found: list[Sample] = []
        for number, entry in enumerate(entries(path, "StreamingBench")):
            where = f"{path}, entry {number}"
            for place, question in enumerate(need(entry, "questions", where)):
                sample = _sample(entry, question, number, place, f"{where}, question {place}")
                if sample.task == SEQUENTIAL:
                    sample = replace(sample, meta={"before": _before(sample, found)})
                found.append(sample)
        return check_unique(found)

    def prompt(self, sample: Sample) -> str:
        """Return the question, after the earlier ones it refers to."""
        before = str(sample.meta.get("before", ""))
        return f"{before}{super().prompt(sample)}"

    def group(self, task: str) -> str | None:
        """Return real-time visual, omni-source or contextual."""
        return next((group for group, tasks in _GROUPS.items() if task in tasks), "real-time visual")

    def judged_mark(self, sample: Sample, text: str, judge: Judge) -> Mark:
        """Return whether the output contains the true one; the run has checked the time."""
        wanted, said = (f" {' '.join(normalised(words))} " for words in (str(sample.answer), text))
        return Mark(float(wanted in said), text, "text" if text.strip() else "")

    def official(self, sample: Sample, text: str | None, judge: Judge) -> Mark:
        """Return the first-character score; None for an empty reply."""
        if sample.kind == "proactive":
            return Mark(float(str(sample.answer) in (text or "")), text or "", "substring")
        if not text:
            return Mark(None, "")
        return Mark(float(text[0] == gold_letter(sample)), text[0], "first character")


def _before(sample: Sample, earlier: list[Sample]) -> str:
    lines = [
        f"Asked at {item.ask_time_s:.0f} s: {item.question} Right answer: {item.options[int(item.answer)]}\n"
        for item in earlier
        if item.task == SEQUENTIAL and item.video_id == sample.video_id and item.options
    ]
    return "".join(lines)


def _sample(entry: Row, question: Row, number: int, place: int, where: str) -> Sample:
    video = str(need(entry, "video_path", where))
    asked, at = str(need(question, "question", where)), clock_s(need(question, "time_stamp", where), where)
    task = str(need(question, "task_type", where))
    qid = f"{number}-{place}"
    if "ground_truth_output" in question:
        expected = clock_s(need(question, "ground_truth_time_stamp", where), where)
        return Sample(
            video, qid, asked, "proactive", str(question["ground_truth_output"]), task=task, ask_time_s=at,
            expect_time_s=expected,
        )  # fmt: skip
    options = bare(need(question, "options", where))
    answer = letter_index(need(question, "answer", where), options, where)
    return Sample(video, qid, asked, "choice", answer, options, task=task, ask_time_s=at)
