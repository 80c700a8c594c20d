"""Frames of a video file at any times, in one batch.

With torchcodec (a package that goes with the installed torch: ``pip install torchcodec``) the decoder jumps between key
frames; without it the file is read from front to back once by OpenCV, which for files with long groups of pictures
costs little more (`docs/stream/sources.md`). Both give the frame that is shown at each time, by the decoder's stamps.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.stream.sources.video import VideoSource

Batched = Literal["auto", "torchcodec", "opencv"]


def frames_at(
    path: str | Path, times_s: Sequence[float], *, decoder: Batched = "auto"
) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, H, W, 3) uint8 RGB and their own times (N,) float64 seconds, in the order asked for.

    A time before the first frame gives that one, a time after the last frame the last one.

    Args:
        path: video file.
        times_s: (N,) seconds on the time axis of the decoder, in any order.
        decoder: ``torchcodec``, ``opencv``, or ``auto`` for torchcodec where it is installed.

    Raises:
        UsageError: the file cannot be read, a time is not finite, or the decoder is not installed.
    """
    times = np.asarray(times_s, np.float64)
    if times.ndim != 1 or not len(times) or not np.isfinite(times).all():
        raise UsageError(f"expected at least one finite time, got {list(times_s)!r}")
    if decoder not in ("auto", "torchcodec", "opencv"):
        raise UsageError(f"expected the decoder auto, torchcodec or opencv, got {decoder!r}")
    made = None if decoder == "opencv" else _torchcodec()
    if made is None:
        if decoder == "torchcodec":
            raise UsageError("torchcodec is not installed; pip install torchcodec, or use the decoder opencv")
        return _read_through(Path(path), times)
    # opening it once with OpenCV tells a missing or damaged file in one line
    VideoSource(path).close()
    try:
        return _jumped(made(str(path)), times)
    except (RuntimeError, ValueError, IndexError) as error:
        raise UsageError(f"torchcodec cannot read {path}: {' '.join(str(error).split())[:300]}") from error


def _torchcodec() -> Any:
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError, RuntimeError):
        # installed without the libraries it needs counts as not installed
        return None
    return VideoDecoder


def _jumped(decoder: Any, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, last = float(decoder.metadata.begin_stream_seconds), float(decoder.metadata.end_stream_seconds)
    inside = np.clip(times, first, max(first, np.nextafter(last, -np.inf) - 1e-6))
    batch = decoder.get_frames_played_at(seconds=inside.tolist())
    return batch.data.permute(0, 2, 3, 1).contiguous().numpy(), np.asarray(batch.pts_seconds, np.float64)


def _read_through(path: Path, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(times, kind="stable")
    images: list[np.ndarray | None] = [None] * len(times)
    stamps = np.zeros(len(times))
    place, latest = 0, None
    with VideoSource(path) as source:
        for frame in source:
            while latest is not None and place < len(order) and times[order[place]] < frame.t_s:
                images[order[place]], stamps[order[place]] = latest.rgb, latest.t_s
                place += 1
            if place == len(order):
                break
            latest = frame
    for index in order[place:]:
        if latest is None:
            raise UsageError(f"expected a frame in {path}, none could be decoded")
        images[index], stamps[index] = latest.rgb, latest.t_s
    return np.stack([image for image in images if image is not None]), stamps
