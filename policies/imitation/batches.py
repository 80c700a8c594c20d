"""Memory-aware batches: which frames of which episodes are read together, and where a memory begins anew.

- ``episode``: a row is one whole episode, padded on the right to the longest; the memory starts empty in every row.
- ``group``: a row is ``window`` consecutive frames of one episode from anywhere in it; the memory starts empty.
- ``stream``: every row runs through all episodes in an order of its own, ``window`` frames per update; the memory is
  carried, detached, from update to update and begins anew where an episode begins. Nothing is padded.

The batch of an update depends on the seed and the update's number alone, so a resumed run reads the same ones. Every
frame carries its episode and its time, and `check_order` refuses frames that do not follow each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from embodied_mem.demonstrations import Episode
from embodied_mem.errors import UsageError
from embodied_mem.spaces import encode_text


@dataclass(frozen=True)
class BatchConfig:
    """Rows and frames of an update."""

    mode: Literal["episode", "group", "stream"] = "episode"
    """See the module docstring."""
    rows: int = 16
    """Rows B."""
    window: int = 16
    """Frames of a row (``group``, ``stream``)."""

    def __post_init__(self) -> None:
        """Check the sizes."""
        if self.rows < 1 or self.window < 1:
            raise UsageError(f"expected batch.rows and window >= 1, got {self.rows} and {self.window}")


class Batch(NamedTuple):
    """Frames of an update, (B, T, ...), and the actions from each frame on."""

    obs: dict[str, Tensor]
    """Entries (B, T, ...) in the dtypes of the environment."""
    chunks: Tensor
    """(B, T, K, A) float32, the environment's actions."""
    weight: Tensor
    """(B, T, K) float32, 0 beyond the end of the episode."""
    previous: Tensor
    """(B, T, A) float32, the action before; that of the first frame where there is none (``time`` 0)."""
    rewards: Tensor
    """(B, T) float32, for the action of the frame."""
    returns: Tensor
    """(B, T) float32, sum of the rewards from the frame to the end of its episode."""
    resets: Tensor
    """(B, T) bool, True where an episode (or a group) begins."""
    valid: Tensor
    """(B, T) bool, False on right padding."""
    episode: Tensor
    """(B, T) int64, which episode."""
    time: Tensor
    """(B, T) int64, which frame of it."""


class Batches:
    """All frames of some episodes as tensors, and the batches made of them."""

    def __init__(self, episodes: Sequence[Episode], config: BatchConfig, chunk: int, seed: int, text: int = 0) -> None:
        """Put the frames one after another.

        Args:
            episodes: with the same kinds of entries.
            config: what a batch is.
            chunk: actions K from a frame on.
            seed: of the order.
            text: bytes L of the entry ``instruction``; 0 for an environment that has none.

        Raises:
            UsageError: there is no episode.
        """
        if not episodes:
            raise UsageError("expected episodes with at least one frame, got none")
        self.config, self.chunk, self.seed = config, chunk, seed
        self.lengths = np.array([len(item) for item in episodes])
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.entries = {"vector": torch.from_numpy(np.concatenate([item.state for item in episodes]))}
        for key in episodes[0].images:
            self.entries[key] = torch.from_numpy(np.concatenate([item.images[key] for item in episodes]))
        self.actions = torch.from_numpy(np.concatenate([item.actions for item in episodes]))
        self.rewards = torch.from_numpy(np.concatenate([rewards_of(item) for item in episodes]))
        self.returns = torch.from_numpy(np.concatenate([returns_to_go(item) for item in episodes]))
        self.texts = (
            torch.from_numpy(np.stack([encode_text(item.instruction, text) for item in episodes])) if text else None
        )
        self._epoch = lru_cache(maxsize=2)(self._order)

    def batch(self, update: int) -> Batch:
        """Return the batch of an update, counted from 0."""
        return self.part(update, 0, 1)[0]

    def part(self, update: int, rank: int, count: int) -> tuple[Batch, tuple[int, int]]:
        """Return the rows of the ``rank``-th of ``count`` equal parts of a batch, and where they stand in it.

        Args:
            update: counted from 0.
            rank: which part.
            count: parts; the rows must divide by it.

        Returns:
            The part, and (frames that count before it, frames that count in all parts).
        """
        layout = self._layout(update)
        valid = layout[3]
        size = len(valid) // count
        rows = slice(rank * size, (rank + 1) * size)
        return self._gather(*(item[rows] for item in layout)), (int(valid[: rows.start].sum()), int(valid.sum()))

    def _layout(self, update: int) -> tuple[np.ndarray, ...]:
        """Return episode, time, resets and valid (B, T) of the batch of an update."""
        mode = self.config.mode
        if mode == "stream":
            return self._stream(update)
        generator = np.random.default_rng((self.seed, 1, update))
        count = len(self.lengths)
        # without replacement as far as the episodes go
        order = np.concatenate([generator.permutation(count) for _ in range(-(-self.config.rows // count))])
        chosen = order[: self.config.rows]
        if mode == "episode":
            first, steps = np.zeros(len(chosen), np.int64), int(self.lengths[chosen].max())
        else:
            steps = min(self.config.window, int(self.lengths[chosen].max()))
            first = generator.integers(0, np.maximum(self.lengths[chosen] - steps, 0) + 1)
        time = first[:, None] + np.arange(steps)
        valid = time < self.lengths[chosen][:, None]
        resets = np.zeros(time.shape, bool)
        resets[:, 0] = True
        return np.repeat(chosen[:, None], steps, 1), time, resets, valid

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return episode and time (B, F) of all F frames in the order in which each row reads them in an epoch."""
        found = []
        for row in range(self.config.rows):
            order = np.random.default_rng((self.seed, 2, row, epoch)).permutation(len(self.lengths))
            episode = np.repeat(order, self.lengths[order])
            ends = np.cumsum(self.lengths[order])
            time = np.arange(len(episode)) - np.repeat(ends - self.lengths[order], self.lengths[order])
            found.append((episode, time))
        return np.stack([episode for episode, _ in found]), np.stack([time for _, time in found])

    def _stream(self, update: int) -> tuple[np.ndarray, ...]:
        frames = int(self.lengths.sum())
        left, place, parts = self.config.window, update * self.config.window, []
        while left:
            epoch, start = divmod(place, frames)
            taken = min(left, frames - start)
            parts.append([part[:, start : start + taken] for part in self._epoch(epoch)])
            left, place = left - taken, place + taken
        episode, time = (np.concatenate([part[k] for part in parts], 1) for k in range(2))
        return episode, time, time == 0, np.ones(time.shape, bool)

    def _gather(self, episode: np.ndarray, time: np.ndarray, resets: np.ndarray, valid: np.ndarray) -> Batch:
        last = self.lengths[episode] - 1
        ahead = time[..., None] + np.arange(self.chunk)
        before = torch.from_numpy(self.starts[episode] + np.clip(time - 1, 0, last))
        frame = torch.from_numpy(self.starts[episode] + np.minimum(time, last))
        follows = torch.from_numpy(self.starts[episode][..., None] + np.minimum(ahead, last[..., None]))
        obs = {key: value[frame] for key, value in self.entries.items()}
        if self.texts is not None:
            obs["instruction"] = self.texts[torch.from_numpy(episode)]
        weight = (ahead <= last[..., None]) & valid[..., None]
        return Batch(
            obs,
            self.actions[follows],
            torch.from_numpy(weight.astype(np.float32)),
            self.actions[before],
            self.rewards[frame],
            self.returns[frame],
            torch.from_numpy(resets),
            torch.from_numpy(valid),
            torch.from_numpy(episode.astype(np.int64)),
            torch.from_numpy(time.astype(np.int64)),
        )


def rewards_of(episode: Episode) -> np.ndarray:
    """Return rewards (T,) float32: the recorded ones; where there are none, 1 at the end of a success."""
    if len(episode.rewards):
        return episode.rewards.astype(np.float32)
    rewards = np.zeros(len(episode), np.float32)
    rewards[-1] = episode.success
    return rewards


def returns_to_go(episode: Episode) -> np.ndarray:
    """Return (T,) float32, the sum of the rewards from each frame on."""
    return rewards_of(episode)[::-1].cumsum(dtype=np.float32)[::-1].copy()


def check_order(batch: Batch, before: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """Check that every frame follows the one before it or begins anew; return the last frame of every row.

    Args:
        batch: the batch.
        before: episode and time (B,) of the frames that the carried memory has read last, in stream mode.

    Raises:
        UsageError: frames are out of order, so a memory would mix episodes.
    """
    episode, time = batch.episode, batch.time
    if before is not None:
        episode = torch.cat([before[0].unsqueeze(1), episode], 1)
        time = torch.cat([before[1].unsqueeze(1), time], 1)
    skip = episode.shape[1] - batch.resets.shape[1]
    follows = (episode[:, 1:] == episode[:, :-1]) & (time[:, 1:] == time[:, :-1] + 1)
    fine = follows | (batch.resets if skip else batch.resets[:, 1:])
    fine |= ~(batch.valid if skip else batch.valid[:, 1:])
    if not bool(fine.all()):
        row, column = (int(value) for value in (~fine).nonzero()[0])
        raise UsageError(
            f"frames out of order in row {row}: expected the frame after episode {int(episode[row, column])}, "
            f"time {int(time[row, column])}, or a reset; got episode {int(episode[row, column + 1])}, "
            f"time {int(time[row, column + 1])}"
        )
    return batch.episode[:, -1], batch.time[:, -1]
