"""`EpisodeStreams`: contiguous episodes in B rows, cut into pieces of T steps, for trainers that carry a memory.

Row b plays one episode after another; an episode begins where ``reset`` is True and goes on over as many batches as it
needs, so a trainer that carries its (detached) memory from batch to batch sees every episode from its first step. The
rows share one shuffled order of episodes; ``episode`` and ``step`` go with every sample, so that order can be asserted.

This is MemoryVLA's "parallel_stream" with resets inside the rows instead of a bank that is cleared from outside.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from embodied_mem.demonstrations.episode import Episode, Reader
from embodied_mem.errors import UsageError


@dataclass(frozen=True, repr=False)
class StreamBatch:
    """B rows of T steps."""

    state: np.ndarray
    """(B, T, S) float32."""
    images: dict[str, np.ndarray]
    """Camera name -> (B, T, H, W, 3) uint8."""
    actions: np.ndarray
    """(B, T, C, A): the chunk of C actions from each step on; after the episode's end the last one is repeated."""
    inside: np.ndarray
    """(B, T, C) bool: False where a chunk reaches beyond the episode's end."""
    reset: np.ndarray
    """(B, T) bool: True where an episode begins; the memory is cleared before that step is read."""
    valid: np.ndarray
    """(B, T) bool: False where a row has no more episodes; its arrays are zeros there."""
    episode: np.ndarray
    """(B, T) int64: index of the episode in the reader, -1 where not valid."""
    step: np.ndarray
    """(B, T) int64: step within the episode."""
    instructions: tuple[tuple[str, ...], ...]
    """Row, then step: what the agent was told."""

    def __repr__(self) -> str:
        """Return shapes, no values."""
        pictures = ", ".join(f"{name} {frames.shape}" for name, frames in self.images.items())
        return f"StreamBatch(state {self.state.shape}, actions {self.actions.shape}, images: {pictures or '-'})"


class EpisodeStreams:
    """Iterates once over all episodes of a reader; every iteration has an order of its own.

    Limits: at the end of an epoch rows run dry at different times (``valid`` says so); the longest episode decides by
    how much. At most B episodes are in memory.
    """

    def __init__(self, reader: Reader, rows: int, length: int, *, chunk: int = 1, seed: int = 0) -> None:
        """Set up streams.

        Args:
            reader: the data set; all its episodes have the same cameras and sizes.
            rows: B >= 1.
            length: T >= 1 steps per batch.
            chunk: C >= 1 actions per step.
            seed: of the orders in which episodes are played.

        Raises:
            UsageError: a number is out of range or the data set is empty.
        """
        for name, value in (("rows", rows), ("length", length), ("chunk", chunk)):
            if value < 1:
                raise UsageError(f"expected {name} >= 1, got {value}")
        if len(reader) == 0:
            raise UsageError("expected a data set with at least one episode, got an empty one")
        self.reader, self.rows, self.length, self.chunk = reader, rows, length, chunk
        self._generator = np.random.default_rng(seed)

    def __iter__(self) -> Iterator[StreamBatch]:
        """Yield the batches of one epoch."""
        waiting = list(self._generator.permutation(len(self.reader)))
        playing: list[tuple[int, Episode] | None] = [None] * self.rows
        at = np.zeros(self.rows, np.int64)
        first: Episode | None = None
        while waiting or any(playing):
            batch: _Batch | None = None
            for row in range(self.rows):
                filled = 0
                while filled < self.length:
                    current = playing[row]
                    if current is None:
                        if not waiting:
                            break
                        index = int(waiting.pop())
                        current = playing[row] = (index, self.reader[index])
                        at[row] = 0
                        first = first or current[1]
                        _check_alike(first, current[1])
                    batch = batch or _Batch(self.rows, self.length, self.chunk, current[1])
                    count = min(self.length - filled, len(current[1]) - int(at[row]))
                    batch.put(row, filled, *current, int(at[row]), count)
                    filled += count
                    at[row] += count
                    if at[row] == len(current[1]):
                        playing[row] = None
            if batch is not None:
                yield batch.done()


class _Batch:
    """Arrays that are being filled, whole runs of steps at a time."""

    def __init__(self, rows: int, length: int, chunk: int, like: Episode) -> None:
        lead = (rows, length)
        self.chunk = chunk
        self.state = np.zeros((*lead, like.state.shape[1]), np.float32)
        self.images = {name: np.zeros((*lead, *frames.shape[1:]), np.uint8) for name, frames in like.images.items()}
        self.actions = np.zeros((*lead, chunk, like.actions.shape[1]), like.actions.dtype)
        self.inside = np.zeros((*lead, chunk), bool)
        self.reset, self.valid = np.zeros(lead, bool), np.zeros(lead, bool)
        self.episode, self.step = np.full(lead, -1, np.int64), np.zeros(lead, np.int64)
        self.text = [[""] * length for _ in range(rows)]

    def put(self, row: int, place: int, index: int, episode: Episode, start: int, count: int) -> None:
        """Copy ``count`` steps of an episode from ``start`` on to ``place`` of a row."""
        to, of = slice(place, place + count), slice(start, start + count)
        self.state[row, to] = episode.state[of]
        for name, frames in self.images.items():
            frames[row, to] = episode.images[name][of]
        ahead = np.arange(start, start + count)[:, None] + np.arange(self.chunk)
        self.actions[row, to] = episode.actions[np.minimum(ahead, len(episode) - 1)]
        self.inside[row, to] = ahead < len(episode)
        self.reset[row, place] |= start == 0
        self.valid[row, to], self.episode[row, to] = True, index
        self.step[row, to] = np.arange(start, start + count)
        self.text[row][to] = [episode.instruction] * count

    def done(self) -> StreamBatch:
        """Return the batch."""
        return StreamBatch(
            self.state,
            self.images,
            self.actions,
            self.inside,
            self.reset,
            self.valid,
            self.episode,
            self.step,
            tuple(map(tuple, self.text)),
        )


def _check_alike(first: Episode, other: Episode) -> None:
    """Refuse episodes that do not fit into one array.

    Raises:
        UsageError: cameras, sizes, or widths of state or actions differ.
    """
    shapes = [
        {"state": item.state.shape[1:], "actions": item.actions.shape[1:]}
        | {f"images.{name}": frames.shape[1:] for name, frames in item.images.items()}
        for item in (first, other)
    ]
    if shapes[0] != shapes[1]:
        raise UsageError(f"expected episodes of one shape, got {shapes[0]} and {shapes[1]}; read them apart")
