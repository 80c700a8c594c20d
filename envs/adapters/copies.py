"""`BatchedCopies`: N copies of a foreign simulator behind the batched contract of ours.

What an adapter writes is one copy: how it is made, reset and stepped. The rest (assigned episodes, autoreset, horizon,
success, texts, pictures) is the same for all. Copies step one after another, so B rows cost B times one row; processes
(``vectorization="async"``, Ray env runners) make it faster. They are made at the first reset that needs them.

Limits: a copy must be reproducible from a seed of 31 bits; instances cannot be pickled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from embodied_mem.envs.base import BatchedEnv
from embodied_mem.envs.probes.stream import whole
from embodied_mem.errors import UsageError, nearest
from embodied_mem.spaces import encode_text

TEXT = 256
"""Bytes of ``instruction``."""


@dataclass
class Outcome:
    """What a step of one copy gave."""

    seen: dict[str, np.ndarray]
    """Observations by name."""
    reward: float
    """Reward."""
    terminated: bool
    """The simulator ended the episode."""
    truncated: bool
    """The simulator cut it."""
    success: bool
    """It holds now that the task is done."""


class BatchedCopies(BatchedEnv, ABC):
    """N copies. An adapter sets ``known`` and writes `_make`, `_restart`, `_play`, `_vector_size` and `_picture`."""

    metadata = {"render_modes": [], "render_fps": 20}
    known: ClassVar[tuple[str, ...]] = ("vector", "instruction", "rgb")
    """Sensors that the adapter has."""
    ends_at_success: bool = True
    """True: success at any step is success, and ends the episode. False: what holds at the last step counts."""
    actions: int
    """Numbers of an action."""
    horizon: int
    """Steps after which an episode is cut."""

    def __init__(
        self,
        num_envs: int = 1,
        *,
        sensors: Sequence[str] = ("vector", "instruction"),
        width: int = 64,
        height: int = 64,
        max_steps: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Set up rows.

        Args:
            num_envs: number of rows.
            sensors: names out of ``known``.
            width: picture width in pixels, 1 to 512.
            height: picture height in pixels, 1 to 512.
            max_steps: steps after which an episode is cut; None: the protocol's.
            kwargs: see `BatchedEnv`.

        Raises:
            UsageError: a value is out of range, or the package is missing.
        """
        if isinstance(sensors, str) or not sensors or len(set(sensors)) != len(sensors):
            raise UsageError(f"expected sensors as distinct names out of {list(self.known)}, got {sensors!r}")
        for name in sensors:
            if name not in self.known:
                hint = nearest(str(name), self.known)
                raise UsageError(f"unknown sensor {name!r}{hint}; sensors: {', '.join(self.known)}")
        self.sensors = tuple(sensors)
        self.width, self.height = whole("width", width, 1, 512), whole("height", height, 1, 512)
        self.horizon = self.horizon if max_steps is None else whole("max_steps", max_steps, 1, 1_000_000)
        self._copies: dict[int, Any] = {}
        self.single_action_space = self._action_space()
        self.single_observation_space = spaces.Dict({name: self._space(name) for name in self.sensors})
        super().__init__(num_envs, **kwargs)
        n = self.num_envs
        self._seen = {
            name: np.zeros((n, *space.shape), space.dtype)  # type: ignore[misc]
            for name, space in self.single_observation_space.spaces.items()
        }
        self._t = np.zeros(n, np.int64)
        self._won = np.zeros(n, bool)
        self._told = [""] * n

    # What an adapter writes

    @abstractmethod
    def _make(self) -> Any:
        """Return one copy of the simulator."""

    @abstractmethod
    def _restart(self, copy: Any, seed: int, episode: int) -> tuple[dict[str, np.ndarray], str]:
        """Start an episode of a copy; return observations by name, and the instruction.

        ``seed`` (31 bits) is a hash of set and number; ``episode`` is the number, for suites with listed episodes.
        """

    @abstractmethod
    def _play(self, copy: Any, action: np.ndarray) -> Outcome:
        """Play one action of a copy."""

    def _vector_size(self) -> int:
        """Return how many numbers ``vector`` has; written by adapters that know it."""
        raise UsageError(f"expected {type(self).__name__} to write _vector_size, since 'vector' is among its sensors")

    def _action_space(self) -> spaces.Box:
        return spaces.Box(-1.0, 1.0, (self.actions,), np.float32)

    def _space(self, name: str) -> spaces.Box:
        if name == "instruction":
            return spaces.Box(0, 255, (TEXT,), np.uint8)
        if name.startswith("rgb"):
            return spaces.Box(0, 255, (self.height, self.width, 3), np.uint8)
        return spaces.Box(-np.inf, np.inf, (self._vector_size(),), np.float32)

    # The game

    def copy(self, row: int) -> Any:
        """Return the copy of a row; it is made when first asked for."""
        if row not in self._copies:
            self._copies[row] = self._make()
        return self._copies[row]

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        for row, key in zip(map(int, rows), keys):
            seed = int(key >> np.uint64(33))
            seen, self._told[row] = self._restart(self.copy(row), seed, int(self.episodes[row]))
            self._t[row], self._won[row] = 0, False
            self._keep(row, seen)

    def _advance(self, actions: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        n = self.num_envs
        reward, terminated, truncated = np.zeros(n, np.float32), np.zeros(n, bool), np.zeros(n, bool)
        for row in map(int, np.flatnonzero(active)):
            outcome = self._play(self.copy(row), actions[row])
            self._t[row] += 1
            self._won[row] = outcome.success or (self._won[row] and self.ends_at_success)
            reward[row] = outcome.reward
            terminated[row] = outcome.terminated or (outcome.success and self.ends_at_success)
            truncated[row] = not terminated[row] and (outcome.truncated or self._t[row] >= self.horizon)
            self._keep(row, outcome.seen)
        return reward, terminated, truncated

    def _keep(self, row: int, seen: dict[str, np.ndarray]) -> None:
        for name, kept in self._seen.items():
            kept[row] = encode_text(self._told[row], TEXT) if name == "instruction" else seen[name]

    def _observe(self) -> dict[str, np.ndarray]:
        return self._seen

    def _final_info(self) -> dict[str, np.ndarray]:
        return {"success": self._won.copy()}

    def describe(self, row: int) -> dict[str, Any]:
        """Return the instruction of a row."""
        return {"instruction": self._told[row]}

    def close_extras(self, **kwargs: Any) -> None:
        """Close every copy."""
        for made in vars(self).get("_copies", {}).values():
            made.close()
        self._copies = {}
