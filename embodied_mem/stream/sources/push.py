"""Frames that somebody else sends: pictures uploaded over HTTP or a WebSocket, the camera of a phone.

    source.push(jpeg)            from any thread; stamped on arrival
    source.push(jpeg, t_s=1.5)   or with the sender's own time
    source.end()

Pictures wait in a bounded queue whose oldest leave first. Where nothing came for ``idle_s`` seconds the stream counts
as lost (an event), and as reconnected with the next picture; it ends with `end` alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.stream.frames import FrameSource
from embodied_mem.stream.pictures import decoded, fitted
from embodied_mem.stream.queue import BoundedQueue

_POLL_S = 0.1


class PushSource(FrameSource):
    """A live source that is fed; pictures of another size are fitted into that of the first."""

    live = True

    def __init__(
        self,
        source_id: str = "upload",
        *,
        fps: float | None = None,
        size: int = 8,
        idle_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wait for pictures.

        Args:
            source_id: name put on every frame.
            fps: frames per second to give out at most.
            size: pictures that may wait.
            idle_s: seconds without a picture after which the stream counts as lost.
            clock: seconds, never running backwards.

        Raises:
            UsageError: a value is out of range.
        """
        super().__init__(source_id, fps)
        if not idle_s > 0:
            raise UsageError(f"expected idle_s > 0, got {idle_s}")
        self._queue: BoundedQueue[tuple[float, bytes]] = BoundedQueue(size, "drop_oldest")
        self._idle_s, self._clock = idle_s, clock
        self._start: float | None = None
        self._data = b""
        self._lost = False
        self._shape: tuple[int, int] | None = None

    def push(self, data: bytes, t_s: float | None = None) -> bool:
        """Send one JPEG, PNG or WebP picture; it is decoded when its turn comes. False after the end.

        Args:
            data: the file.
            t_s: seconds on the sender's time axis; None for the time since the first picture came.

        Raises:
            UsageError: the time is negative or not finite.
        """
        now = self._clock()
        if self._start is None:
            self._start = now
        if t_s is not None and not (t_s >= 0 and math.isfinite(t_s)):
            raise UsageError(f"expected a time >= 0 s, got {t_s}")
        return self._queue.put((now - self._start if t_s is None else t_s, data))

    def end(self) -> None:
        """Take no more pictures; those waiting are still given out."""
        self._queue.close()

    @property
    def dropped(self) -> int:
        """Pictures that left without being read."""
        return self._queue.counters().dropped

    def _grab(self) -> float | None:
        heard = self._clock()
        while not self.stopped:
            item = self._queue.get(_POLL_S)
            if item is not None:
                if self._lost:
                    self._lost = False
                    self.reconnects += 1
                    self.note("reconnected", "pictures come again")
                self._data = item[1]
                return item[0]
            if self._queue.closed:
                return None
            if self.read and not self._lost and self._clock() - heard > self._idle_s:
                self._lost = True
                self.note("lost", f"no picture for {self._idle_s:g} s")
        return None

    def _retrieve(self) -> np.ndarray | None:
        try:
            image = decoded(self._data)
        except UsageError:
            return None
        self._shape = self._shape or (image.shape[0], image.shape[1])
        return fitted(image, *self._shape)

    def stop(self) -> None:
        """Let iteration end."""
        super().stop()
        self._queue.close()
