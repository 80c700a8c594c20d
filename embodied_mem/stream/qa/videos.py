"""The user's videos: which file or folder of frames belongs to a sample."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embodied_mem.errors import UsageError
from embodied_mem.stream.qa.sample import Sample

SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v")


class Videos:
    """A folder of videos (files, or folders of frames), searched by the names that annotation files use.

    Looked for in this order: the path the benchmark gives, the name as it is, the name with a usual suffix; then the
    same file name anywhere below the folder.
    """

    def __init__(self, folder: str | Path) -> None:
        """Take the folder.

        Raises:
            UsageError: it is none.
        """
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UsageError(f"expected a folder of videos at {self.folder}")
        self._by_name: dict[str, list[Path]] | None = None

    def path(self, sample: Sample) -> Path:
        """Return the video of a sample.

        Raises:
            UsageError: there is none, or several of its name.
        """
        names = [str(sample.meta["path"])] if "path" in sample.meta else []
        names.append(sample.video_id)
        for name in names:
            # an absolute name, or one with .., would leave the folder
            place = Path(name.lstrip("/"))
            if ".." in place.parts:
                raise UsageError(f"question {sample.qid!r}: expected a video inside {self.folder}, got {name!r}")
            for candidate in (place, *(place.with_name(place.name + suffix) for suffix in SUFFIXES)):
                if (self.folder / candidate).exists():
                    return self.folder / candidate
        found = self._named(Path(sample.video_id).name)
        if len(found) == 1:
            return found[0]
        what = "nothing" if not found else f"{len(found)} of that name"
        raise UsageError(f"expected the video {sample.video_id!r} of question {sample.qid!r} in {self.folder}: {what}")

    def check(self, samples: Sequence[Sample]) -> None:
        """Refuse samples whose videos are not all there.

        Raises:
            UsageError: some are missing; the first is named.
        """
        missing: dict[str, str] = {}
        for sample in samples:
            if sample.video_id not in missing:
                try:
                    self.path(sample)
                except UsageError as error:
                    missing[sample.video_id] = str(error)
        if missing:
            first = next(iter(missing.values()))
            raise UsageError(f"{first} ({len(missing)} videos are missing in all)")

    def _named(self, name: str) -> list[Path]:
        if self._by_name is None:
            self._by_name = {}
            for item in self.folder.rglob("*"):
                if item.suffix.lower() in SUFFIXES:
                    for key in {item.name, item.stem}:
                        self._by_name.setdefault(key, []).append(item)
        return self._by_name.get(name, [])
