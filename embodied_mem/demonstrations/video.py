"""Frames to H.264 mp4 and back, through PyAV (extra ``datasets``).

Colours keep their full resolution (yuv444p), since a cue may be a few pixels; every second frame is a key frame, for
random access. One thread, so that the same frames give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.errors import UsageError

CODEC, PIXELS, KEY_EVERY = "libx264", "yuv444p", 2


def load_av() -> Any:
    """Return PyAV.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import av
    except ModuleNotFoundError as error:
        raise UsageError("videos need the package av: pip install 'embodied-mem[datasets]'") from error
    return av


def write_video(path: Path, frames: Iterable[np.ndarray], *, fps: int, crf: int) -> int:
    """Write pictures (H, W, 3) uint8 and return how many there were; frame i is shown at i / fps seconds.

    Args:
        path: file to write, mp4 whatever its name ends with.
        frames: pictures of one size.
        fps: pictures per second.
        crf: x264's quality, 0 (nearly lossless) to 51.
    """
    av = load_av()
    count = 0
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = None
        for frame in frames:
            if stream is None:
                options = {"crf": str(crf), "g": str(KEY_EVERY), "bf": "0", "preset": "veryfast", "threads": "1"}
                stream = container.add_stream(CODEC, rate=fps, options=options)
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = PIXELS
                stream.codec_context.thread_count = 1
                stream.codec_context.time_base = Fraction(1, fps)
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.pts, picture.time_base = count, Fraction(1, fps)
            container.mux(stream.encode(picture))
            count += 1
        if stream is not None:
            container.mux(stream.encode(None))
    return count


def read_video(path: Path, start_s: float, count: int, fps: float) -> np.ndarray:
    """Return ``count`` pictures from second ``start_s`` on as (count, H, W, 3) uint8.

    Raises:
        UsageError: the file cannot be decoded, or holds fewer.
    """
    av = load_av()
    pictures: list[np.ndarray] = []
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            half = 0.5 / fps
            container.seek(int(start_s / stream.time_base), stream=stream, backward=True)
            for frame in container.decode(stream):
                if frame.time < start_s - half:
                    continue
                pictures.append(frame.to_ndarray(format="rgb24"))
                if len(pictures) == count:
                    break
    except (av.FFmpegError, IndexError, OSError) as error:
        raise UsageError(f"cannot decode {path}: {error}") from error
    if len(pictures) < count:
        raise UsageError(f"{path} holds {len(pictures)} pictures from second {start_s:.3f} on, expected {count}")
    return np.stack(pictures)
