"""Controls: memories without a rule of compression, which every other memory has to beat at the same bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embodied_mem.registry import register
from embodied_mem.stream.entry import Entry, entry_bytes
from embodied_mem.stream.memory import StreamMemory, check_at_least


@dataclass(frozen=True)
class NothingConfig:
    """Config of a control without options."""


@dataclass(frozen=True)
class SlotsConfig:
    """Config of a control with so many frames."""

    slots: int = 64
    """Frames kept."""

    def __post_init__(self) -> None:
        check_at_least(self, slots=1)


@dataclass(frozen=True)
class ReservoirConfig(SlotsConfig):
    """Config of the control ``reservoir``."""

    seed: int = 0
    """Which frames are drawn."""

    def __post_init__(self) -> None:
        check_at_least(self, slots=1, seed=0)


class _Frames(StreamMemory):
    """Frames in one store."""

    def start(self) -> None:
        """Begin without frames."""
        self.stores = {"frames": []}

    def capacity(self, tokens: int, width: int, extra: int) -> int | None:
        """Bytes of the slots."""
        return self.config.slots * entry_bytes(tokens, width, extra)


@register("stream_memory", "none", family="control", source="control")
class NoStreamMemory(_Frames):
    """Keeps nothing: what an answerer knows without the stream."""

    Config = NothingConfig

    def absorb(self, entry: Entry) -> None:
        """Forget the frame."""

    def capacity(self, tokens: int, width: int, extra: int) -> int:
        """Nothing."""
        return 0


@register("stream_memory", "full_history", family="control", source="control")
class FullHistory(_Frames):
    """Keeps every frame; its bytes grow without bound."""

    Config = NothingConfig
    bounded = False

    def absorb(self, entry: Entry) -> None:
        """Keep the frame."""
        self.stores["frames"].append(entry)

    def capacity(self, tokens: int, width: int, extra: int) -> None:
        """None: it has no bound."""


@register("stream_memory", "last_k", family="control", source="control")
class LastK(_Frames):
    """Keeps the latest frames."""

    Config = SlotsConfig

    def absorb(self, entry: Entry) -> None:
        """Keep the frame, let the oldest go."""
        frames = self.stores["frames"]
        frames.append(entry)
        del frames[: max(0, len(frames) - self.config.slots)]


@register("stream_memory", "uniform", family="control", source="control")
class Uniform(_Frames):
    """Keeps every n-th frame; n doubles whenever the slots are full, so between half of them and all are in use."""

    Config = SlotsConfig

    def start(self) -> None:
        """Keep every frame at first."""
        super().start()
        self.arrays = {"stride": np.ones(1, np.int64)}

    def capacity(self, tokens: int, width: int, extra: int) -> int:
        """Bytes of the slots, and of the stride."""
        return self.config.slots * entry_bytes(tokens, width, extra) + 8

    def absorb(self, entry: Entry) -> None:
        """Keep the frame if it is on the grid; a full grid becomes coarser."""
        frames, stride = self.stores["frames"], self.arrays["stride"]
        if entry.number % stride[0]:
            return
        while len(frames) >= self.config.slots and entry.number % stride[0] == 0:
            stride *= 2
            frames[:] = [kept for kept in frames if kept.number % stride[0] == 0]
        if entry.number % stride[0] == 0:
            frames.append(entry)


@register("stream_memory", "reservoir", family="control", source="Vitter 1985, algorithm R")
class Reservoir(_Frames):
    """Keeps a uniform random sample of all frames; the draws depend on the seed and the frame's number alone."""

    Config = ReservoirConfig

    def absorb(self, entry: Entry) -> None:
        """Take the place of a frame with probability slots / frames seen."""
        frames = self.stores["frames"]
        if len(frames) < self.config.slots:
            frames.append(entry)
            return
        draw = np.random.Generator(np.random.Philox(key=self.config.seed, counter=entry.number))
        place = int(draw.integers(0, entry.number + 1))
        if place < self.config.slots:
            # the order of time is kept: the victim leaves, the newcomer stands last
            del frames[place]
            frames.append(entry)
