"""MovieChat-1K: open questions about whole films and about moments in them (Song et al. 2023).

A folder of JSON files, one per video, or one file: ``{info: {video_path, fps, num_frame, ...}, caption, global:
[{question, answer}], breakpoint: [{question, answer, time}]}``. ``time`` is the number of a frame; it becomes seconds
by the rate in ``info``, and only frames before it may be used. Answers go to the judge.
"""

from __future__ import annotations

from pathlib import Path

from embodied_mem.errors import UsageError
from embodied_mem.files import read_json
from embodied_mem.registry import register
from embodied_mem.stream.benchmarks.vstream_qa import VStreamQA
from embodied_mem.stream.qa.benchmark import check_unique
from embodied_mem.stream.qa.sample import Sample, need


@register(
    "benchmark", "moviechat", about="MovieChat-1K: open questions about whole films and moments in them, to a judge"
)
class MovieChat1K(VStreamQA):
    """Open questions about whole films and moments in them, to a judge."""

    headline = "tasks"

    def load(self, path: Path) -> list[Sample]:
        """Return the samples of one file, or of all in a folder."""
        files = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not files:
            raise UsageError(f"expected MovieChat-1K files (*.json) in {path}, found none")
        found = []
        for file in files:
            entry = read_json(file)
            if not isinstance(entry, dict):
                raise UsageError(f"expected {file} to hold one MovieChat-1K object, got a {type(entry).__name__}")
            info = need(entry, "info", str(file))
            video = str(need(info, "video_path", str(file)))
            for place, item in enumerate(entry.get("global") or ()):
                found.append(_sample(file, video, item, "global", place, None))
            for place, item in enumerate(entry.get("breakpoint") or ()):
                fps = float(need(info, "fps", str(file)))
                if not fps > 0:
                    raise UsageError(f"{file}: expected fps > 0 in info, got {fps}")
                # frames before `time` only: the frame of that number is the first one left out
                at = max(0.0, (float(need(item, "time", str(file))) - 1) / fps)
                found.append(_sample(file, video, item, "breakpoint", place, at))
        return check_unique(found)


def _sample(file: Path, video: str, item: dict[str, object], task: str, place: int, at: float | None) -> Sample:
    question, answer = str(need(item, "question", str(file))), str(need(item, "answer", str(file)))
    return Sample(video, f"{file.stem}-{task}-{place}", question, "open", answer, task=task, ask_time_s=at)
