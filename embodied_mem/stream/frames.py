"""Frames of a stream, and what every source of them does: time stamps, sampling, broken frames, events.

    with open_source("film.mkv", fps=2) as source:
        for frame in source:
            frame.rgb, frame.t_s

A subclass writes `_grab` (advance by one frame, return its time) and `_retrieve` (decode the frame that was grabbed):
frames that the sampling rate leaves out are advanced over and never converted. Time stamps come from the decoder, or
from a clock where there is no decoder; the number of a frame divided by a nominal rate is used nowhere.
"""

from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, Literal, TypeVar

import numpy as np

from embodied_mem.errors import UsageError

S = TypeVar("S", bound="FrameSource")

# Stamps are fractions of a second that went through milliseconds: closer than this is the same moment.
_EPS_S = 1e-6
_EVENTS_KEPT = 256
# Seconds behind its pace after which a recording goes on at its pace from where it is.
_LATE_S = 1.0


@dataclass(frozen=True)
class Frame:
    """One decoded frame."""

    rgb: np.ndarray
    """(H, W, 3) uint8, RGB."""
    t_s: float
    """Seconds on the time axis of the source; never smaller than that of the frame before."""
    index: int
    """Number of the frame in the source, those left out by sampling included."""
    source_id: str
    """Where it comes from."""

    def __repr__(self) -> str:
        return f"Frame({self.rgb.shape[0]}x{self.rgb.shape[1]}, t_s={self.t_s:.3f}, index={self.index})"


@dataclass(frozen=True)
class SourceEvent:
    """Something a reader of the stream should know of."""

    kind: Literal["broken", "end", "truncated", "lost", "reconnected"]
    """broken: a frame could not be decoded; end: no more frames; truncated: fewer than the file promised; lost and
    reconnected: the connection of a live source."""
    t_s: float
    """Time of the last good frame, 0 before the first."""
    message: str
    """One line."""


class Sampler:
    """At most ``fps`` frames per second, on a grid from the first one, so that gaps do not drift."""

    def __init__(self, fps: float | None) -> None:
        """Choose the rate; None for every frame.

        Raises:
            UsageError: it is not positive.
        """
        if fps is not None and not (fps > 0 and math.isfinite(fps)):
            raise UsageError(f"expected fps > 0, got {fps}")
        self.fps = fps
        self.restart(-math.inf)

    def restart(self, t_s: float) -> None:
        """Begin anew with the first frame at or after ``t_s`` seconds."""
        self._first_s: float | None = None
        self._due_s = t_s

    def due(self, t_s: float) -> bool:
        """Return whether a frame of this time is wanted."""
        return t_s >= self._due_s - _EPS_S

    def taken(self, t_s: float) -> None:
        """Say that the frame of this time was used."""
        if self.fps is None:
            self._due_s = -math.inf
            return
        if self._first_s is None:
            self._first_s = t_s
        passed = math.floor((t_s - self._first_s + _EPS_S) * self.fps)
        self._due_s = self._first_s + (passed + 1) / self.fps


class FrameSource(ABC):
    """An iterator of frames in time order; iterate once, or again after `seek`.

    Counters: ``read`` frames advanced over, ``yielded`` frames given out, ``broken`` frames that could not be decoded,
    ``reconnects`` of a live source.
    """

    live: ClassVar[bool] = False
    """True where frames that are not fetched in time are lost."""
    seekable: ClassVar[bool] = False
    """True where `seek` works."""

    def __init__(self, source_id: str, fps: float | None = None) -> None:
        """Set up the counters.

        Args:
            source_id: name put on every frame.
            fps: frames per second to give out at most; None for all of them.

        Raises:
            UsageError: ``fps`` is not positive.
        """
        self.source_id, self.fps, self._sampler = source_id, fps, Sampler(fps)
        self.read = self.yielded = self.broken = self.reconnects = 0
        self.events: deque[SourceEvent] = deque(maxlen=_EVENTS_KEPT)
        self.last_s = 0.0
        """Time of the last frame advanced over."""
        self.pace = 0.0
        """Seconds of the stream per second of the clock: 1 plays a recording as it was; 0 for as fast as it goes."""
        self._paced: tuple[float, float] | None = None
        self._index = 0
        self._stopped = threading.Event()

    @abstractmethod
    def _grab(self) -> float | None:
        """Advance by one frame and return its time in seconds, or None at the end."""

    @abstractmethod
    def _retrieve(self) -> np.ndarray | None:
        """Return the frame that was grabbed, any of the layouts of `to_rgb` in RGB order, or None if it is broken."""

    def __iter__(self) -> Iterator[Frame]:
        while not self.stopped:
            t_s = self._grab()
            if t_s is None:
                self.note("end", f"end after {self.read} frames")
                return
            # a stamp that runs backwards (or is none) would break every reader's order
            t_s = max(t_s, self.last_s) if math.isfinite(t_s) else self.last_s
            self.last_s = t_s
            index, self._index = self._index, self._index + 1
            self.read += 1
            if not self._sampler.due(t_s):
                continue
            image = self._retrieve()
            if image is None:
                self.lost_frame("the frame could not be decoded")
                continue
            self._sampler.taken(t_s)
            if self.pace > 0 and not self._in_time(t_s):
                return
            self.yielded += 1
            yield Frame(to_rgb(image), t_s, index, self.source_id)

    def seek(self, t_s: float) -> None:
        """Go on with the first frame at or after ``t_s`` seconds.

        Raises:
            UsageError: the source is not seekable, or the time is negative.
        """
        if not self.seekable:
            raise UsageError(f"{type(self).__name__} cannot seek: it has only what comes next")
        if not t_s >= 0:
            raise UsageError(f"expected a time >= 0 s, got {t_s}")
        self._seek(t_s)
        self._sampler.restart(t_s)
        self._paced = None

    def _seek(self, t_s: float) -> None:
        """Go there; written by sources that are ``seekable``."""
        raise UsageError(f"expected {type(self).__name__} to write _seek, since it says that it is seekable")

    @property
    def stopped(self) -> bool:
        """Whether `stop` or `close` was called."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Let iteration end after the present frame; may be called from any thread."""
        self._stopped.set()

    def close(self) -> None:
        """Let go of the device or file; call it from the thread that iterates, or when iteration has ended."""
        self.stop()

    def note(self, kind: Literal["broken", "end", "truncated", "lost", "reconnected"], message: str) -> None:
        """Keep an event (the latest 256 are kept)."""
        self.events.append(SourceEvent(kind, self.last_s, message))

    def lost_frame(self, message: str) -> None:
        """Count a broken frame."""
        self.broken += 1
        self.note("broken", message)

    def _in_time(self, t_s: float) -> bool:
        """Wait until ``t_s`` has come at this pace; False if the source was stopped meanwhile."""
        now = time.monotonic()
        if self._paced is None:
            self._paced = now, t_s
        clock, stream = self._paced
        late = now - clock - (t_s - stream) / self.pace
        if late > _LATE_S:
            # a reader that fell behind does not rush through what it missed
            self._paced = now, t_s
        return not self._stopped.wait(max(0.0, -late))

    def __enter__(self: S) -> S:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Return (H, W, 3) uint8 of a grey (H, W) or (H, W, 1), RGB, or RGBA image; alpha is laid over black.

    16-bit images keep their high byte.

    Raises:
        UsageError: another rank, channel count or dtype.
    """
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.size == 0:
        raise UsageError(f"expected an image (H, W[, C]) uint8, got {image.shape} {image.dtype}")
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if channels == 4:
        opaque = image[..., 3:].astype(np.uint16)
        return (image[..., :3] * opaque // 255).astype(np.uint8)
    if channels != 3:
        raise UsageError(f"expected 1, 3 or 4 channels, got {channels}")
    return np.ascontiguousarray(image)


def shrink(rgb: np.ndarray, side: int) -> np.ndarray:
    """Return the image (H, W, 3) uint8 with its longer side at most ``side`` pixels, averaged over areas."""
    import cv2

    height, width = rgb.shape[:2]
    factor = side / max(height, width)
    if factor >= 1:
        return rgb
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
