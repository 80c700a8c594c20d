"""EgoTempo: open questions about first-person clips, ten types of fifty (Plizzari et al. 2025).

``egotempo_openQA.json``: ``{info, annotations: [{question_id, clip_id, question_type, question, answer}]}``; the clip
id is the video's name with start and end in seconds (``uid_start_end``), and the name of the clip's file. The paper
uses a model as judge; scores by a rule (ANLS and the like) are not comparable with it.
"""

from __future__ import annotations

import re
from pathlib import Path

from embodied_mem.errors import UsageError
from embodied_mem.files import read_json
from embodied_mem.registry import register
from embodied_mem.stream.qa.benchmark import Benchmark, Mark, check_unique
from embodied_mem.stream.qa.judges import Judge
from embodied_mem.stream.qa.sample import Sample, need


@register("benchmark", "egotempo", about="EgoTempo: open questions about first-person clips, to a judge")
class EgoTempo(Benchmark):
    """Open questions about first-person clips, to a judge."""

    judged = True
    official_rule = "the judge says yes or no; needs a model judge to compare"

    def load(self, path: Path) -> list[Sample]:
        """Return the samples of ``egotempo_openQA.json``."""
        document = read_json(path)
        rows = document.get("annotations") if isinstance(document, dict) else None
        if not isinstance(rows, list) or not rows:
            raise UsageError(f"expected {path} to hold an object with a list 'annotations'")
        found = []
        for number, entry in enumerate(rows):
            where = f"{path}, annotation {number}"
            clip = str(need(entry, "clip_id", where))
            part = re.fullmatch(r"(.+)_(\d+(?:\.\d+)?)_(\d+(?:\.\d+)?)", clip)
            facts = {"clip_of": part[1], "clip_s": (float(part[2]), float(part[3]))} if part else {}
            found.append(
                Sample(
                    clip,
                    str(need(entry, "question_id", where)),
                    str(need(entry, "question", where)),
                    "open",
                    str(need(entry, "answer", where)),
                    task=str(need(entry, "question_type", where)),
                    meta=facts,
                )  # fmt: skip
            )
        return check_unique(found)

    def official(self, sample: Sample, text: str | None, judge: Judge) -> Mark:
        """Return the judge's yes or no, an empty reply included."""
        verdict = judge(sample.question, (str(sample.answer),), text or "")
        return Mark(float(verdict.correct), text or "", judge.name)
