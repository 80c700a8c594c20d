"""A source that stops at the time of a question and refuses to be read while one is answered.

The run of a benchmark reads a video through this wrapper alone. It never decodes a frame later than its limit: the
frame beyond it is advanced to, by its time stamp, and waits. While a question is open every read raises, which ends the
run: a score of a memory must not come from the video.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.stream.frames import Frame, FrameSource


class RawVideoRead(UsageError):
    """The video was read while a question was open."""


class GuardedSource(FrameSource):
    """Another source, read in stretches up to a time; shut while a question is open."""

    def __init__(self, inner: FrameSource, fps: float | None = None) -> None:
        """Wrap ``inner``, which gives all its frames; ``fps`` samples here.

        Raises:
            UsageError: the inner source samples already.
        """
        super().__init__(inner.source_id, fps)
        if inner.fps is not None:
            raise UsageError(f"expected a source without sampling inside, got {inner.fps} fps; sample in the guard")
        self.inner = inner
        # whoever holds the inner source is refused as well
        self._advance, self._decode = inner._grab, inner._retrieve
        inner._grab, inner._retrieve = self._inner_grab, self._inner_retrieve  # type: ignore[method-assign]
        self.refused = 0
        """Reads that were refused."""
        self.latest_s = -np.inf
        """Time of the latest frame that was decoded."""
        self._limit_s = np.inf
        self._waiting: float | None = None
        self._shut = False

    def until(self, t_s: float) -> Iterator[Frame]:
        """Yield the frames up to and including ``t_s`` that were not given before."""
        self._limit_s = t_s
        return iter(self)

    @contextmanager
    def question(self) -> Iterator[None]:
        """Refuse every read inside the block; one that was refused (even if its error was caught) ends the run.

        Raises:
            RawVideoRead: a read was tried.
        """
        before, self._shut = self.refused, True
        try:
            yield
        finally:
            self._shut = False
        if self.refused > before:
            raise RawVideoRead(f"{self.source_id}: the video was read while a question was open")

    def _grab(self) -> float | None:
        self._check()
        if self._waiting is None:
            self._waiting = self._advance()
            if self._waiting is not None:
                # what iteration over the inner source itself would do
                self.inner.last_s = max(self.inner.last_s, self._waiting)
                self.inner._index += 1
                self.inner.read += 1
        if self._waiting is None or self._waiting > self._limit_s:
            return None
        t_s, self._waiting = self._waiting, None
        return t_s

    def _retrieve(self) -> np.ndarray | None:
        self._check()
        self.latest_s = max(self.latest_s, self.last_s)
        return self._decode()

    def note(self, kind: Literal["broken", "end", "truncated", "lost", "reconnected"], message: str) -> None:
        """Keep an event; a stop at the limit is no end."""
        if kind != "end" or self._waiting is None:
            super().note(kind, message)

    def close(self) -> None:
        """Close both."""
        super().close()
        self.inner.close()

    def _inner_grab(self) -> float | None:
        self._check()
        return self._advance()

    def _inner_retrieve(self) -> np.ndarray | None:
        self._check()
        return self._decode()

    def _check(self) -> None:
        if self._shut:
            self.refused += 1
            raise RawVideoRead(f"{self.source_id}: the video was read while a question was open")
