"""EgoSchema: five options about three minutes of a first-person video (Mangalam et al. 2023).

``questions.json`` is a list of ``q_uid, question, "option 0" .. "option 4"``; ``subset_answers.json`` beside it maps
500 of the q_uids to the index of the right option. Give the folder or ``questions.json``. Rows of the form ``video_idx,
question, option[], answer`` (as on data hubs) are read as well. Questions without a public answer are left out.
"""

from __future__ import annotations

from pathlib import Path

from embodied_mem.errors import UsageError
from embodied_mem.files import read_json
from embodied_mem.registry import register
from embodied_mem.stream.qa.benchmark import INDEX_RULE, Benchmark, Mark, check_unique, index_mark
from embodied_mem.stream.qa.judges import Judge
from embodied_mem.stream.qa.sample import Sample, as_folder_or_file, bare, entries, letter_index, need

_OPTIONS = tuple(f"option {number}" for number in range(5))


@register("benchmark", "egoschema", about="EgoSchema: five options about three minutes of first-person video")
class EgoSchema(Benchmark):
    """Five options about three minutes of first-person video."""

    official_rule = INDEX_RULE

    def load(self, path: Path) -> list[Sample]:
        """Return the samples whose answers are public."""
        (file,) = as_folder_or_file(path, ("questions.json",), "EgoSchema")
        rows = entries(file, "EgoSchema")
        beside = file.parent / "subset_answers.json"
        answers = read_json(beside) if beside.is_file() else {}
        if not isinstance(answers, dict):
            raise UsageError(f"expected {beside} to map q_uid to an index, got a {type(answers).__name__}")
        found = []
        for number, entry in enumerate(rows):
            where = f"{file}, entry {number}"
            uid = str(entry["video_idx"] if "video_idx" in entry else need(entry, "q_uid", where))
            options = bare(entry["option"] if "option" in entry else [need(entry, key, where) for key in _OPTIONS])
            answer = entry.get("answer", answers.get(uid))
            if answer is None:
                continue
            index = int(answer) if str(answer).isdigit() else letter_index(answer, options, where)
            found.append(Sample(uid, uid, str(need(entry, "question", where)), "choice", index, options))
        if not found:
            raise UsageError(f"expected answers in {beside} for some questions of {file}, found none")
        return check_unique(found)

    def official(self, sample: Sample, text: str | None, judge: Judge) -> Mark:
        """Return whether the reply is the index."""
        return index_mark(sample, text)
