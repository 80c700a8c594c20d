"""The common part of the hiding tasks: watch, wait, choose.

Watch: the agent is led to all K containers, each once per round, in random order (its actions have no effect). Each one
opens before it; it is empty or the item is put into it; then it shuts. In every further round the item is put into
another container. So where the agent was led says nothing about the answer, only what it saw there does.
Wait: all doors are shut, the agent is back at the pose where the episode began and may move about (only motion has an
effect) for a random number of steps.
Choose: the agent is set down at a pose that is drawn independently of everything that was shown; the first container it
opens ends the episode, with success if the item lies in it. Who does not remember succeeds with probability 1/K.

Timing: an event lasts ``hold`` steps. ``vector`` tells the phase, one-hot; whether the last action had its effect; and
what is ahead: the kind of the container that is being shown or that OpenObject would open, and whether the item is seen
in it. Reward: 1 for success, minus ``wrong_cost`` for a wrong container, ``step_cost`` off per choosing step, and what
was gained in distance (``shaping``) and direction (``facing``) towards the right container: potential differences,
never observed.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from embodied_mem.envs import rng
from embodied_mem.envs.house import classes as K
from embodied_mem.envs.house.arrays import Action
from embodied_mem.envs.house.env import NOTHING, STREAM_TASK, HouseEnv
from embodied_mem.envs.house.generator import GeneratorConfig
from embodied_mem.envs.house.plan import HousePlan
from embodied_mem.envs.house.sources import GeneratedHouses, HouseSource
from embodied_mem.envs.house.tasks.recall_level import RecallLevel
from embodied_mem.envs.house.tasks.staging import KINDS, BareRooms, Staged, stage
from embodied_mem.envs.house.tasks.walkable import Walkable
from embodied_mem.errors import UsageError
from embodied_mem.geometry.camera import wrap_angle
from embodied_mem.geometry.paths import field_at

WATCH, WAIT, CHOOSE = range(3)
WAIT_STREAM, START_STREAM, YAW_STREAM, CHOICE_STREAM, CHOICE_YAW_STREAM = range(STREAM_TASK, STREAM_TASK + 5)
EVENT_STREAM = STREAM_TASK + 8
OPEN = int(Action.OpenObject)
STAGE_ATTEMPTS = 20
CENTRE_RADIUS = 0.5
"""Metres around the middle of the containers in which a ``central`` choice begins."""
_KIND_NAMES = tuple(name for name, _ in KINDS)
GLANCE = 0.9
"""Metres between an agent that is shown a container and the container's front."""
GLANCE_HORIZON = 30.0
"""Degrees by which that agent looks down, so that a camera sees what lies in the container."""


class RecallEnv(HouseEnv):
    """Base of HideAndRecall and Rewrite; they differ in their levels and their text."""

    actions: ClassVar[tuple[str, ...]] = ("MoveAhead", "RotateLeft", "RotateRight", "OpenObject")
    levels: ClassVar[tuple[RecallLevel, ...]]
    vector_names: ClassVar[tuple[str, ...]] = (
        *("watch", "wait", "choose", "effect", "item"),
        *(f"ahead:{name}" for name, _ in KINDS),
    )
    goal_limit: ClassVar[float] = 1.5

    def __init__(self, num_envs: int = 1, **kwargs: Any) -> None:
        """Keywords as `HouseEnv`; the level's fields are those of `RecallLevel`."""
        self._staged: dict[int, Staged] = {}
        super().__init__(num_envs, **kwargs)
        level = self.level
        level.check()
        k, events = level.containers, (1 + level.moves[1]) * level.containers
        pool = self.num_houses
        self._boxes = np.zeros((pool, k), np.int64)
        self._items = np.zeros(pool, np.int64)
        self._glances = np.zeros((pool, k, 3))
        self._kinds = np.zeros((pool, k), np.int64)
        self._places: dict[int, np.ndarray] = {}
        self._choices: dict[int, np.ndarray] = {}
        self.phase = np.zeros(num_envs, np.int64)
        self.clock = np.zeros(num_envs, np.int64)
        self.answer = np.zeros(num_envs, np.int64)
        self.containers = np.zeros((num_envs, k), np.int64)
        self.item = np.zeros(num_envs, np.int64)
        self._shown = np.zeros((num_envs, events), np.int64)
        self._filled = np.zeros((num_envs, events), np.bool_)
        self._events = np.zeros(num_envs, np.int64)
        self._wait = np.zeros(num_envs, np.int64)
        self._choice = np.zeros((num_envs, 3))
        self._effect = np.ones(num_envs, np.float32)
        self._opened = np.full(num_envs, -1, np.int64)
        self._first_distance = np.zeros(num_envs)
        self._least_distance = np.zeros(num_envs)
        self._last_distance = np.zeros(num_envs)
        self._last_bearing = np.zeros(num_envs)

    # Houses

    def _source(self, count: int) -> HouseSource:
        level = self.level
        if level.rooms == (0, 0):
            return BareRooms(self.task, self.split, count, level.side)
        # Few boxes: the containers need free walls.
        config = GeneratorConfig(rooms=level.rooms, boxes=14 * level.rooms[1], clutter=0.2)
        return GeneratedHouses(config, self.split, count)

    def _make_house(self, index: int, generator: np.random.Generator) -> HousePlan:
        count = len(self.source)
        for offset in range(count):
            # Houses of a user's file may be too small; the next one of the same split stands in.
            staged = self._staging(self.source.plan((index + offset) % count), generator)
            if staged is not None:
                self._staged[index] = staged
                return staged.plan
        raise UsageError(
            f"none of the {count} houses has room for {self.level.containers} containers; ask for fewer containers, "
            "larger rooms or less clutter"
        )

    def _staging(self, base: HousePlan, generator: np.random.Generator) -> Staged | None:
        """Return the house with containers, None where they do not fit."""
        level, furnished = self.level, self.level.rooms != (0, 0)
        whole = furnished or base.num_boxes == 0
        for attempt in range(STAGE_ATTEMPTS):
            # A house where the level asks for a bare room (a ProcTHOR plan): its rooms in turn, each cleared.
            staged = stage(
                base,
                generator,
                level.containers,
                looks=level.looks,
                clutter=level.clutter,
                one_per_wall=level.one_per_wall and whole,
                room=None if whole else attempt % base.num_rooms,
                thin=2 * attempt if furnished else 0,
            )
            if staged is not None and self._usable(staged):
                return staged
        return None

    def _usable(self, staged: Staged) -> bool:
        """Return whether an agent can stand before every container, all in one connected part of the floor."""
        from embodied_mem.envs.house.batch import HouseWorld
        from embodied_mem.envs.house.library import PlanLibrary

        world = HouseWorld(1, PlanLibrary(), self.world.config)
        floor = world.free_positions(world.library.add(staged.plan))
        return all(_glance(staged.plan, int(box), floor) is not None for box in staged.containers)

    def _house_made(self, index: int, plan_id: int) -> None:
        staged, floor = self._staged.pop(index), self.world.free_positions(plan_id)
        self._boxes[index] = staged.containers
        self._items[index] = staged.item
        names = [K.CLASS_NAMES[int(code)] for code in staged.plan.box_class[staged.containers]]
        self._kinds[index] = [_KIND_NAMES.index(name) for name in names]
        poses = [_glance(staged.plan, int(box), floor) for box in staged.containers]
        self._glances[index] = np.array(poses)
        places = Walkable(self.world, plan_id).places
        for box in staged.containers:
            goal = self.goals.of(plan_id, (int(box),))
            places = places[np.isfinite(field_at(goal.field, goal.grid, places))]
        if len(places) == 0:
            raise UsageError(f"no place of {staged.plan!r} leads to all containers; use fewer or larger rooms")
        self._places[index] = self._choices[index] = places
        if self.level.central:
            middle = staged.plan.box_pose[staged.containers][:, [0, 2]].mean(0)
            gaps = np.hypot(*(places - middle).T)
            # At least the eight nearest places, where furniture stands in the middle.
            self._choices[index] = places[gaps <= max(CENTRE_RADIUS, float(np.sort(gaps)[:8][-1]))]

    # Episodes

    def _begin_task(self, rows: np.ndarray, keys: np.ndarray) -> None:
        level, house = self.level, self.house[rows]
        self.containers[rows] = self._boxes[house]
        self.item[rows] = self._items[house]
        self._plan_events(rows, keys)
        self._wait[rows] = rng.integers(keys, WAIT_STREAM, level.wait[0], level.wait[1] + 1)
        starts = self._draw(self._places, house, keys, START_STREAM)
        yaw = rng.uniform(keys, YAW_STREAM) * 360.0
        self.world.place(rows, starts[:, 0], starts[:, 1], yaw)
        self._choice[rows, :2] = self._draw(self._choices, house, keys, CHOICE_STREAM)
        self._choice[rows, 2] = rng.uniform(keys, CHOICE_YAW_STREAM) * 360.0
        self.phase[rows] = WATCH
        self.clock[rows] = 0
        self._effect[rows] = 1.0
        self._opened[rows] = -1
        for row in rows.tolist():
            plan_id = int(self.world.arrays.plan[row])
            box = int(self.containers[row, self.answer[row]])
            goal = self.goals.of(plan_id, (box,))
            self.goals.assign(row, goal)
            self._first_distance[row] = goal.at(self._choice[row, 0], self._choice[row, 1])
            item_class = K.CLASS_NAMES[int(self.world.plan(row).box_class[self.item[row]])]
            self._say(row, f"find the {item_class}")
        self._least_distance[rows] = self._first_distance[rows]
        self._last_distance[rows] = self._first_distance[rows]
        self._show(rows, np.zeros(len(rows), np.int64))

    def _hide_items(self, rows: np.ndarray) -> None:
        state, item = self.world.arrays, self.item[rows]
        state.box_shown[rows, item] = 0
        state.box_parent[rows, item] = -1
        state.box_inside[rows, item] = 0

    def _plan_events(self, rows: np.ndarray, keys: np.ndarray) -> None:
        """Draw in which order the containers are shown in every round, and where the item is; the last place counts."""
        level, k, count = self.level, self.level.containers, len(rows)
        moves = rng.integers(keys, EVENT_STREAM, level.moves[0], level.moves[1] + 1)
        rounds = 1 + level.moves[1]
        places = np.empty((count, rounds), np.int64)
        places[:, 0] = rng.integers(keys, EVENT_STREAM, 0, k, 1)
        for move in range(1, rounds):
            places[:, move] = (places[:, move - 1] + rng.integers(keys, EVENT_STREAM, 1, k, 1 + move)) % k
        for number in range(rounds):
            shown = rng.permutation(keys, EVENT_STREAM + 1 + number, k)
            self._shown[rows, number * k : (number + 1) * k] = shown
            self._filled[rows, number * k : (number + 1) * k] = shown == places[:, number, None]
        self._events[rows] = (1 + moves) * k
        self.answer[rows] = places[np.arange(count), moves]

    def _draw(self, places: dict[int, np.ndarray], house: np.ndarray, keys: np.ndarray, stream: int) -> np.ndarray:
        """Return one of the ``places`` (M, 2) of every ``house`` (M,)."""
        draws = rng.uniform(keys, stream)
        out = np.empty((len(house), 2))
        for index, number in enumerate(house.tolist()):
            floor = places[number]
            out[index] = floor[int(draws[index] * len(floor))]
        return out

    def _show(self, rows: np.ndarray, event: np.ndarray) -> None:
        """Lead ``rows`` (M,) to the container of their ``event`` (M,), which opens; the previous one shuts."""
        from embodied_mem.envs.house.tasks._staging_kernels import show

        chosen = self._shown[rows, event]
        before = np.where(event > 0, self._shown[rows, np.maximum(event - 1, 0)], -1)
        shut = np.where(before >= 0, self.containers[rows, np.maximum(before, 0)], -1)
        item = np.where(self._filled[rows, event], self.item[rows], -1)
        # Until it is put somewhere in its round, the item is nowhere to be seen.
        fresh = rows[event % self.level.containers == 0]
        self._hide_items(fresh)
        show(self.world.plans, self.world.arrays, rows, shut, self.containers[rows, chosen], item)
        pose = self._glances[self.house[rows], chosen]
        self.world.place(rows, pose[:, 0], pose[:, 1], pose[:, 2], GLANCE_HORIZON, start=False)

    def _judge(self, codes: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        level, state = self.level, self.world.arrays
        choosing = active & (self.phase == CHOOSE)
        moving = active & (self.phase != WATCH)
        idle = (codes == OPEN) & ~choosing
        codes = np.where(idle, NOTHING, codes)
        before = self.path.copy()
        success = self._act(codes, moving)
        self.path = np.where(choosing, self.path, before)
        self._effect = np.where(active, moving & ~idle & (success != 0), self._effect).astype(np.float32)
        self.clock += active
        reward = np.zeros(self.num_envs, np.float32)
        terminated = choosing & (codes == OPEN) & (success != 0)
        if choosing.any():
            rows = np.flatnonzero(choosing)
            last, distance = self._last_distance[rows], self.goals.update(rows)[rows]
            # In a corner that is narrower than the grid resolves, the last known distance holds.
            distance = np.where(np.isfinite(distance), distance, last)
            reward[rows] = level.shaping * (last - distance) - level.step_cost
            self._last_distance[rows] = distance
            if level.facing:
                bearing = self._bearing(rows)
                reward[rows] += level.facing * (self._last_bearing[rows] - bearing)
                self._last_bearing[rows] = bearing
            self._least_distance[rows] = np.minimum(self._least_distance[rows], distance)
            ended = np.flatnonzero(terminated)
            if len(ended):
                self._opened[ended] = self._container_of(ended, state.target[ended])
                right = self._opened[ended] == self.answer[ended]
                reward[ended] += np.where(right, 1.0, -level.wrong_cost)
        truncated = choosing & (self.clock >= level.choice_steps) & ~terminated
        self._next_phase(active & ~choosing)
        return reward, terminated, truncated

    def _container_of(self, rows: np.ndarray, instance: np.ndarray) -> np.ndarray:
        """Return (M,) which container an instance id is."""
        plans = self.world.plans
        first = plans.plan_int[self.world.arrays.plan[rows], 6]
        own = plans.box_int[first[:, None] + self.containers[rows], 1]
        return np.argmax(own == instance[:, None], axis=1)

    def _next_phase(self, active: np.ndarray) -> None:
        """Advance the rows of ``active`` (N,) bool that watch or wait by one step of their clock."""
        if not active.any():
            return
        hold = self.level.hold
        due = active & (self.phase == WATCH) & (self.clock % hold == 0)
        over = due & (self.clock // hold >= self._events)
        shown = np.flatnonzero(due & ~over)
        if len(shown):
            self._show(shown, self.clock[shown] // hold)
        waited = active & (self.phase == WAIT) & (self.clock >= self._wait)
        rows = np.flatnonzero(over)
        if len(rows):
            from embodied_mem.envs.house.tasks._staging_kernels import show

            last = self.containers[rows, self._shown[rows, self._events[rows] - 1]]
            none = np.full(len(rows), -1, np.int64)
            show(self.world.plans, self.world.arrays, rows, last, none, none)
            start = self.world.arrays.start[rows]
            self.world.place(rows, start[:, 0], start[:, 1], start[:, 2], start=False)
            self.phase[rows], self.clock[rows] = WAIT, 0
        rows = np.flatnonzero(waited)
        if len(rows):
            pose = self._choice[rows]
            self.world.place(rows, pose[:, 0], pose[:, 1], pose[:, 2], start=False)
            self.phase[rows], self.clock[rows] = CHOOSE, 0
            self.path[rows] = 0.0
            self._effect[rows] = 1.0
            self._last_bearing[rows] = self._bearing(rows)

    def _bearing(self, rows: np.ndarray) -> np.ndarray:
        """Return (M,) the angle between each agent's heading and the right container, in half turns, 0 to 1."""
        state = self.world.arrays
        box = state.box_pose[rows, self.containers[rows, self.answer[rows]]]
        angle = np.arctan2(box[:, 0] - state.position[rows, 0], box[:, 2] - state.position[rows, 1])
        return np.abs(wrap_angle(angle - np.radians(state.yaw[rows]))) / np.pi

    def _vector(self) -> np.ndarray:
        out = np.zeros((self.num_envs, len(self.vector_names)), np.float32)
        rows = np.arange(self.num_envs)
        out[rows, self.phase] = 1.0
        out[:, 3] = self._effect
        watching = self.phase == WATCH
        event = np.minimum(self.clock // self.level.hold, self._events - 1)
        out[:, 4] = watching & self._filled[rows, event]
        opened = self._openable()
        reachable = opened >= 0
        ahead = np.where(watching, self._shown[rows, event], np.where(reachable, opened, 0))
        out[rows, 5 + self._kinds[self.house, ahead]] = watching | reachable
        return out

    def _openable(self) -> np.ndarray:
        """Return (N,) which container OpenObject would open, -1 for none."""
        from embodied_mem.envs.house.goal_kernels import next_opened

        rows = np.arange(self.num_envs)
        opened = np.full(self.num_envs, -1, np.int64)
        next_opened(self.world.plans, self.world.arrays, self.world.rules, rows, opened)
        match = self.containers == opened[:, None]
        return np.where(match.any(1), match.argmax(1), -1)

    def _final_info(self) -> dict[str, np.ndarray]:
        success = self._opened == self.answer
        return {
            "success": success,
            "stopped": self._opened >= 0,
            "start_distance": self._first_distance.copy(),
            "final_distance": self._last_distance.copy(),
            "min_distance": self._least_distance.copy(),
            "path_length": self.path.copy(),
            "opened": self._opened.copy(),
            "right_container": self.answer.copy(),
            "wait": self._wait.copy(),
        }

    def _privileged_goal(self) -> dict[str, np.ndarray]:
        rows, state = np.arange(self.num_envs), self.world.arrays
        box = self.containers[rows, self.answer]
        opened = self._openable()
        return {
            "target": state.box_pose[rows, box, :3].astype(np.float64),
            "ready": opened == self.answer,
            "finish": np.full(self.num_envs, OPEN),
            "idle": self.phase != CHOOSE,
            "phase": self.phase.copy(),
            "answer": self.answer.copy(),
            "places": state.box_pose[rows[:, None], self.containers][..., [0, 2]].astype(np.float64),
            "would_open": opened,
        }

    def describe(self, row: int) -> dict[str, Any]:
        """Return the map, the containers, the item and the answer (for reports only), as JSON-able values."""
        return {
            **super().describe(row),
            "containers": self.containers[row].tolist(),
            "item": int(self.item[row]),
            "answer": int(self.containers[row, self.answer[row]]),
            "choice_pose": [round(float(value), 3) for value in self._choice[row]],
        }

    def trace(self, row: int) -> dict[str, Any]:
        """Return pose, distance and phase of a row."""
        return {**super().trace(row), "phase": ("watch", "wait", "choose")[int(self.phase[row])]}


def _glance(plan: HousePlan, box: int, floor: np.ndarray) -> tuple[float, float, float] | None:
    """Return the free place x, z and the yaw (degrees) from which a container is shown; None when all are too far."""
    x, _, z, yaw = (float(value) for value in plan.box_pose[box])
    away = 0.5 * float(plan.box_size[box, 2]) + GLANCE
    ideal = np.array([x + away * np.sin(yaw), z + away * np.cos(yaw)])
    gaps = np.hypot(*(floor - ideal).T)
    best = int(gaps.argmin())
    if gaps[best] > 0.5:
        return None
    place = floor[best]
    return float(place[0]), float(place[1]), float(np.degrees(np.arctan2(x - place[0], z - place[1])))
