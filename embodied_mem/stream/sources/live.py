"""Cameras and network streams: frames that do not wait, connections that break.

A camera has no decoder clock that can be trusted, so a frame is stamped when it arrives. A network stream keeps its
decoder's stamps inside a connection; a new connection starts them anew, so they are shifted by the clock of this
machine. Zero is the first frame.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import cv2
import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.stream.frames import FrameSource


class Capture(Protocol):
    """What is used of ``cv2.VideoCapture``; tests script it."""

    def isOpened(self) -> bool:
        """Return whether it is open."""

    def grab(self) -> bool:
        """Advance by one frame."""

    def retrieve(self) -> tuple[bool, np.ndarray]:
        """Return the frame grabbed, BGR."""

    def get(self, prop: int) -> float:
        """Return a property by its number."""

    def release(self) -> None:
        """Let go of the device."""


class CameraSource(FrameSource):
    """A camera of this machine, by number."""

    live = True

    def __init__(
        self,
        number: int,
        *,
        fps: float | None = None,
        open_capture: Callable[[int], Capture] = cv2.VideoCapture,
        clock: Callable[[], float] = time.monotonic,
        patience: int = 30,
    ) -> None:
        """Open the camera.

        Args:
            number: of the camera, from 0.
            fps: frames per second to give out at most.
            open_capture: opens the device.
            clock: seconds, never running backwards.
            patience: reads that may fail in a row before the camera counts as gone.

        Raises:
            UsageError: there is no such camera.
        """
        super().__init__(f"camera-{number}", fps)
        self._clock, self._patience = clock, patience
        self._capture = open_capture(number)
        if not self._capture.isOpened():
            self._capture.release()
            raise UsageError(f"camera {number} cannot be opened; is it there, and free?")
        self._start = clock()

    def _grab(self) -> float | None:
        for failures in range(self._patience):
            if self.stopped:
                return None
            if self._capture.grab():
                for _ in range(failures):
                    self.lost_frame("the camera gave no frame")
                now = self._clock()
                if self.read == 0:
                    self._start = now
                return now - self._start
        self.note("lost", f"no frame in {self._patience} reads")
        return None

    def _retrieve(self) -> np.ndarray | None:
        found, image = self._capture.retrieve()
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if found and image is not None else None

    def close(self) -> None:
        """Free the camera."""
        super().close()
        self._capture.release()


class NetworkSource(FrameSource):
    """A stream by URL (rtsp, http, rtmp); a broken connection is opened again with growing pauses."""

    live = True

    def __init__(
        self,
        url: str,
        *,
        fps: float | None = None,
        retries: int = 8,
        pause_s: float = 0.5,
        open_capture: Callable[[str], Capture] = cv2.VideoCapture,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        """Connect.

        Args:
            url: of the stream; a user name and password in it are not put on the frames.
            fps: frames per second to give out at most.
            retries: failed connections in a row before the stream counts as ended.
            pause_s: pause before the first retry; doubled each time, at most 30 s.
            open_capture: opens the URL.
            clock: seconds, never running backwards.
            sleep: waits so many seconds; None for a wait that `stop` ends.

        Raises:
            UsageError: the stream cannot be opened, or ``retries`` is negative.
        """
        super().__init__(_without_login(url), fps)
        if retries < 0:
            raise UsageError(f"expected retries >= 0, got {retries}")
        self.url, self._open, self._clock, self._sleep = url, open_capture, clock, sleep or self._stopped.wait
        self._retries, self._pause = retries, pause_s
        self._shift: float | None = None
        self._start: float | None = None
        self._capture = open_capture(url)
        if not self._capture.isOpened():
            self._capture.release()
            raise UsageError(f"the stream {self.source_id} cannot be opened; is the server up?")

    def _grab(self) -> float | None:
        while not self.stopped:
            if self._capture.grab():
                return self._stamp(float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000.0)
            if not self._reconnect():
                return None
        return None

    def _stamp(self, decoder_s: float) -> float:
        now = self._clock()
        if self._start is None:
            self._start = now
        if self._shift is None:
            self._shift = now - self._start - decoder_s
        return decoder_s + self._shift

    def _reconnect(self) -> bool:
        self._capture.release()
        self.note("lost", "the connection broke")
        pause = self._pause
        for attempt in range(1, self._retries + 1):
            self._sleep(pause)
            pause = min(2 * pause, 30.0)
            if self.stopped:
                return False
            self._capture = self._open(self.url)
            if self._capture.isOpened() and self._capture.grab():
                self._shift = None
                # the frame that proved the connection is not given out: its stamp sets the new zero
                self._stamp(float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000.0)
                self.reconnects += 1
                self.note("reconnected", f"after {attempt} attempts")
                return True
            self._capture.release()
        return False

    def _retrieve(self) -> np.ndarray | None:
        found, image = self._capture.retrieve()
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if found and image is not None else None

    def close(self) -> None:
        """Close the connection."""
        super().close()
        self._capture.release()


def _without_login(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}"
