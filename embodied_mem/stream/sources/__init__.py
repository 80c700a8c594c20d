"""Frame sources: video file, camera, network stream, image folder, arrays, simulator episode, uploaded pictures."""

from embodied_mem.stream.sources.arrays import ArraySource
from embodied_mem.stream.sources.choose import open_source
from embodied_mem.stream.sources.episode import EpisodeSource
from embodied_mem.stream.sources.folder import FolderSource
from embodied_mem.stream.sources.live import CameraSource, NetworkSource
from embodied_mem.stream.sources.push import PushSource
from embodied_mem.stream.sources.pyav import PyAVSource
from embodied_mem.stream.sources.tour import TourSource
from embodied_mem.stream.sources.video import VideoSource

__all__ = [
    "ArraySource",
    "CameraSource",
    "EpisodeSource",
    "FolderSource",
    "NetworkSource",
    "PushSource",
    "PyAVSource",
    "TourSource",
    "VideoSource",
    "open_source",
]
