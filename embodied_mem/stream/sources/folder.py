"""A folder of images as a stream, in the natural order of their names.

A file ``times.csv`` beside them, lines of ``name,seconds``, gives the time stamps; without it ``step_s`` seconds lie
between two images.
"""

from __future__ import annotations

import bisect
import csv
import math
import re
from pathlib import Path

import cv2
import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.stream.frames import FrameSource

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})


class FolderSource(FrameSource):
    """Images of one folder; one that cannot be read counts as a broken frame."""

    seekable = True

    def __init__(
        self, path: str | Path, *, step_s: float = 1.0, fps: float | None = None, source_id: str | None = None
    ) -> None:
        """List the images.

        Raises:
            UsageError: no folder, no image in it, a step that is not positive, or a ``times.csv`` that does not fit.
        """
        self.path = Path(path)
        super().__init__(source_id or self.path.name, fps)
        if not self.path.is_dir():
            raise UsageError(f"expected a folder of images at {self.path}")
        if not step_s > 0:
            raise UsageError(f"expected step_s > 0, got {step_s}")
        self.files = sorted(
            (item for item in self.path.iterdir() if item.suffix.lower() in SUFFIXES), key=lambda item: _natural(item)
        )
        if not self.files:
            raise UsageError(f"expected images ({', '.join(sorted(SUFFIXES))}) in {self.path}, found none")
        table = self.path / "times.csv"
        if table.is_file():
            stamps = _read_times(table)
            missing = [item.name for item in self.files if item.name not in stamps]
            if missing:
                raise UsageError(f"{table} has no time for {missing[0]} ({len(missing)} images in all)")
            self.files.sort(key=lambda item: stamps[item.name])
            self.times = [stamps[item.name] for item in self.files]
        else:
            self.times = [step_s * number for number in range(len(self.files))]

    def _grab(self) -> float | None:
        return self.times[self._index] if self._index < len(self.files) else None

    def _retrieve(self) -> np.ndarray | None:
        image = cv2.imread(str(self.files[self._index - 1]), cv2.IMREAD_UNCHANGED)
        if image is None:
            return None
        if image.ndim == 3 and image.shape[2] >= 3:
            image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
        return image

    def _seek(self, t_s: float) -> None:
        self._index = bisect.bisect_left(self.times, t_s)
        self.last_s = 0.0


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort key by which frame2 comes before frame10."""
    parts = re.split(r"(\d+)", path.name)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]


def _read_times(path: Path) -> dict[str, float]:
    stamps = {}
    with open(path, encoding="utf-8", newline="") as stream:
        for number, row in enumerate(csv.reader(stream), start=1):
            try:
                name, seconds = row
                stamps[name] = float(seconds)
            except ValueError as error:
                raise UsageError(f"{path}, line {number}: expected name,seconds, got {','.join(row)!r}") from error
            if not math.isfinite(stamps[name]) or stamps[name] < 0:
                raise UsageError(f"{path}, line {number}: expected seconds >= 0, got {seconds}")
    return stamps
