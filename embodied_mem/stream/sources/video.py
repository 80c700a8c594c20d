"""Video files through OpenCV, read from front to back, with the decoder's time stamps.

Sampling reads through and converts what is due: with long groups of pictures that is several times faster than
seeking, and exact. So is `VideoSource.seek`, which reads on from where the source is, or from the start to go back;
its cost grows with the distance.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.stream.frames import FrameSource

# Calls after which a decoder that gives no frame is at the end, not in a damaged stretch.
PATIENCE = 64


class VideoSource(FrameSource):
    """A video file; rotation metadata is applied by the decoder."""

    seekable = True

    def __init__(self, path: str | Path, *, fps: float | None = None, source_id: str | None = None) -> None:
        """Open the file.

        Raises:
            UsageError: there is no such file, it is empty, or no decoder reads it.
        """
        self.path = Path(path)
        super().__init__(source_id or self.path.name, fps)
        if not self.path.is_file():
            raise UsageError(f"expected a video file at {self.path}, found {_found(self.path)}")
        if self.path.stat().st_size == 0:
            raise UsageError(f"expected a video file at {self.path}, got 0 bytes")
        self._capture = self._open()
        self._pending: float | None = self._next()
        if self._pending is None:
            self.close()
            raise UsageError(f"expected a video in {self.path}, the decoder finds no frame in it")

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            capture.release()
            raise UsageError(f"expected a video in {self.path}, no decoder reads it; is it damaged or no video?")
        return capture

    def _next(self) -> float | None:
        """Grab one frame; damaged ones are counted and left behind."""
        for failures in range(PATIENCE):
            if self._capture.grab():
                for _ in range(failures):
                    self.lost_frame("the decoder gave no frame")
                return float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000.0
        promised = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        if 0 < self._index + self.broken < promised - 1:
            self.note("truncated", f"{promised:.0f} frames promised, {self._index} read, {self.broken} broken")
        return None

    def _grab(self) -> float | None:
        if self._pending is not None:
            t_s, self._pending = self._pending, None
            return t_s
        return self._next()

    def _retrieve(self) -> np.ndarray | None:
        found, image = self._capture.retrieve()
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if found and image is not None else None

    def _seek(self, t_s: float) -> None:
        if t_s <= self.last_s and self._index:
            self._capture.release()
            self._capture = self._open()
            self._index, self.last_s, self._pending = 0, 0.0, None
        while True:
            found = self._grab()
            if found is None or found >= t_s - 1e-6:
                self._pending = found
                return
            self.last_s = found
            self._index += 1
            self.read += 1

    def close(self) -> None:
        """Close the file."""
        super().close()
        self._capture.release()


def _found(path: Path) -> str:
    return "a folder" if path.is_dir() else "nothing there"
