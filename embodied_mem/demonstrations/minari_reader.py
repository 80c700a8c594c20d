"""Reads Minari data sets, written here or elsewhere: ``<id>/data`` with its metadata.

A Dict observation is split by name: ``vector`` is the state, pictures are cameras, other vectors are extras; a bare Box
is the state (or the camera ``rgb``). Where an episode does not say whether it succeeded it counts as a success.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.demonstrations.episode import Episode
from embodied_mem.demonstrations.journal import damaged
from embodied_mem.demonstrations.minari_writer import load_minari
from embodied_mem.demonstrations.take import STATE, TEXT, kinds_of
from embodied_mem.errors import UsageError
from embodied_mem.spaces import as_dict_obs, decode_text


class MinariReader:
    """The episodes of one folder; they are read one by one."""

    def __init__(self, folder: str | Path) -> None:
        """Open the data set.

        Raises:
            UsageError: it cannot be read, its spaces have no form of ours, or minari is missing.
        """
        minari = load_minari()
        self.folder = Path(folder)
        try:
            self._dataset = minari.MinariDataset(self.folder / "data")
            self._storage = self._dataset.storage
            numbers = [int(number) for number in self._dataset.episode_indices]
            self._about = list(self._storage.get_episode_metadata(numbers))
        except (OSError, KeyError, ValueError, AssertionError) as error:
            raise UsageError(f"cannot read the Minari data set in {self.folder}: {error}") from error
        self._numbers = numbers
        self._space, self._actions = self._dataset.observation_space, self._dataset.action_space
        self._kinds = kinds_of(self._space, self._actions)
        spec = self._dataset.env_spec
        self._env = "" if spec is None else spec.id
        self.fps = 1.0

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self._numbers)

    @property
    def lengths(self) -> np.ndarray:
        """(N,) int64: steps of every episode."""
        return np.array([about["total_steps"] for about in self._about], np.int64)

    def __iter__(self) -> Iterator[Episode]:
        """Iterate over all episodes in order."""
        return (self[index] for index in range(len(self)))

    def verify(self) -> list[str]:
        """Return one line per damaged or missing file."""
        return damaged(self.folder)

    def __getitem__(self, index: int) -> Episode:
        """Return one episode; what cannot be read is a UsageError."""
        if not 0 <= index < len(self):
            raise IndexError(f"expected an episode index in [0, {len(self)}), got {index}")
        try:
            (found,) = self._storage.get_episodes([self._numbers[index]])
        except (OSError, KeyError, RuntimeError) as error:
            raise UsageError(f"cannot read episode {index} of {self.folder / 'data'}: {error}") from error
        about: dict[str, Any] = self._about[index]
        length = len(found["rewards"])
        seen = {name: values[:length] for name, values in as_dict_obs(self._space, found["observations"]).items()}
        told = decode_text(seen[TEXT][0]) if TEXT in seen else ""
        actions = np.asarray(found["actions"]).reshape(length, -1)
        return Episode(
            instruction=str(about.get("instruction", told)),
            state=seen[STATE].astype(np.float32) if STATE in seen else np.zeros((length, 0), np.float32),
            images={name: seen[name] for name in self._kinds.images},
            actions=actions.astype(np.int64 if actions.dtype.kind in "iu" else np.float32, copy=False),
            seed=int(about.get("seed") or 0),
            success=bool(about.get("success", True)),
            rewards=np.asarray(found["rewards"], np.float32),
            number=int(about.get("number", index)),
            env=self._env,
            extras={name: seen[name].astype(np.float32) for name in self._kinds.extras},
        )
