"""NExT-QA: causal, temporal and descriptive questions about videos of 44 seconds (Xiao et al. 2021).

A CSV file ``video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4``; the answer is an index. Types CW
and CH are causal, TN, TP and TC temporal (TP is counted as TN), DO, DL and DC descriptive. The headline is the accuracy
over all; the three groups stand beside it.
"""

from __future__ import annotations

import csv
from pathlib import Path

from embodied_mem.errors import UsageError
from embodied_mem.registry import register
from embodied_mem.stream.qa.benchmark import INDEX_RULE, Benchmark, Mark, check_unique, index_mark
from embodied_mem.stream.qa.judges import Judge
from embodied_mem.stream.qa.sample import Sample, need

GROUPS = {"C": "causal", "T": "temporal", "D": "descriptive"}
_OPTIONS = tuple(f"a{number}" for number in range(5))


@register("benchmark", "nextqa", about="NExT-QA: causal, temporal and descriptive multiple choice on short videos")
class NExTQA(Benchmark):
    """Causal, temporal and descriptive multiple choice on short videos."""

    official_rule = INDEX_RULE

    def load(self, path: Path) -> list[Sample]:
        """Return the samples of ``val.csv`` or ``test.csv``."""
        if not path.is_file():
            raise UsageError(f"expected the NExT-QA file at {path}, found nothing there")
        with open(path, encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        found = []
        for number, row in enumerate(rows, start=2):
            where = f"{path}, line {number}"
            kind = str(need(row, "type", where))
            if kind[:1] not in GROUPS:
                raise UsageError(f"{where}: expected a type of C*, T* or D*, got {kind!r}")
            video, answer = str(need(row, "video", where)), str(need(row, "answer", where))
            if not answer.isdigit():
                raise UsageError(f"{where}: expected the index of an option as answer, got {answer!r}")
            options = tuple(str(need(row, name, where)) for name in _OPTIONS)
            qid = f"{video}_{need(row, 'qid', where)}"
            question = str(need(row, "question", where))
            task = "TN" if kind == "TP" else kind
            found.append(Sample(video, qid, question, "choice", int(answer), options, task=task))
        if not found:
            raise UsageError(f"expected questions in {path}, found none")
        return check_unique(found)

    def group(self, task: str) -> str | None:
        """Return causal, temporal or descriptive."""
        return GROUPS[task[0]]

    def official(self, sample: Sample, text: str | None, judge: Judge) -> Mark:
        """Return whether the reply is the index."""
        return index_mark(sample, text)
