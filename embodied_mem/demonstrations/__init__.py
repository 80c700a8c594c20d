"""Demonstrations: episodes recorded by an agent, on disk in two public formats, and read back for imitation.

- `episode`: `Episode`, one recorded episode as arrays, and `Reader`, what every format offers.
- `streams`: `EpisodeStreams`, contiguous episodes in rows for trainers of memory policies.
- `open_dataset` (here): a reader of whatever format a folder holds.
- `recorder`: plays an agent and writes. `journal`: what is on disk, checksummed, resumable.
- `lerobot_writer`, `lerobot_reader`, `minari_writer`, `minari_reader`: the formats. `video`: frames to mp4 and back.
"""

from __future__ import annotations

from embodied_mem.demonstrations.episode import Episode, Reader
from embodied_mem.demonstrations.opening import open_dataset
from embodied_mem.demonstrations.streams import EpisodeStreams, StreamBatch

__all__ = ["Episode", "EpisodeStreams", "Reader", "StreamBatch", "open_dataset"]
