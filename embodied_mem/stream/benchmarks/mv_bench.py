"""MVBench: twenty temporal skills on short clips; a check of sanity, not of memory (Li et al. 2023).

A folder of JSON lists, one per task and named after it (``action_sequence.json`` ...), or one such file: ``video,
question, candidates, answer`` (the text of the right one), and ``start, end`` in seconds where the clip is part of a
video. The headline is the mean of the task accuracies.
"""

from __future__ import annotations

from pathlib import Path

from embodied_mem.errors import UsageError
from embodied_mem.registry import register
from embodied_mem.stream.qa.benchmark import Benchmark, Mark, check_unique, gold_letter
from embodied_mem.stream.qa.judges import Judge
from embodied_mem.stream.qa.sample import Sample, entries, need, text_index


@register("benchmark", "mvbench", about="MVBench: twenty temporal skills on short clips")
class MVBench(Benchmark):
    """Twenty temporal skills on short clips."""

    headline = "tasks"
    official_rule = "the first word of the reply without full stops is the letter with its bracket, or contains it"

    def load(self, path: Path) -> list[Sample]:
        """Return the samples of one task file, or of all in a folder."""
        files = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not files:
            raise UsageError(f"expected MVBench task files (*.json) in {path}, found none")
        found = []
        for file in files:
            for number, entry in enumerate(entries(file, "MVBench")):
                where = f"{file}, entry {number}"
                options = tuple(str(item) for item in need(entry, "candidates", where))
                video = str(need(entry, "video", where))
                part = (float(entry["start"]), float(entry["end"])) if "start" in entry and "end" in entry else None
                found.append(
                    Sample(
                        video,
                        f"{file.stem}-{number}",
                        str(need(entry, "question", where)),
                        "choice",
                        text_index(need(entry, "answer", where), options),
                        options,
                        task=file.stem,
                        ask_time_s=None if part is None else part[1],
                        meta={"path": f"{file.stem}/{video}"} | ({} if part is None else {"start_s": part[0]}),
                    )  # fmt: skip
                )
        return check_unique(found)

    def official(self, sample: Sample, text: str | None, judge: Judge) -> Mark:
        """Return the score of the first word, one a part of the other."""
        words = (text or "").lower().split()
        said = words[0].replace(".", "") if words else ""
        option = f"({gold_letter(sample).lower()})"
        return Mark(float(bool(said) and (said in option or option in said)), said, "first word" if said else "")
