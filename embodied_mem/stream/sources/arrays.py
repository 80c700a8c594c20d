"""Frames that lie in memory already."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.stream.frames import FrameSource


class ArraySource(FrameSource):
    """Images (N, H, W[, C]) uint8 with their time stamps (N,) in seconds."""

    seekable = True

    def __init__(
        self,
        images: Sequence[np.ndarray] | np.ndarray,
        times_s: Sequence[float],
        *,
        fps: float | None = None,
        source_id: str = "array",
    ) -> None:
        """Take the frames.

        Raises:
            UsageError: the counts differ, or the times run backwards.
        """
        super().__init__(source_id, fps)
        self.images, self.times = images, [float(t) for t in times_s]
        if len(self.images) != len(self.times):
            raise UsageError(f"expected as many times as images, got {len(self.times)} and {len(self.images)}")
        if any(after < before for before, after in zip(self.times, self.times[1:])):
            raise UsageError("expected times in ascending order")

    def _grab(self) -> float | None:
        return self.times[self._index] if self._index < len(self.times) else None

    def _retrieve(self) -> np.ndarray:
        return np.asarray(self.images[self._index - 1])

    def _seek(self, t_s: float) -> None:
        self._index = bisect.bisect_left(self.times, t_s)
        self.last_s = 0.0
