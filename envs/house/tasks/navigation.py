"""The common part of the navigation tasks: houses with targets, where an episode starts, what the agent is told.

A goal is a class; any box of the class counts. The agent says Done when it stands within 1.0 m (floor distance to the
footprint) of such a box and sees it. Reward: 1 per goal found, ``wrong_cost`` off for a wrong call, ``step_cost`` off
per step, and ``shaping`` per metre that the geodesic distance to the goal shrinks; the distance itself is never
observed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from embodied_mem.envs.house.arrays import Action
from embodied_mem.envs.house.batch import HouseWorld
from embodied_mem.envs.house.env import STREAM_TASK, HouseEnv
from embodied_mem.envs.house.generator import GeneratorConfig
from embodied_mem.envs.house.goals import GoalField, GoalFields
from embodied_mem.envs.house.library import PlanLibrary
from embodied_mem.envs.house.plan import HousePlan
from embodied_mem.envs.house.sources import GeneratedHouses, HouseSource
from embodied_mem.envs.house.tasks.targets import TARGET_CLASS, TARGETS, instances
from embodied_mem.envs.house.tasks.walkable import Walkable, doors_open
from embodied_mem.errors import UsageError
from embodied_mem.geometry.paths import field_at

GOAL_STREAM, START_STREAM, YAW_STREAM = range(STREAM_TASK, STREAM_TASK + 3)
DONE = int(Action.Done)
EASE, EASY_CELLS = 0.1, 8
"""A target needs so many cells to stand on whose distance to it stays so many metres below the limit."""
LOWEST_VIEW = 60.0
"""Degrees by which the look angle is divided in ``vector``."""


@dataclass(frozen=True)
class NavigationLevel:
    """Difficulty of a navigation task."""

    houses: int = 256
    """Size of the pool of houses per split."""
    rooms: tuple[int, int] = (1, 1)
    """Fewest and most rooms of generated houses."""
    boxes: int = 12
    """Most boxes per generated house."""
    room_area: tuple[float, float] = (11.0, 16.0)
    """Range of the mean floor area of a room, square metres."""
    small: bool = False
    """Whether small objects are targets too, not only furniture."""
    start_gap: float = 1.5
    """Least geodesic metres between the start and the first goal (less where the house is too small)."""
    max_steps: int = 100
    """Steps before the episode is cut."""
    step_cost: float = 0.01
    """Taken off the reward at every step."""
    shaping: float = 0.2
    """Reward per metre gained towards the goal."""
    wrong_cost: float = 0.0
    """Taken off the reward for saying Done at the wrong place."""


class NavigationEnv(HouseEnv):
    """Base of ObjectNav, MultiObjectNav and InstructionFollowing."""

    actions: ClassVar[tuple[str, ...]] = ("MoveAhead", "RotateLeft", "RotateRight", "LookUp", "LookDown", "Done")
    default_sensors: ClassVar[tuple[str, ...]] = ("scan", "vector", "goal")
    vector_names: ClassVar[tuple[str, ...]] = ("effect", "look", "time", "found")
    goal_names: ClassVar[tuple[str, ...]] = TARGETS
    goal_limit: ClassVar[float] = 1.0
    unique: ClassVar[bool] = False
    """Whether goals are classes with a single box in the house, as far as there are enough."""

    def __init__(self, num_envs: int = 1, **kwargs: Any) -> None:
        """Keywords as `HouseEnv`; the level's fields are those of the task's level class."""
        self._offers: dict[int, dict[int, tuple[int, ...]]] = {}
        self._starts: dict[tuple[int, int], np.ndarray] = {}
        self._walkable: dict[int, Walkable] = {}
        super().__init__(num_envs, **kwargs)
        if self.level.max_steps < 1 or self.level.start_gap < 0:
            raise UsageError(
                f"expected max_steps >= 1 and start_gap >= 0, got {self.level.max_steps}, {self.level.start_gap}"
            )
        self.target = np.zeros(num_envs, np.int64)
        self.found = np.zeros(num_envs, np.int64)
        self._effect = np.ones(num_envs, np.float32)
        self._last_distance = np.zeros(num_envs)
        self._stopped = np.zeros(num_envs, np.bool_)

    # Houses

    def _source(self, count: int) -> HouseSource:
        level = self.level
        config = GeneratorConfig(rooms=level.rooms, boxes=level.boxes, room_area=level.room_area)
        return GeneratedHouses(config, self.split, count)

    def _make_house(self, index: int, generator: np.random.Generator) -> HousePlan:
        for offset in range(len(self.source)):
            plan = doors_open(self.source.plan((index + offset) % len(self.source)))
            if self._usable(plan):
                return plan
        raise UsageError(f"none of the {len(self.source)} houses has {self._needed} targets that can be reached")

    @property
    def _needed(self) -> int:
        """How many different goals an episode has."""
        return 1

    def _usable(self, plan: HousePlan) -> bool:
        world = HouseWorld(1, PlanLibrary(), self.world.config)
        plan_id = world.library.add(plan)
        fields, walkable, count = GoalFields(world, self.goal_limit), Walkable(world, plan_id), 0
        for boxes in instances(plan, small=self.level.small).values():
            count += int(self._distances(fields.of(plan_id, boxes), walkable).any())
            if count >= self._needed:
                return True
        return False

    def _distances(self, goal: GoalField, walkable: Walkable) -> np.ndarray:
        """Return (F,) metres from the places of a house to a goal; 0 where that is no walk, or there is no way."""
        easy = (goal.costs <= self.goal_limit - EASE) & walkable.cells
        if np.count_nonzero(easy) < EASY_CELLS:
            return np.zeros(len(walkable.places))
        distance = field_at(goal.field, goal.grid, walkable.places)
        return np.where(np.isfinite(distance) & (distance > self.goal_limit), distance, 0.0)

    def _house_made(self, index: int, plan_id: int) -> None:
        plan = self.library.plans[plan_id]
        self._walkable[plan_id] = Walkable(self.world, plan_id)
        self._offers[plan_id] = self._offered(plan)

    def _offered(self, plan: HousePlan) -> dict[int, tuple[int, ...]]:
        """Return the target classes of a plan with their boxes."""
        offers = instances(plan, small=self.level.small, unique=self.unique)
        # Where single boxes are too few to choose from, classes with several stand in.
        return offers if len(offers) >= 2 * self._needed else instances(plan, small=self.level.small)

    # Goals

    def goal_of(self, plan_id: int, target: int) -> GoalField:
        """Return the field of a target class in a house."""
        return self.goals.of(plan_id, self._offers[plan_id][target])

    def starts_of(self, plan_id: int, target: int) -> np.ndarray:
        """Return indices (S,) of the walkable places where an episode with this target may begin; empty = nowhere."""
        key = (plan_id, target)
        if key not in self._starts:
            distance = self._distances(self.goal_of(plan_id, target), self._walkable[plan_id])
            far = distance >= max(self.level.start_gap, self.goal_limit)
            self._starts[key] = np.flatnonzero(far if far.any() else distance).astype(np.uint32)
        return self._starts[key]

    def stand_of(self, plan_id: int, target: int) -> np.ndarray:
        """Return (2,) x, z of the place nearest to a target on the floor that agents walk on."""
        goal = self.goal_of(plan_id, target)
        costs = np.where(self._walkable[plan_id].cells, goal.costs, np.inf)
        return goal.grid.centres_of(np.array(np.unravel_index(int(costs.argmin()), costs.shape)))

    def _place(self, row: int, target: int, draw: float, yaw: float) -> None:
        """Begin the episode of a row at a free place for its first target."""
        plan_id = int(self.world.arrays.plan[row])
        starts = self.starts_of(plan_id, target)
        x, z = self._walkable[plan_id].places[starts[int(draw * len(starts))]]
        self.world.place(np.array([row]), np.array([x]), np.array([z]), np.array([yaw * 360.0]))

    def _set_goal(self, row: int, target: int, text: str) -> None:
        self.target[row] = target
        self.goals.assign(row, self.goal_of(int(self.world.arrays.plan[row]), target))
        self._say(row, text)

    def _called_right(self, called: np.ndarray) -> np.ndarray:
        """Return (N,) bool: rows of ``called`` (N,) bool that see their target within the limit."""
        right = np.zeros(self.num_envs, np.bool_)
        rows = np.flatnonzero(called)
        if len(rows):
            right[rows] = self.world.nearest_visible(rows, TARGET_CLASS[self.target[rows]], self.goal_limit) >= 0
        return right

    # What the agent is told

    def _vector(self) -> np.ndarray:
        out = np.empty((self.num_envs, len(self.vector_names)), np.float32)
        out[:, 0] = self._effect
        out[:, 1] = np.clip(self.world.arrays.horizon / LOWEST_VIEW, -1.0, 1.0)
        out[:, 2] = np.minimum(self.steps / self.level.max_steps, 1.0)
        out[:, 3] = self.found / self._goals_per_episode
        return out

    @property
    def _goals_per_episode(self) -> int:
        return 1

    def _goal(self) -> np.ndarray:
        out = np.zeros((self.num_envs, len(self.goal_names)), np.float32)
        out[np.arange(self.num_envs), self.target] = 1.0
        return out

    def _privileged_goal(self) -> dict[str, np.ndarray]:
        from embodied_mem.envs.house.goal_kernels import class_to_face

        rows, state = np.arange(self.num_envs), self.world.arrays
        classes = TARGET_CLASS[self.target]
        ready = self.world.nearest_visible(rows, classes, self.goal_limit) >= 0
        box = np.full(self.num_envs, -1, np.int64)
        class_to_face(self.world.plans, state, self.world.rules, rows, classes, self.goal_limit, box)
        return {
            "target": state.box_pose[rows, np.maximum(box, 0), :3].astype(np.float64),
            "ready": ready,
            "finish": np.full(self.num_envs, DONE),
            "idle": np.zeros(self.num_envs, np.bool_),
        }
