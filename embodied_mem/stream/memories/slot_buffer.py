"""The last frames of a stream as histories of slots: slot o of a frame is slot o of the frame before.

A read finds the slot whose latest token is most similar to the query and gives that slot's own history, which is what
the time attention of STATM (Li et al. 2024) looks at; without a query it gives whole frames. The learned block that
predicts the next slots from this buffer is `embodied_mem.stream.time_space.TimeSpaceBlock`.

It fits tokens that keep their place (slots, tracks, grid cells of a still camera), not patches of a moving one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from embodied_mem.registry import register
from embodied_mem.stream.entry import Entry, entry_bytes
from embodied_mem.stream.evidence import Snapshot, spread
from embodied_mem.stream.memory import StreamMemory, check_at_least

_EPS = 1e-8


@dataclass(frozen=True)
class SlotBufferConfig:
    """Length of the buffer."""

    max_len: int = 16
    """Frames that are held."""

    def __post_init__(self) -> None:
        check_at_least(self, max_len=1)


@register("stream_memory", "slot_buffer", family="slots", source="STATM: Li et al. 2024", small={"max_len": 5})
class SlotBuffer(StreamMemory):
    """The last frames, read slot by slot."""

    Config = SlotBufferConfig

    def start(self) -> None:
        """Begin with an empty buffer."""
        self.stores = {"frames": []}

    def capacity(self, tokens: int, width: int, extra: int) -> int:
        """Bytes of the frames."""
        return self.config.max_len * entry_bytes(tokens, width, extra)

    def absorb(self, entry: Entry) -> None:
        """Add the frame, let the oldest go."""
        frames = self.stores["frames"]
        frames.append(entry)
        if len(frames) > self.config.max_len:
            del frames[0]

    def rank(self, snapshot: Snapshot, query: np.ndarray | None, budget: int | None) -> list[Entry]:
        """Return the history of the slot that fits, the latest first; without a query whole frames."""
        frames = snapshot.stores["frames"]
        if query is None or not frames:
            return spread(frames, budget)
        now = frames[-1].tokens
        fit = now @ query / (np.linalg.norm(now, axis=1) * np.linalg.norm(query) + _EPS)
        slot = int(fit.argmax())
        return [replace(frame, tokens=frame.tokens[slot : slot + 1]) for frame in reversed(frames)]


def history(snapshot: Snapshot) -> Tensor:
    """Return the buffer (1, L, O, D) float32, from old to new: the input of `TimeSpaceBlock`."""
    return torch.from_numpy(np.stack([frame.tokens for frame in snapshot.stores["frames"]])).unsqueeze(0)
