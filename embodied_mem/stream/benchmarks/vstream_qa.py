"""VStream-QA: open questions about hours of first-person and film video (Zhang et al. 2024).

``test_qa.json``: a list of ``video_id, question, id, answer, answer_type, duration``, and where the release has them
time stamps (``end_time``, ``time`` or ``ask_time``: seconds, or a clock). The same schema with an integer ``answer``
and the options inside the question holds multiple choice (as in the second version's ready-made files). Open answers go
to the judge.
"""

from __future__ import annotations

from pathlib import Path

from embodied_mem.registry import register
from embodied_mem.stream.benchmarks.lv_bench import split_options
from embodied_mem.stream.qa.benchmark import Benchmark, Mark, check_unique
from embodied_mem.stream.qa.judges import Judge
from embodied_mem.stream.qa.sample import Sample, clock_s, entries, need

_TIMES = ("ask_time", "end_time", "time")


@register("benchmark", "vstreamqa", about="VStream-QA: open questions about hours of video, to a judge")
class VStreamQA(Benchmark):
    """Open questions about hours of video, to a judge."""

    judged = True
    official_rule = "the judge says yes or no and gives 0 to 5; needs a model judge to compare"

    def load(self, path: Path) -> list[Sample]:
        """Return the samples of ``test_qa.json``."""
        found = []
        for number, entry in enumerate(entries(path, "VStream-QA")):
            where = f"{path}, entry {number}"
            video, qid = str(need(entry, "video_id", where)), str(need(entry, "id", where))
            question, answer = str(need(entry, "question", where)), need(entry, "answer", where)
            task = str(entry.get("answer_type", "all"))
            key = next((name for name in _TIMES if entry.get(name) is not None), None)
            at = None if key is None else clock_s(entry[key], where)
            if isinstance(answer, int) and not isinstance(answer, bool):
                asked, options = split_options(question, where)
                found.append(Sample(video, qid, asked, "choice", answer, options, task=task, ask_time_s=at))
            else:
                found.append(Sample(video, qid, question, "open", str(answer), task=task, ask_time_s=at))
        return check_unique(found)

    def official(self, sample: Sample, text: str | None, judge: Judge) -> Mark:
        """Return the judge's yes or no, an empty reply included."""
        verdict = judge(sample.question, (str(sample.answer), *sample.answers_extra), text or "")
        return Mark(float(verdict.correct), text or "", judge.name)
