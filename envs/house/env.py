"""What all House tasks share: a pool of houses per split, sensors, motion, distances, and the hooks of Gymnasium.

A task subclasses `HouseEnv` and writes what is its own: the levels, the houses, where an episode starts, what counts
as success. Houses are made (or read) once, at the first episode that plays in them, and kept packed; a later episode
copies a few hundred numbers. The houses of the splits ``train`` and ``test`` are disjoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from embodied_mem.config import override
from embodied_mem.envs import rng
from embodied_mem.envs.base import BatchedEnv, Observation
from embodied_mem.envs.house.arrays import Action
from embodied_mem.envs.house.batch import HouseWorld, WorldConfig
from embodied_mem.envs.house.goals import GoalFields
from embodied_mem.envs.house.library import PlanLibrary
from embodied_mem.envs.house.plan import HousePlan
from embodied_mem.envs.house.sensors import SENSORS, SensorConfig, Sensors
from embodied_mem.envs.house.sources import SPLITS, HouseSource, MixedHouses
from embodied_mem.errors import UsageError, nearest
from embodied_mem.spaces import encode_text

NOTHING = int(Action.Done)
"""Action code without effect on the world."""
STREAM_HOUSE = 0
STREAM_TASK = 16
"""First random stream that tasks may use."""
OWN_SENSORS = ("vector", "goal", "instruction")
"""What the task itself provides; all other sensors are those of `sensors`."""


class HouseEnv(BatchedEnv, ABC):
    """N rows of one task. Constructor keywords are the same for all tasks; fields of the task's level may be added.

    Args:
        num_envs: N.
        level: difficulty, an index into the task's ``levels``.
        split: "train" or "test"; the houses are disjoint.
        sensors: observation names, any subset of `sensors.SENSORS` and vector, goal, instruction.
        houses: size of the pool; default that of the level.
        procthor: path of ProcTHOR houses (``.json``, ``.jsonl``, ``.jsonl.gz``) to play in instead of generated ones.
        procthor_houses: so many of them before the generated ones of the pool; None for ProcTHOR houses only.
        options: fields of the task's level, of `batch.WorldConfig` (width, height, hfov, turn, ...) and of
            `sensors.SensorConfig` (scan_width, pose_noise, ...), e.g. ``width=84, height=84, max_steps=100``.

    Raises:
        UsageError: an unknown level, split, sensor or option, or a value that does not fit.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}
    fresh: ClassVar[bool] = False
    open_options: ClassVar[bool] = True
    task: ClassVar[str]
    """Short name; part of the names of its houses."""
    actions: ClassVar[tuple[str, ...]]
    """Names of `arrays.Action` in the order of the action space."""
    levels: ClassVar[tuple[Any, ...]]
    """One frozen dataclass per difficulty, easiest first, with at least ``houses`` and ``max_steps``."""
    default_sensors: ClassVar[tuple[str, ...]] = ("scan", "vector")
    default_sensing: ClassVar[SensorConfig] = SensorConfig(scan_width=32)
    vector_names: ClassVar[tuple[str, ...]]
    """What the entries of ``vector`` mean."""
    goal_names: ClassVar[tuple[str, ...]] = ()
    """What the entries of the one-hot ``goal`` mean."""
    text_bytes: ClassVar[int] = 48
    """Length of ``instruction``."""
    goal_limit: ClassVar[float] = 1.0
    """Metres within which a goal counts as reached."""

    def __init__(
        self,
        num_envs: int = 1,
        *,
        level: int = 0,
        split: str = "train",
        sensors: Sequence[str] | None = None,
        houses: int | None = None,
        procthor: str | None = None,
        procthor_houses: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        copy: bool = True,
        **options: Any,
    ) -> None:
        if isinstance(level, bool) or not isinstance(level, int) or not 0 <= level < len(self.levels):
            raise UsageError(f"expected level in 0..{len(self.levels) - 1} for {type(self).__name__}, got {level!r}")
        if split not in SPLITS:
            raise UsageError(f"expected split to be one of {SPLITS}, got {split!r}")
        self.level, rules, sensing = _configure(
            type(self).__name__, options, self.levels[level], WorldConfig(), self.default_sensing
        )
        self.level_number = level
        self.split = split
        names = tuple(sensors) if sensors is not None else self.default_sensors
        known = (*SENSORS, *OWN_SENSORS)
        for name in names:
            if name not in known:
                raise UsageError(f"unknown sensor {name!r}{nearest(name, known)}; available: {', '.join(known)}")
        if not names or len(set(names)) != len(names):
            raise UsageError(f"expected at least one sensor and none twice, got {list(names)}")
        self.sensor_names = names
        pool = self.level.houses if houses is None else houses
        if isinstance(pool, bool) or not isinstance(pool, int) or pool < 1:
            raise UsageError(f"expected houses >= 1, got {pool!r}")
        self.source = self._houses(pool, procthor, procthor_houses)
        self.num_houses = len(self.source)
        self.library = PlanLibrary()
        self.world = HouseWorld(num_envs, self.library, rules)
        seen = tuple(name for name in names if name not in OWN_SENSORS)
        self.sensors = Sensors(self.world, replace(sensing, sensors=seen)) if seen else None
        self.single_observation_space = spaces.Dict({name: self._space(name) for name in names})
        self.single_action_space = spaces.Discrete(len(self.actions))
        self._codes = np.array([Action[name] for name in self.actions], dtype=np.int64)
        self._plan_ids = np.full(self.num_houses, -1, dtype=np.int64)
        self.house = np.zeros(num_envs, dtype=np.int64)
        self.goals = GoalFields(self.world, self.goal_limit)
        self.steps = np.zeros(num_envs, dtype=np.int64)
        self.path = np.zeros(num_envs)
        self._camera: Sensors | None = None
        self._texts: dict[str, np.ndarray] = {}
        self._instruction = np.zeros((num_envs, self.text_bytes), dtype=np.uint8)
        super().__init__(num_envs, autoreset_mode=autoreset_mode, render_mode=render_mode, copy=copy)

    # What a task writes

    @abstractmethod
    def _source(self, count: int) -> HouseSource:
        """Return the ``count`` houses of the split."""

    def _make_house(self, index: int, generator: np.random.Generator) -> HousePlan:
        """Return house ``index`` ready for the task; ``generator`` is seeded by task, level, split and index."""
        return self.source.plan(index)

    @abstractmethod
    def _begin_task(self, rows: np.ndarray, keys: np.ndarray) -> None:
        """Place the agents of ``rows`` (M,), whose houses are loaded, and set up the episode."""

    @abstractmethod
    def _judge(self, codes: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Play `Action` codes (N,) int64; return reward (N,) float32, terminated (N,) bool, truncated (N,) bool."""

    @abstractmethod
    def _vector(self) -> np.ndarray:
        """Return (N, F) float32."""

    def _goal(self) -> np.ndarray:
        """Return (N, G) float32, one-hot."""
        return np.zeros((self.num_envs, max(1, len(self.goal_names))), dtype=np.float32)

    # What is shared

    def _houses(self, pool: int, procthor: str | None, share: int | None) -> HouseSource:
        """Return the pool: houses of the level, houses of a ProcTHOR file, or ``share`` of these before the others."""
        if procthor is None:
            if share is not None:
                raise UsageError("procthor_houses needs procthor=PATH, a file of ProcTHOR houses")
            return self._source(pool)
        from embodied_mem.envs.house.procthor import ProcthorHouses

        houses = ProcthorHouses(procthor, self.split)
        if share is None:
            return houses
        if isinstance(share, bool) or not isinstance(share, int) or not 0 < share < pool or share > len(houses):
            most = min(pool - 1, len(houses))
            raise UsageError(f"expected procthor_houses in 1..{most} (pool of {pool}), got {share!r}")
        return MixedHouses(houses, self._source(pool - share), share)

    def plan_id(self, index: int) -> int:
        """Return the plan id of house ``index`` of the split, making it at first use."""
        if self._plan_ids[index] < 0:
            seed = [*self.task.encode(), SPLITS.index(self.split), self.level_number, index]
            self._plan_ids[index] = self.library.add(self._make_house(index, np.random.default_rng(seed)))
            self._house_made(index, int(self._plan_ids[index]))
        return int(self._plan_ids[index])

    def _house_made(self, index: int, plan_id: int) -> None:
        """Prepare what the task keeps per house."""

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        houses = rng.integers(keys, STREAM_HOUSE, 0, self.num_houses)
        for index in np.unique(houses[self._plan_ids[houses] < 0]):
            self.plan_id(int(index))
        self.house[rows] = houses
        self.world.load(rows, self._plan_ids[houses])
        self.steps[rows] = 0
        self.path[rows] = 0.0
        self._begin_task(rows, keys)
        if self.sensors is not None:
            self.sensors.begin(rows, keys)

    def _advance(self, actions: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self.steps += active
        return self._judge(self._codes[actions], active)

    def _act(self, codes: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Apply codes (N,) to the world, add what was walked to `path`, and return success (N,) uint8 (a view)."""
        before = self.world.arrays.position.copy()
        success = self.world.act(codes, active)
        moved = self.world.arrays.position - before
        self.path += np.hypot(moved[:, 0], moved[:, 1])
        return success

    def _observe(self) -> Observation:
        seen = self.sensors.observe() if self.sensors is not None else {}
        out: dict[str, np.ndarray] = {}
        for name in self.sensor_names:
            if name == "vector":
                out[name] = self._vector()
            elif name == "goal":
                out[name] = self._goal()
            elif name == "instruction":
                out[name] = self._instruction
            else:
                out[name] = seen[name]
        return out

    def _say(self, row: int, text: str) -> None:
        """Set the instruction of a row."""
        if text not in self._texts:
            self._texts[text] = encode_text(text, self.text_bytes)
        self._instruction[row] = self._texts[text]

    def _space(self, name: str) -> spaces.Box:
        if name == "vector":
            return spaces.Box(-1.0, 1.0, (len(self.vector_names),), np.float32)
        if name == "goal":
            return spaces.Box(0.0, 1.0, (max(1, len(self.goal_names)),), np.float32)
        if name == "instruction":
            return spaces.Box(0, 255, (self.text_bytes,), np.uint8)
        assert self.sensors is not None
        return self.sensors.space()[name]

    def _render(self, row: int) -> np.ndarray:
        """Return the (H, W, 3) uint8 first-person picture of a row."""
        if self._camera is None:
            self._camera = Sensors(self.world, SensorConfig(sensors=("rgb",)))
        return self._camera.observe()["rgb"][row].copy()

    def privileged(self) -> dict[str, np.ndarray]:
        """Return what oracles plan with; all arrays (N, ...).

        ``pose_world`` (5,) camera x, y, z, yaw, pitch; ``headings_free`` (H,) bool: MoveAhead would succeed after k
        RotateRight; ``turn`` degrees and ``step`` metres; ``action_of`` (10,): index in the action space of every
        `arrays.Action`, -1 = absent; the goal: ``goal_costs`` (cells,) float32 with ``grid_shape``, ``grid_frame``
        (x0, z0, cell) and ``goal_version``, ``goal_distance`` metres, ``target`` (3,) x, y, z to look at, ``ready``
        bool: the `arrays.Action` ``finish`` would reach the goal now; ``idle`` bool: actions have no use at present.
        """
        state, rules = self.world.arrays, self.world.rules
        n = self.num_envs
        yaw = np.radians(state.yaw)
        eye = np.full(n, rules.eye)
        # House keeps the image plane upright, so the pitch of the camera frame is 0.
        pose = np.stack([state.position[:, 0], eye, state.position[:, 1], yaw, np.zeros(n)], axis=1)
        action_of = np.full(len(Action), -1, dtype=np.int64)
        action_of[self._codes] = np.arange(len(self._codes))
        rows = np.arange(n)
        return {
            "pose_world": pose,
            "horizon": state.horizon.copy(),
            "headings_free": self._headings_free(),
            "turn": np.full(n, rules.turn),
            "step": np.full(n, rules.step),
            "action_of": np.broadcast_to(action_of, (n, len(Action))),
            "goal_costs": self.goals.costs,
            "grid_free": self.goals.free,
            "grid_shape": self.goals.shape,
            "grid_frame": self.goals.frame,
            "goal_version": self.goals.version,
            "goal_distance": self.goals.update(rows).copy(),
            **self._privileged_goal(),
        }

    def _privileged_goal(self) -> dict[str, np.ndarray]:
        """Return ``target``, ``ready``, ``finish`` and ``idle`` of `privileged`; nothing where a task has no goal."""
        return {}

    def _headings_free(self) -> np.ndarray:
        from embodied_mem.envs.house.goal_kernels import headings_free

        out = np.zeros((self.num_envs, max(1, round(360.0 / self.world.rules.turn))), dtype=bool)
        headings_free(self.world.plans, self.world.arrays, self.world.rules, out)
        return out

    def describe(self, row: int) -> dict[str, Any]:
        """Return the map of the row's house at this moment and what the task is about, as JSON-able values."""
        return {
            "kind": "house",
            "task": self.task,
            "level": self.level_number,
            "split": self.split,
            **self.world.describe(row),
        }

    def trace(self, row: int) -> dict[str, Any]:
        """Return the present pose (``xz`` metres, ``yaw`` degrees) and goal distance of a row, JSON-able."""
        state = self.world.arrays
        distance = float(self.goals.update(np.array([row]))[row])
        return {
            "xz": [round(float(value), 3) for value in state.position[row]],
            "yaw": round(float(state.yaw[row]), 2),
            "horizon": round(float(state.horizon[row]), 2),
            "distance": round(distance, 3) if np.isfinite(distance) else None,
        }


def _configure(owner_name: str, options: Mapping[str, Any], *configs: Any) -> list[Any]:
    """Return ``configs`` (dataclasses with disjoint field names) with ``options`` given to whichever has the field."""
    owners = [{item.name for item in fields(config)} - {"sensors"} for config in configs]
    known = sorted(set().union(*owners))
    for name in options:
        if name not in known:
            available = ", ".join(known)
            raise UsageError(f"{owner_name} has no option {name!r}{nearest(name, known)}; available: {available}")
    return [
        override(config, {name: value for name, value in options.items() if name in owner})
        for config, owner in zip(configs, owners)
    ]
