"""One row of a batch: a player and the game played on it. It runs in this process or inside a Ray actor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from gymnasium import spaces

from embodied_mem.envs.thor.observe import Lens, camera_pose, floor_place
from embodied_mem.envs.thor.player import Player, PlayerConfig

if TYPE_CHECKING:
    from ai2thor.server import Event

HORIZON_SCALE = 60.0
"""Degrees by which the camera's tilt is divided in ``vector``."""


@dataclass(frozen=True)
class Outcome:
    """What one row answers to `begin` or `act`; arrays without a batch axis."""

    observation: dict[str, np.ndarray]
    """One array per sensor."""
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    """What metrics need, present where the episode ends here."""


class Row(ABC):
    """Base of the games. A subclass writes `_begin`, `_judge`, `_facts`, and its own sensors.

    Args:
        config: the player.
        rules: frozen dataclass of the game, with at least ``max_steps`` and ``step_cost``.
        sensors: names of the observations.
        scenes: what episodes are drawn from.
    """

    actions: ClassVar[tuple[str, ...]]
    """Names of the action space, in AI2-THOR's terms."""
    own: ClassVar[tuple[str, ...]] = ("vector", "goal")
    vector_names: ClassVar[tuple[str, ...]] = ("effect", "look", "time")
    final: ClassVar[dict[str, Any]]
    """Names of the facts with the values that an invalid episode reports."""

    def __init__(self, config: PlayerConfig, rules: Any, sensors: tuple[str, ...], scenes: list[Any]) -> None:
        self.config, self.rules, self.sensors, self.scenes = config, rules, sensors, scenes
        wanted = {"renderDepthImage": "depth" in sensors, "renderInstanceSegmentation": "semantic" in sensors}
        self.player = Player(config, **wanted)
        self.lens = Lens(config, tuple(name for name in sensors if name not in self.own))
        self.event: Event | None = None
        self.steps = 0
        self.path = 0.0
        self.place = np.zeros(2)
        self._void = False

    # What a game writes

    @classmethod
    def own_space(cls, name: str, rules: Any) -> spaces.Box:
        """Return the space of one of the game's own sensors."""
        return spaces.Box(-1.0, 1.0, (len(cls.vector_names),), np.float32)

    @abstractmethod
    def _begin(self, key: int, item: int) -> Event:
        """Set up the episode of a uint64 ``key`` (``item``: its number) and return the event it begins with."""

    def _play(self, name: str) -> Event:
        """Carry out one action."""
        return self.player.step(name)

    @abstractmethod
    def _judge(self, name: str) -> tuple[float, bool]:
        """Return the reward of the action just played, without the cost of a step, and whether it ends the episode."""

    @abstractmethod
    def _facts(self) -> dict[str, Any]:
        """Return what metrics need at the end."""

    def _own(self, name: str) -> np.ndarray:
        """Return one of the game's own sensors."""
        event = self.seen
        look = np.clip(event.metadata["agent"]["cameraHorizon"] / HORIZON_SCALE, -1.0, 1.0)
        effect = float(event.metadata["lastActionSuccess"] and not self._void) if self.steps else 1.0
        return np.array([effect, look, min(1.0, self.steps / self.rules.max_steps)], dtype=np.float32)

    @abstractmethod
    def privileged(self) -> dict[str, np.ndarray]:
        """Return the hidden state that oracles read."""

    # What is shared

    @property
    def seen(self) -> Event:
        """The latest event."""
        assert self.event is not None
        return self.event

    def begin(self, key: int, item: int) -> Outcome:
        """Start the episode of a key."""
        self.event = self._begin(key, item)
        self.steps, self.path = 0, 0.0
        self.place = floor_place(self.event)
        self.lens.begin(self.event)
        return Outcome(self._observe())

    def act(self, code: int) -> Outcome:
        """Play one action of the action space."""
        name = self.actions[code]
        self._void = False
        self.event = self._play(name)
        self.steps += 1
        place = floor_place(self.event)
        self.path += float(np.hypot(*(place - self.place)))
        self.place = place
        reward, terminated = self._judge(name)
        truncated = not terminated and self.steps >= self.rules.max_steps
        facts = {**self._facts(), "invalid": False, "env_failure": 0} if terminated or truncated else {}
        return Outcome(self._observe(), reward - self.rules.step_cost, terminated, truncated, facts)

    def _nothing(self) -> Event:
        """Let time pass for an action that has nothing to act on; it counts as failed."""
        self._void = True
        return self.player.step("Pass")

    def top_down(self) -> np.ndarray:
        """Return the (H, W, 3) uint8 picture of a camera above the scene; it is added at its first use."""
        event = self.seen
        if not event.third_party_camera_frames:
            view = self.player.step("GetMapViewCameraProperties").metadata["actionReturn"]
            self.event = event = self.player.step("AddThirdPartyCamera", **view)
        return np.ascontiguousarray(event.third_party_camera_frames[0][..., :3]).copy()

    def picture(self) -> np.ndarray:
        """Return the (H, W, 3) uint8 first-person picture."""
        return np.ascontiguousarray(self.seen.frame).copy()

    def pose_world(self) -> np.ndarray:
        """Return (5,) float64, see `observe.camera_pose`."""
        return camera_pose(self.seen)

    def pid(self) -> int | None:
        """Return the process id of the player."""
        return self.player.pid

    def starts(self) -> int:
        """Return how many player processes were started."""
        return self.player.starts

    def close(self) -> None:
        """End the player."""
        self.player.close()

    def _observe(self) -> dict[str, np.ndarray]:
        out = self.lens.read(self.seen)
        out.update({name: self._own(name) for name in self.sensors if name in self.own})
        return out
