"""`Episode`: one recorded episode as plain arrays, and `Reader`: a set of them, whatever the format on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from embodied_mem.errors import UsageError


@dataclass(frozen=True, repr=False)
class Episode:
    """What was seen before each of T actions, and the actions.

    ``state[t]``, ``images[name][t]`` and ``extras[name][t]`` are the observation that ``actions[t]`` answers; the
    observation after the last action is not kept.
    """

    instruction: str
    """What the agent was told; empty where nothing was."""
    state: np.ndarray
    """(T, S) float32: the observation ``vector``; S may be 0."""
    images: Mapping[str, np.ndarray]
    """Camera name -> (T, H, W, 3) uint8."""
    actions: np.ndarray
    """(T, A): float32 for continuous actions; int64 for discrete ones (A = 1 for a single choice)."""
    seed: int
    """Seed of the episode set."""
    success: bool
    """Whether the environment called it a success."""
    rewards: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    """(T,) float32; empty where not recorded."""
    number: int = 0
    """Number of the episode within its set: with the seed, what it can be played again by."""
    env: str = ""
    """Gymnasium id of the environment."""
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Other observations by name, (T, F) float32 each."""

    def __post_init__(self) -> None:
        """Check shapes and dtypes.

        Raises:
            UsageError: lengths differ, or an array has the wrong rank or dtype.
        """
        length = len(self.actions)
        if self.actions.ndim != 2 or length == 0:
            raise UsageError(f"expected actions of shape (T, A) with T >= 1, got {self.actions.shape}")
        if self.state.ndim != 2 or len(self.state) != length:
            raise UsageError(f"expected state of shape ({length}, S), got {self.state.shape}")
        for name, frames in self.images.items():
            if frames.ndim != 4 or frames.shape[::3] != (length, 3) or frames.dtype != np.uint8:
                got = f"{frames.dtype} {frames.shape}"
                raise UsageError(f"expected images[{name!r}] as uint8 ({length}, H, W, 3), got {got}")
        for name, values in self.extras.items():
            if values.ndim != 2 or len(values) != length:
                raise UsageError(f"expected extras[{name!r}] of shape ({length}, F), got {values.shape}")
        if len(self.rewards) not in (0, length):
            raise UsageError(f"expected {length} rewards or none, got {len(self.rewards)}")

    def __len__(self) -> int:
        """Return T."""
        return len(self.actions)

    def __repr__(self) -> str:
        """Return names and shapes, no values."""
        pictures = ", ".join(f"{name} {frames.shape}" for name, frames in self.images.items())
        return (
            f"Episode({self.instruction!r}, env {self.env!r}, seed {self.seed}, number {self.number}, "
            f"success {self.success}, state {self.state.shape}, actions {self.actions.shape}, "
            f"images: {pictures or '-'})"
        )


class Reader(Protocol):
    """A data set of episodes. Episodes are read one by one, since pictures of all of them may not fit into memory."""

    fps: float
    """Steps per second."""

    @property
    def lengths(self) -> np.ndarray:
        """(N,) int64: steps of every episode, without reading them."""

    def __len__(self) -> int:
        """Return N, the number of episodes."""

    def __getitem__(self, index: int) -> Episode:
        """Return one episode.

        Raises:
            UsageError: a file is damaged or missing (it is named), or there is no such episode.
        """

    def __iter__(self) -> Iterator[Episode]:
        """Iterate over all episodes in order."""

    def verify(self) -> list[str]:
        """Return one line per damaged or missing file, empty where all is well."""
