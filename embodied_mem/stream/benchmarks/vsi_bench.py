"""VSI-Bench: sizes, distances, directions and orders of a room seen in a video (Yang et al. 2024).

JSON or JSON lines of ``dataset, scene_name, question_type, question, options?, ground_truth``. Types with options are
scored by accuracy, numeric types by mean relative accuracy over ten thresholds. The three levels of relative direction
become one task before the mean over tasks.
"""

from __future__ import annotations

import re
from pathlib import Path

from embodied_mem.errors import UsageError
from embodied_mem.registry import register
from embodied_mem.stream.qa.benchmark import Benchmark, Mark, check_unique, gold_letter
from embodied_mem.stream.qa.judges import Judge
from embodied_mem.stream.qa.sample import Sample, bare, entries, letter_index, need
from embodied_mem.stream.qa.texts import mean_relative_accuracy

NUMERIC = ("object_counting", "object_abs_distance", "object_size_estimation", "room_size_estimation")


@register("benchmark", "vsibench", about="VSI-Bench: sizes, distances, directions and orders in a room")
class VSIBench(Benchmark):
    """Sizes, distances, directions and orders in a room."""

    headline = "groups"
    official_rule = "the first word of the reply without full stops, as a letter or as a number"

    def load(self, path: Path) -> list[Sample]:
        """Return the samples of the annotation file."""
        found = []
        for number, entry in enumerate(entries(path, "VSI-Bench")):
            where = f"{path}, entry {number}"
            task = str(need(entry, "question_type", where))
            scene, question = str(need(entry, "scene_name", where)), str(need(entry, "question", where))
            truth, qid = need(entry, "ground_truth", where), str(entry.get("id", number))
            facts = {"path": f"{entry.get('dataset', '')}/{scene}"}
            if task in NUMERIC:
                try:
                    value = float(truth)
                except (TypeError, ValueError) as error:
                    raise UsageError(f"{where}: expected a number as ground_truth, got {truth!r}") from error
                found.append(Sample(scene, qid, question, "number", value, task=task, meta=facts))
            else:
                options = bare(need(entry, "options", where))
                index = letter_index(truth, options, where)
                found.append(Sample(scene, qid, question, "choice", index, options, task=task, meta=facts))
        return check_unique(found)

    def group(self, task: str) -> str | None:
        """Return the task without its level."""
        return re.sub(r"_(easy|medium|hard)$", "", task)

    def official(self, sample: Sample, text: str | None, judge: Judge) -> Mark:
        """Return the score of the first word."""
        words = (text or "").split()
        said = words[0].rstrip(".").strip() if words else ""
        if sample.kind == "choice":
            return Mark(float(said.lower() == gold_letter(sample).lower()), said, "first word" if said else "")
        try:
            value = float(said)
        except ValueError:
            return Mark(0.0, said)
        return Mark(mean_relative_accuracy(value, float(sample.answer)), said, "first word")
