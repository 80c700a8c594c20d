"""OVO-Bench: looking back, looking now, and waiting for what comes (Li et al. 2025).

A JSON list with three shapes of entry. Backward (EPM, ASI, HLD) and real-time (OCR, ACR, ATR, STU, FPD, OJR):
``id, task, video, realtime, question, options, gt`` (an index). Forward: ``test_info``, a list of probes with
``realtime`` and ``count`` (REC) or ``type`` 0/1 (SSR with ``step``, CRR). Every probe is one sample.

Scores: mean over the samples of a task, over the tasks of a group, over the three groups. The published script prints
as its total the mean over all tasks instead; the published table is the mean of the groups, as here.
"""

from __future__ import annotations

import re
from pathlib import Path

from embodied_mem.errors import UsageError
from embodied_mem.registry import register
from embodied_mem.stream.qa.benchmark import Benchmark, Mark, check_unique, gold_letter
from embodied_mem.stream.qa.judges import Judge
from embodied_mem.stream.qa.sample import Row, Sample, bare, entries, need

GROUPS = {
    "backward": ("EPM", "ASI", "HLD"),
    "real-time": ("OCR", "ACR", "ATR", "STU", "FPD", "OJR"),
    "forward": ("REC", "SSR", "CRR"),
}


@register("benchmark", "ovobench", about="OVO-Bench: backward, real-time and forward questions about a stream")
class OVOBench(Benchmark):
    """Backward, real-time and forward questions about a stream."""

    headline = "groups"
    official_rule = "the letter (or Yes/No) anywhere in the reply; counts are all digits of the reply joined"

    def load(self, path: Path) -> list[Sample]:
        """Return the samples of the annotation file; a forward entry gives one per probe."""
        found: list[Sample] = []
        for number, entry in enumerate(entries(path, "OVO-Bench")):
            where = f"{path}, entry {number}"
            task = str(need(entry, "task", where))
            if task in GROUPS["forward"]:
                found += _forward(entry, task, where)
            elif self.group(task) is None:
                raise UsageError(f"{where}: expected a task of {', '.join(sum(GROUPS.values(), ()))}, got {task!r}")
            else:
                found.append(_choice(entry, task, where))
        return check_unique(found)

    def group(self, task: str) -> str | None:
        """Return backward, real-time or forward."""
        return next((group for group, tasks in GROUPS.items() if task in tasks), None)

    def official(self, sample: Sample, text: str | None, judge: Judge) -> Mark:
        """Return the substring score."""
        if text is None:
            return Mark(0.0, "")
        if sample.kind == "count":
            joined = "".join(re.findall(r"\d+", text))
            return Mark(float(joined == str(sample.answer)), joined, "digits")
        if sample.kind == "yes_no":
            word = str(sample.answer).capitalize()
            return Mark(float(text == word[0] or word in text), text, "substring")
        return Mark(float(gold_letter(sample) in text), text, "substring")


def _choice(entry: Row, task: str, where: str) -> Sample:
    answer = need(entry, "gt", where)
    if not isinstance(answer, int):
        raise UsageError(f"{where}: expected the index of an option as gt, got {answer!r}")
    return Sample(
        str(need(entry, "video", where)), str(need(entry, "id", where)), str(need(entry, "question", where)), "choice",
        answer, bare(need(entry, "options", where)), task=task, ask_time_s=float(need(entry, "realtime", where)),
    )  # fmt: skip


def _forward(entry: Row, task: str, where: str) -> list[Sample]:
    video, name = str(need(entry, "video", where)), str(need(entry, "id", where))
    found = []
    for place, probe in enumerate(need(entry, "test_info", where)):
        at, here = float(need(probe, "realtime", where)), f"{where}, probe {place}"
        qid = f"{name}-{place}"
        if task == "REC":
            activity = need(entry, "activity", where)
            asked = f"How many times has this been done in the video so far: {activity}?"
            found.append(Sample(video, qid, asked, "count", int(need(probe, "count", here)), task=task, ask_time_s=at))
            continue
        evidence: tuple[tuple[float, float], ...] = ()
        if task == "SSR":
            tutorial, step = need(entry, "tutorial", where), need(probe, "step", here)
            asked = f"The video shows: {tutorial}. Is this step being done now: {step}?"
        else:
            asked = f'Has enough been seen to answer this question by now: "{need(entry, "question", where)}"?'
            clue = entry.get("clue_time")
            evidence = ((float(clue), float(clue)),) if clue is not None and float(clue) <= at else ()
        answer = "yes" if int(need(probe, "type", here)) == 1 else "no"
        found.append(Sample(video, qid, asked, "yes_no", answer, task=task, ask_time_s=at, evidence=evidence))
    return found
