"""ObjectNav and PointNav on AI2-THOR.

ObjectNav: go to an object of a named type and say Done with it visible, which within ``visibility`` (1.0 m) is the rule
of RoboTHOR and ProcTHOR. PointNav: go to a point and say Done within 0.2 m of it. Distances are geodesic over the
reachable grid points that the player reports; the goal of ObjectNav is every such point from which the player says that
an object of the type can be seen (``GetInteractablePoses``). Reward: 1 for success, ``shaping`` per metre gained,
``step_cost`` off per step.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from gymnasium import spaces

from embodied_mem.envs import rng
from embodied_mem.envs.thor.floor import Floor
from embodied_mem.envs.thor.observe import camera_pose, floor_place
from embodied_mem.envs.thor.row import Outcome, Row
from embodied_mem.errors import UsageError
from embodied_mem.spaces import encode_text

if TYPE_CHECKING:
    from ai2thor.server import Event

TARGETS = (
    "AlarmClock", "Apple", "BaseballBat", "BasketBall", "Bed", "Bowl", "Chair", "GarbageCan", "HousePlant", "Laptop",
    "Mug", "Sofa", "SprayBottle", "Television", "Toilet", "Vase",
)  # fmt: skip
"""Target types of ProcTHOR's ObjectNav; the order is that of the one-hot ``goal``."""
TEXT_BYTES = 48
HORIZONS = (-30.0, 0.0, 30.0, 60.0)
SCENE, TARGET, START, YAW, POINT = range(5)
"""Streams of `envs.rng`."""
TRIES = 8
MOVES = ("MoveAhead", "RotateLeft", "RotateRight", "LookUp", "LookDown", "Done")


@dataclass(frozen=True)
class NavRules:
    """Rules of both tasks."""

    max_steps: int = 500
    """Steps before the episode is cut."""
    start_gap: float = 1.0
    """Least geodesic metres between start and goal (less where the scene is too small)."""
    success_distance: float = 0.2
    """PointNav: metres within which Done counts."""
    step_cost: float = 0.01
    """Taken off the reward at every step."""
    shaping: float = 0.2
    """Reward per metre gained towards the goal."""

    def __post_init__(self) -> None:
        if self.max_steps < 1 or self.start_gap < 0 or self.success_distance <= 0:
            raise UsageError(
                "expected max_steps >= 1, start_gap >= 0 and success_distance > 0, "
                f"got {self.max_steps}, {self.start_gap}, {self.success_distance}"
            )


class NavRow(Row, ABC):
    """What both tasks share: the scene, the floor, the distance to the goal."""

    actions: ClassVar[tuple[str, ...]] = MOVES
    final: ClassVar[dict[str, Any]] = {
        "success": False,
        "stopped": False,
        "start_distance": math.nan,
        "final_distance": math.nan,
        "min_distance": math.nan,
        "path_length": math.nan,
        "goal_class": -1,
    }

    poses: np.ndarray

    @abstractmethod
    def _goal(self, floor: Floor, keys: np.ndarray, event: Event) -> bool:
        """Choose the goal and set ``self.poses`` (G, 4): x, z, yaw, horizon (nan = any); False where there is none."""

    @abstractmethod
    def _reached(self) -> bool:
        """Return whether Done here and now is right."""

    def begin(self, key: int, item: int) -> Outcome:
        """Start the episode of a key."""
        outcome = super().begin(key, item)
        self.stopped = self.found = False
        return outcome

    def _begin(self, key: int, item: int) -> Event:
        keys = np.array([key], dtype=np.uint64)
        first = int(rng.integers(keys, SCENE, 0, len(self.scenes))[0])
        for offset in range(len(self.scenes)):
            event = self.player.reset(self.scenes[(first + offset) % len(self.scenes)])
            positions = self.player.step("GetReachablePositions").metadata["actionReturn"]
            self.floor = Floor(positions, self.config.grid)
            if self._goal(self.floor, keys, event):
                self.field = self.floor.field(self.poses[:, :2])
                placed = self._place(keys)
                if placed is not None:
                    return placed
        raise UsageError(f"none of the {len(self.scenes)} scenes has a goal that can be reached")

    def _place(self, keys: np.ndarray) -> Event | None:
        """Put the agent at a random start; None where nothing is far enough from the goal."""
        distances = self.floor.distances(self.field)
        walk = np.isfinite(distances) & (distances > 0.5 * self.config.grid)
        far = walk & (distances >= self.rules.start_gap)
        candidates = np.flatnonzero(far if far.any() else walk)
        headings = max(1, round(360.0 / self.config.turn))
        for attempt in range(min(TRIES, len(candidates))):
            index = candidates[int(rng.integers(keys, START, 0, len(candidates), attempt)[0])]
            yaw = float(rng.integers(keys, YAW, 0, headings, attempt)[0]) * self.config.turn
            x, z = self.floor.points[index]
            event = self.player.step(
                "Teleport",
                position={"x": float(x), "y": self.floor.height, "z": float(z)},
                rotation={"x": 0.0, "y": yaw, "z": 0.0},
                horizon=0.0,
                standing=True,
            )
            if event:
                self.start_distance = self.min_distance = self.distance = float(distances[index])
                return event
        return None

    def _judge(self, name: str) -> tuple[float, bool]:
        here = self.floor.distance(self.field, self.place)
        # Beside the grid there is no distance; the last one stands.
        here = here if math.isfinite(here) else self.distance
        reward = self.rules.shaping * (self.distance - here)
        self.distance = here
        self.min_distance = min(self.min_distance, here)
        if name != "Done":
            return reward, False
        self.stopped, self.found = True, self._reached()
        return reward + float(self.found), True

    def _facts(self) -> dict[str, Any]:
        return {
            "success": self.found,
            "stopped": self.stopped,
            "start_distance": self.start_distance,
            "final_distance": self.distance,
            "min_distance": self.min_distance,
            "path_length": self.path,
            "goal_class": self._goal_class(),
        }

    def _goal_class(self) -> int:
        return -1

    def privileged(self) -> dict[str, np.ndarray]:
        """Return what oracles plan with.

        ``pose_world`` (5,); ``horizon`` degrees; ``points`` (P, 2) reachable x, z; ``goal_poses`` (G, 4) x, z, yaw,
        horizon in degrees, nan = any; ``goal_distance`` metres; ``ready``: Done would be right now. ``points`` and
        ``goal_poses`` differ in length between rows and are padded with nan in a batch.
        """
        return {
            "pose_world": camera_pose(self.seen),
            "horizon": np.array(self.seen.metadata["agent"]["cameraHorizon"], dtype=np.float64),
            "points": self.floor.points,
            "goal_poses": self.poses,
            "goal_distance": np.array(self.distance),
            "ready": np.array(self._reached()),
            "turn": np.array(self.config.turn),
            "step": np.array(self.config.grid),
        }


class ObjectNavRow(NavRow):
    """Go to an object of a type."""

    own: ClassVar[tuple[str, ...]] = ("vector", "goal", "instruction")

    @classmethod
    def own_space(cls, name: str, rules: Any) -> spaces.Box:
        """Return the space of ``vector``, ``goal`` (one-hot) or ``instruction``."""
        if name == "goal":
            return spaces.Box(0.0, 1.0, (len(TARGETS),), np.float32)
        if name == "instruction":
            return spaces.Box(0, 255, (TEXT_BYTES,), np.uint8)
        return super().own_space(name, rules)

    def _goal(self, floor: Floor, keys: np.ndarray, event: Event) -> bool:
        offered: dict[str, list[dict[str, Any]]] = {}
        for entry in event.metadata["objects"]:
            offered.setdefault(entry["objectType"], []).append(entry)
        rotations = [self.config.turn * k for k in range(max(1, round(360.0 / self.config.turn)))]
        for target in rng.permutation(keys, TARGET, len(TARGETS))[0].tolist():
            poses: list[dict[str, float]] = []
            for entry in offered.get(TARGETS[target], []):
                answer = self.player.step(
                    "GetInteractablePoses",
                    objectId=entry["objectId"],
                    rotations=rotations,
                    horizons=list(HORIZONS),
                    standings=[True],
                )
                poses += answer.metadata["actionReturn"] or []
            if poses:
                table = {(p["x"], p["z"], p["rotation"], p["horizon"]) for p in poses}
                self.target = target
                self.poses = np.array(sorted(table), dtype=np.float64)
                return True
        return False

    def _reached(self) -> bool:
        kind = TARGETS[self.target]
        return any(entry["visible"] for entry in self.seen.metadata["objects"] if entry["objectType"] == kind)

    def _own(self, name: str) -> np.ndarray:
        if name == "goal":
            return np.eye(len(TARGETS), dtype=np.float32)[self.target]
        if name == "instruction":
            return encode_text(f"find the {spoken(TARGETS[self.target])}", TEXT_BYTES)
        return super()._own(name)

    def _goal_class(self) -> int:
        return self.target


class PointNavRow(NavRow):
    """Go to a point, given at every step as distance and bearing (``goal`` (2,): metres, radians, positive = right)."""

    @classmethod
    def own_space(cls, name: str, rules: Any) -> spaces.Box:
        """Return the space of ``vector`` or ``goal``."""
        if name == "goal":
            return spaces.Box(-np.inf, np.inf, (2,), np.float32)
        return super().own_space(name, rules)

    def _goal(self, floor: Floor, keys: np.ndarray, event: Event) -> bool:
        index = int(rng.integers(keys, POINT, 0, len(floor.points))[0])
        self.poses = np.array([[*floor.points[index], math.nan, math.nan]])
        return True

    def _offset(self) -> tuple[float, float]:
        dx, dz = self.poses[0, :2] - floor_place(self.seen)
        turned = math.atan2(dx, dz) - math.radians(self.seen.metadata["agent"]["rotation"]["y"])
        return math.hypot(dx, dz), (turned + math.pi) % (2 * math.pi) - math.pi

    def _reached(self) -> bool:
        return self._offset()[0] <= self.rules.success_distance

    def _own(self, name: str) -> np.ndarray:
        return np.array(self._offset(), dtype=np.float32) if name == "goal" else super()._own(name)


def spoken(kind: str) -> str:
    """Return an object type in words.

    >>> spoken("AlarmClock")
    'alarm clock'
    """
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in kind).strip()
