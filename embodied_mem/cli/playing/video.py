"""An mp4 file written frame by frame; it appears under its name only when it is complete."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.files import absent_folders, check_target, remove_empty

if TYPE_CHECKING:
    import cv2


class Video:
    """Writes RGB frames; use it as a context.

    Args:
        path: file to write, ``.mp4``.
        fps: frames per second.
    """

    def __init__(self, path: Path, fps: float = 10.0) -> None:
        if path.suffix.lower() != ".mp4":
            raise UsageError(f"expected a file that ends in .mp4 to record to, got {path}")
        self.path = path
        self.fps = fps
        self.frames = 0
        self._part = path.with_name(f".{path.stem}.{os.getpid()}.mp4")
        self._made: list[Path] = []
        self._writer: cv2.VideoWriter | None = None

    def __enter__(self) -> Video:
        check_target(self.path)
        return self

    def add(self, image: np.ndarray) -> None:
        """Append a frame (H, W, 3) uint8 RGB; all frames have the size of the first.

        Raises:
            UsageError: OpenCV has no encoder for mp4.
        """
        import cv2

        if self._writer is None:
            self._made = absent_folders(self.path.parent)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            size = (image.shape[1], image.shape[0])
            self._writer = cv2.VideoWriter(str(self._part), cv2.VideoWriter.fourcc(*"mp4v"), self.fps, size)
            if not self._writer.isOpened():
                raise UsageError(f"cannot record {self.path}: this OpenCV cannot write mp4; install opencv-python")
        self._writer.write(np.ascontiguousarray(image[..., ::-1]))
        self.frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.release()
        if (kind is None or kind is KeyboardInterrupt) and self.frames:
            os.replace(self._part, self.path)
        else:
            self._part.unlink(missing_ok=True)
            remove_empty(self._made)
