"""EgoMem: details and events of whole days (Zuo et al. 2025, VideoLucy).

``EgoMem.json``: a list of ``videoID, question_id, type`` (Detail or Event), ``question, options`` (four, with letters),
``answer`` (a letter). The headline is the accuracy over all, with the two types beside it.
"""

from __future__ import annotations

from pathlib import Path

from embodied_mem.registry import register
from embodied_mem.stream.qa.benchmark import Benchmark, check_unique
from embodied_mem.stream.qa.sample import Sample, bare, entries, letter_index, need


@register("benchmark", "egomem", about="EgoMem: multiple choice on details and events of whole days")
class EgoMem(Benchmark):
    """Multiple choice on details and events of whole days."""

    def load(self, path: Path) -> list[Sample]:
        """Return the samples of ``EgoMem.json``."""
        found = []
        for number, entry in enumerate(entries(path, "EgoMem")):
            where = f"{path}, entry {number}"
            options = bare(need(entry, "options", where))
            video = str(need(entry, "videoID", where))
            found.append(
                Sample(
                    video,
                    f"{video}-{need(entry, 'question_id', where)}",
                    str(need(entry, "question", where)),
                    "choice",
                    letter_index(need(entry, "answer", where), options, where),
                    options,
                    task=str(need(entry, "type", where)),
                )  # fmt: skip
            )
        return check_unique(found)
