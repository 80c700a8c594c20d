"""Video files through PyAV (extra ``video``): the stamps of the container itself, and seeking by its key frames.

    t_s = (pts - start of the stream) * time base, exact fractions until the last step

OpenCV is the default, since it is always there and as fast; PyAV is for stamps that must equal those of the container
to the tick, and for seeking far in long recordings: it jumps to the key frame before and decodes from there.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.stream.frames import FrameSource


class PyAVSource(FrameSource):
    """A video file; rotation metadata is applied."""

    seekable = True

    def __init__(self, path: str | Path, *, fps: float | None = None, source_id: str | None = None) -> None:
        """Open the file.

        Raises:
            UsageError: PyAV is not installed, there is no such file, it is empty, or no decoder reads it.
        """
        self.path = Path(path)
        super().__init__(source_id or self.path.name, fps)
        self._av = _import_av()
        if not self.path.is_file():
            raise UsageError(f"expected a video file at {self.path}, found nothing there")
        if self.path.stat().st_size == 0:
            raise UsageError(f"expected a video file at {self.path}, got 0 bytes")
        self._container = self._open()
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self._zero = self._stream.start_time or 0
        self._base = Fraction(self._stream.time_base or Fraction(1, 1000))
        self._frame: Any = None
        self._frames = self._decode()
        self._stamps: list[int] | None = None
        self._pending: float | None = self._next()
        if self._pending is None:
            self.close()
            raise UsageError(f"expected a video in {self.path}, the decoder finds no frame in it")

    def _open(self) -> Any:
        try:
            container = self._av.open(str(self.path))
        except (self._av.FFmpegError, ValueError) as error:
            raise UsageError(
                f"expected a video in {self.path}, no decoder reads it ({error}); is it damaged or no video?"
            ) from error
        if not container.streams.video:
            container.close()
            raise UsageError(f"expected a video in {self.path}, it holds no picture")
        return container

    def _decode(self) -> Iterator[Any]:
        """Yield decoded frames; a packet that cannot be decoded counts as a broken frame."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except self._av.FFmpegError as error:
                self.note("truncated", f"the file ends early: {error}")
                return
            try:
                yield from packet.decode()
            except self._av.FFmpegError as error:
                self.lost_frame(str(error))

    def _next(self) -> float | None:
        self._frame = next(self._frames, None)
        if self._frame is None:
            return None
        if self._frame.pts is None:
            return self.last_s
        return float((self._frame.pts - self._zero) * self._base)

    def _grab(self) -> float | None:
        if self._pending is not None:
            t_s, self._pending = self._pending, None
            return t_s
        return self._next()

    def _retrieve(self) -> np.ndarray | None:
        try:
            image = self._frame.to_ndarray(format="rgb24")
        except self._av.FFmpegError:
            return None
        turns = round(getattr(self._frame, "rotation", 0) / 90) % 4
        return np.rot90(image, turns) if turns else image

    def _seek(self, t_s: float) -> None:
        stamps = self._index_of_stamps()
        target = self._zero + math.ceil(Fraction(t_s - 1e-6).limit_denominator(10**9) / self._base)
        place = bisect.bisect_left(stamps, target)
        self._container.seek(min(max(target, self._zero), stamps[-1]), stream=self._stream, backward=True)
        self._frames = self._decode()
        self._index, self.last_s, self._pending = place, 0.0, None
        while True:
            found = self._next()
            if found is None or found >= t_s - 1e-6:
                self._pending = found
                return

    def _index_of_stamps(self) -> list[int]:
        """Return the stamps of all frames in order; read once, without decoding."""
        if self._stamps is None:
            other = self._open()
            with other:
                packets = other.demux(other.streams.video[0])
                self._stamps = sorted(packet.pts for packet in packets if packet.pts is not None)
        return self._stamps

    def close(self) -> None:
        """Close the file."""
        super().close()
        self._container.close()


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise UsageError(
            "PyAV is not installed; pip install 'embodied-mem[video]', or use the decoder opencv"
        ) from error
    return av
