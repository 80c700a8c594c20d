"""MLVU: seven kinds of multiple choice about long videos, and two of free text (Zhou et al. 2024).

One JSON list per task (``1_plotQA.json`` ... ``9_summary.json``), or the folder that holds them: ``video, duration,
question, candidates, answer`` (the text of the right one), ``question_type``. ``subPlot`` and ``summary`` have no
candidates. Where the answer is none of the candidates (two questions of the published file), nothing is right, as in
the published scorer.

The headline is M-Avg, the mean of the seven task accuracies. G-Avg stands beside it: the mean over the two free-text
tasks of the sum of two grades of 1 to 5 (accuracy and relevance; completeness and reliability), from the judge, brought
from 2..10 to 0..1.
"""

from __future__ import annotations

from pathlib import Path

from embodied_mem.registry import register
from embodied_mem.stream.qa.benchmark import Benchmark, Mark, check_unique, gold_letter
from embodied_mem.stream.qa.judges import Judge
from embodied_mem.stream.qa.sample import Sample, as_folder_or_file, entries, need, text_index

FILES = (
    "1_plotQA.json", "2_needle.json", "3_ego.json", "4_count.json", "5_order.json", "6_anomaly_reco.json",
    "7_topic_reasoning.json", "8_sub_scene.json", "9_summary.json",
)  # fmt: skip
GRADES = {"subPlot": ("accuracy", "relevance"), "summary": ("completeness", "reliability")}


@register("benchmark", "mlvu", about="MLVU: nine tasks about long videos, two of them free text")
class MLVU(Benchmark):
    """Nine tasks about long videos, two of them free text."""

    headline = "tasks"
    apart = frozenset(GRADES)
    judged = True
    official_rule = "the character before the first ')' of the reply, or the whole reply, is the letter"

    def load(self, path: Path) -> list[Sample]:
        """Return the samples of one task file, or of all in a folder."""
        found = []
        for file in as_folder_or_file(path, FILES, "MLVU"):
            for number, entry in enumerate(entries(file, "MLVU")):
                where = f"{file}, entry {number}"
                task = str(need(entry, "question_type", where))
                video, question = str(need(entry, "video", where)), str(need(entry, "question", where))
                qid, answer = f"{task}-{number}", need(entry, "answer", where)
                options = tuple(str(item) for item in entry.get("candidates") or ())
                facts = {"path": f"{file.stem}/{video}", "duration_s": entry.get("duration")}
                if options:
                    right = text_index(answer, options)
                    found.append(Sample(video, qid, question, "choice", right, options, task=task, meta=facts))
                else:
                    found.append(Sample(video, qid, question, "open", str(answer), task=task, meta=facts))
        return check_unique(found)

    def group(self, task: str) -> str | None:
        """Return G-Avg for free text, else M-Avg."""
        return "G-Avg" if task in GRADES else "M-Avg"

    def judged_mark(self, sample: Sample, text: str, judge: Judge) -> Mark:
        """Return the sum of two grades, 2 to 10, brought to 0..1."""
        if not text.strip():
            return Mark(0.0, "")
        dimensions = GRADES.get(sample.task, ("accuracy", "relevance"))
        right = (str(sample.answer),)
        total = sum(judge.grade(sample.question, right, text, dimension) for dimension in dimensions)
        return Mark((total - 2) / 8, text, judge.name)

    def official(self, sample: Sample, text: str | None, judge: Judge) -> Mark:
        """Return the score of the bracket rule."""
        if sample.kind == "open":
            return self.judged_mark(sample, text or "", judge)
        said = (text or "").strip()
        place = said.find(")")
        read = said[max(place - 1, 0) : place] if place >= 0 else said
        return Mark(float(read == gold_letter(sample)), read, "bracket")
