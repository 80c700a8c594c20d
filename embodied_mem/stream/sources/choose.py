"""The source that a word on the command line names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from embodied_mem.errors import UsageError
from embodied_mem.stream.frames import FrameSource
from embodied_mem.stream.sources.episode import EpisodeSource
from embodied_mem.stream.sources.folder import FolderSource
from embodied_mem.stream.sources.live import CameraSource, NetworkSource
from embodied_mem.stream.sources.pyav import PyAVSource
from embodied_mem.stream.sources.tour import tour_named
from embodied_mem.stream.sources.video import VideoSource

Decoder = Literal["opencv", "pyav"]


def open_source(name: str | Path, *, fps: float | None = None, decoder: Decoder = "opencv") -> FrameSource:
    """Open a source by name: a video file, a folder of images, ``camera:N``, a URL, or an environment id.

    Args:
        name: ``film.mp4``, ``frames/``, ``camera:0``, ``rtsp://host/path``, ``embodied_mem/House-Tour-v0``,
            ``house-tour:short:7``.
        fps: frames per second to give out at most; None for all of them.
        decoder: of video files: ``opencv``, or ``pyav`` (extra ``video``).

    Raises:
        UsageError: there is nothing of this name, or it cannot be read.
    """
    text = str(name)
    if decoder not in ("opencv", "pyav"):
        raise UsageError(f"expected the decoder opencv or pyav, got {decoder!r}")
    camera = re.fullmatch(r"camera:(\d+)", text)
    if camera:
        return CameraSource(int(camera[1]), fps=fps)
    if re.match(r"(rtsp|rtsps|rtmp|http|https|udp|srt)://", text):
        return NetworkSource(text, fps=fps)
    tour = tour_named(text, fps)
    if tour is not None:
        return tour
    path = Path(text.removeprefix("file://"))
    if path.is_dir():
        return FolderSource(path, fps=fps)
    if path.exists():
        return VideoSource(path, fps=fps) if decoder == "opencv" else PyAVSource(path, fps=fps)
    if re.search(r"-v\d+$", text):
        return EpisodeSource(text, fps=fps)
    raise UsageError(
        f"expected a video file, a folder of images, camera:N, a URL or an environment id, found nothing at {text!r}"
    )
