"""House-Tour-v0: a scripted walk through a house, with a ground-truth log of what was seen where and when.

The agent is led from room to room and turns once around at every stop; its single action has no effect. From level 1
on the house is walked through again and some objects change place in between, out of view. `BatchedTour.log` tells for
every step the pose, the room and the boxes in view, and for every object when it was seen and how it moved: the
answers to questions about the tour. ``success`` only says that the tour was watched to its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from embodied_mem.envs import rng
from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.house import classes as K
from embodied_mem.envs.house.colours import COLOUR_NAMES, colour_codes
from embodied_mem.envs.house.env import STREAM_TASK, HouseEnv
from embodied_mem.envs.house.generator import GeneratorConfig
from embodied_mem.envs.house.plan import HousePlan
from embodied_mem.envs.house.sources import GeneratedHouses, HouseSource
from embodied_mem.envs.house.tasks.route import Routes, camera_poses
from embodied_mem.envs.house.tasks.walkable import Walkable, doors_open
from embodied_mem.errors import UsageError

FIRST_STREAM, YAW_STREAM, ITEM_STREAM, HOLDER_STREAM = range(STREAM_TASK, STREAM_TASK + 4)


@dataclass(frozen=True)
class TourLevel:
    """Length and content of a tour."""

    houses: int = 256
    """Size of the pool of houses per split."""
    rooms: tuple[int, int] = (1, 1)
    """Fewest and most rooms of generated houses."""
    boxes: int = 24
    """Most boxes per generated house."""
    room_area: tuple[float, float] = (12.0, 18.0)
    """Range of the mean floor area of a room, square metres."""
    stops: int = 3
    """Places per room where the camera turns around."""
    passes: int = 1
    """How often the house is walked through."""
    moves: int = 0
    """Objects that change place, out of view, before every further pass (fewer where that is not possible)."""
    sight: float = 5.0
    """Metres within which a box in view counts as seen."""
    max_steps: int = 2000
    """Steps before a tour is cut."""


class BatchedTour(HouseEnv):
    """N rows of House-Tour-v0."""

    task: ClassVar[str] = "tour"
    actions: ClassVar[tuple[str, ...]] = ("Done",)
    default_sensors: ClassVar[tuple[str, ...]] = ("rgb", "pose")
    vector_names: ClassVar[tuple[str, ...]] = ("time",)
    levels: ClassVar[tuple[TourLevel, ...]] = (
        TourLevel(),
        TourLevel(rooms=(2, 3), boxes=40, stops=2, passes=2, moves=2),
        TourLevel(rooms=(4, 6), boxes=70, stops=1, passes=2, moves=4),
        TourLevel(rooms=(8, 10), boxes=110, stops=1, passes=3, moves=6),
    )

    def __init__(self, num_envs: int = 1, **kwargs: Any) -> None:
        """Keywords as `HouseEnv`; the level's fields are those of `TourLevel`."""
        self._routes: dict[int, Routes] = {}
        super().__init__(num_envs, **kwargs)
        level = self.level
        for name, low in (("stops", 1), ("passes", 1), ("moves", 0), ("max_steps", 2)):
            if getattr(level, name) < low:
                raise UsageError(f"expected {name} >= {low}, got {getattr(level, name)}")
        events = level.moves * (level.passes - 1)
        self.clock = np.zeros(num_envs, np.int64)
        self.length = np.ones(num_envs, np.int64)
        """(N,) int64 poses of the tour."""
        self._poses = np.zeros((num_envs, 1, 3))
        self._seen = np.zeros((num_envs, 1, 1), np.bool_)
        self._rooms = np.zeros((num_envs, 1), np.int64)
        self._moves = np.full((num_envs, events, 3), -1, np.int64)
        self._moved = np.zeros((num_envs, events, 2, 4), np.float32)
        self._holders = np.full((num_envs, events), -1, np.int64)

    def _source(self, count: int) -> HouseSource:
        level = self.level
        config = GeneratorConfig(rooms=level.rooms, boxes=level.boxes, room_area=level.room_area)
        return GeneratedHouses(config, self.split, count)

    def _make_house(self, index: int, generator: np.random.Generator) -> HousePlan:
        return doors_open(self.source.plan(index))

    def _house_made(self, index: int, plan_id: int) -> None:
        plan, grid = self.library.plans[plan_id], self.world.free_grid(plan_id)
        self._routes[plan_id] = Routes(plan, grid, Walkable(self.world, plan_id).places, self.level.stops)

    # Episodes

    def _begin_task(self, rows: np.ndarray, keys: np.ndarray) -> None:
        yaws = rng.uniform(keys, YAW_STREAM) * 360.0
        paths, breaks = [], []
        for index, row in enumerate(rows.tolist()):
            plan_id = int(self.world.arrays.plan[row])
            poses, marks = self._tour(self._routes[plan_id], keys[index : index + 1], float(yaws[index]))
            paths.append(poses[: self.level.max_steps])
            breaks.append(marks)
            self._plan_moves(row, keys[index : index + 1], marks)
            self._say(row, "watch the tour")
        self._grow_log(max(len(poses) for poses in paths))
        for row, poses in zip(rows.tolist(), paths):
            self._poses[row, : len(poses)] = poses
            self.length[row] = len(poses)
        self._seen[rows] = False
        self.clock[rows] = 0
        first = self._poses[rows, 0]
        self.world.place(rows, first[:, 0], first[:, 1], first[:, 2])
        self._record(rows)

    def _tour(self, routes: Routes, key: np.ndarray, yaw: float) -> tuple[np.ndarray, list[int]]:
        """Return the (T, 3) poses of a tour and the steps at which a further pass begins."""
        rules = self.world.config
        stops = len(routes.stops)
        around = np.arange(1, round(360.0 / rules.turn) + 1) * rules.turn
        parts: list[np.ndarray] = []
        marks: list[int] = []
        here = -1
        for number in range(self.level.passes):
            first = int(rng.integers(key, FIRST_STREAM, 0, stops, number)[0])
            if number:
                marks.append(sum(len(part) for part in parts))
            for stop in routes.order(first):
                if here < 0:
                    parts.append(np.array([[*routes.stops[stop], yaw]]))
                elif here != stop:
                    parts.append(camera_poses(routes.walk(here, stop), yaw, rules.step, rules.turn))
                    yaw = float(parts[-1][-1, 2])
                here = stop
                place = np.broadcast_to(routes.stops[stop], (len(around), 2))
                parts.append(np.column_stack([place, yaw + around]))
        return np.concatenate(parts), marks

    def _plan_moves(self, row: int, key: np.ndarray, marks: list[int]) -> None:
        """Draw which objects go where before each further pass: (step, item, holder) in `_moves`."""
        plan_id, count = int(self.world.arrays.plan[row]), self.level.moves
        plan = self.library.plans[plan_id]
        items = self.world.items(plan_id)
        items, holders = items[~plan.box_inside[items]], self.world.receptacles(plan_id)
        self._moves[row] = -1
        self._holders[row] = -1
        if len(items) == 0 or len(holders) < 2:
            return
        for number, step in enumerate(marks):
            chosen = items[rng.permutation(key, ITEM_STREAM + 4 * number, len(items))[0, :count]]
            draws = rng.integers(key, HOLDER_STREAM + 4 * number, 0, len(holders), np.arange(len(chosen)))
            for k, (item, holder) in enumerate(zip(chosen.tolist(), holders[draws].tolist())):
                if holder not in (item, int(plan.box_parent[item])):
                    self._moves[row, number * count + k] = step, item, holder

    def _grow_log(self, steps: int) -> None:
        """Make room for tours of ``steps`` poses and for the boxes of the largest house."""
        boxes = self.world.arrays.box_pose.shape[1]
        more = max(0, steps - self._poses.shape[1])
        wider = max(0, boxes - self._seen.shape[2])
        if more or wider:
            self._poses = np.pad(self._poses, ((0, 0), (0, more), (0, 0)))
            self._rooms = np.pad(self._rooms, ((0, 0), (0, more)))
            self._seen = np.pad(self._seen, ((0, 0), (0, more), (0, wider)))

    def _judge(self, codes: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = np.flatnonzero(active)
        self.clock[rows] += 1
        pose = self._poses[rows, self.clock[rows]]
        before = self.world.arrays.position[rows].copy()
        self.world.place(rows, pose[:, 0], pose[:, 1], pose[:, 2], start=False)
        self.path[rows] += np.hypot(*(pose[:, :2] - before).T)
        self._move_objects(rows)
        self._record(rows)
        terminated = active & (self.clock >= self.length - 1)
        return np.zeros(self.num_envs, np.float32), terminated, np.zeros(self.num_envs, np.bool_)

    def _move_objects(self, rows: np.ndarray) -> None:
        """Move the objects of ``rows`` (M,) that are due and out of view."""
        if self._moves.shape[1] == 0:
            return
        from embodied_mem.envs.house.tasks._tour_kernels import move_unseen

        index, event = np.nonzero((self._moves[rows, :, 0] == self.clock[rows, None]) & (self._holders[rows] < 0))
        due = rows[index]
        if len(due) == 0:
            return
        world, items, holders = self.world, self._moves[due, event, 1], self._moves[due, event, 2]
        self._moved[due, event, 0] = world.arrays.box_pose[due, items]
        done = np.zeros(len(due), np.bool_)
        move_unseen(world.plans, world.arrays, world.rules, due, items, holders, done)
        self._moved[due, event, 1] = world.arrays.box_pose[due, items]
        self._holders[due[done], event[done]] = holders[done]
        # What was in view is tried again at the next step.
        self._moves[due[~done], event[~done], 0] += 1

    def _record(self, rows: np.ndarray) -> None:
        from embodied_mem.envs.house.tasks._tour_kernels import see

        world, steps = self.world, self.clock[rows]
        see(world.plans, world.arrays, world.rules, rows, steps, self.level.sight, self._seen)
        self._rooms[rows, steps] = world.arrays.room[rows] - world.plans.plan_int[world.arrays.plan[rows], 0]

    # Facts

    def _vector(self) -> np.ndarray:
        return (self.clock / np.maximum(self.length - 1, 1)).astype(np.float32)[:, None]

    def _final_info(self) -> dict[str, np.ndarray]:
        return {
            "success": self.clock >= self.length - 1,
            "path_length": self.path.copy(),
            "boxes_seen": self._seen.any(1).sum(1),
            "objects_moved": (self._holders >= 0).sum(1),
        }

    def privileged(self) -> dict[str, np.ndarray]:
        """Return ``pose_world`` (N, 5), ``tour_step, tour_length, tour_room`` (N,) and ``in_view`` (N, B) bool."""
        state, rows = self.world.arrays, np.arange(self.num_envs)
        eye = np.full(self.num_envs, self.world.rules.eye)
        x, z = state.position.T
        return {
            "pose_world": np.stack([x, eye, z, np.radians(state.yaw), np.zeros(self.num_envs)], axis=1),
            "tour_step": self.clock.copy(),
            "tour_length": self.length.copy(),
            "tour_room": self._rooms[rows, self.clock],
            "in_view": self._seen[rows, self.clock],
        }

    def describe(self, row: int) -> dict[str, Any]:
        """Return the map and the stops of the tour as JSON-able values."""
        routes = self._routes[int(self.world.arrays.plan[row])]
        return {
            **super().describe(row),
            "stops": routes.stops.round(3).tolist(),
            "tour_length": int(self.length[row]),
        }

    def trace(self, row: int) -> dict[str, Any]:
        """Return pose, room and boxes in view of a row."""
        step = int(self.clock[row])
        return {
            **super().trace(row),
            "room": int(self._rooms[row, step]),
            "seen": np.flatnonzero(self._seen[row, step]).tolist(),
        }

    def log(self, row: int) -> dict[str, Any]:
        """Return the ground truth of the tour so far, JSON-able.

        ``rooms``: type of every room; ``steps``: one {step, xz, yaw, room, seen} per pose, ``seen`` = box ids;
        ``objects``: {id, class, colour, room, on, xz, first_seen, last_seen, steps_seen} of every box, -1 and 0 where
        it was never seen, ``on`` = id of what it lies on or -1, as it is now; ``moves``: {step, id, from, to, on} of
        every object that changed place, ``from`` and ``to`` = x, z.
        """
        state, plan = self.world.arrays, self.world.plan(row)
        last, seen = int(self.clock[row]), self._seen[row, : int(self.clock[row]) + 1]
        colours = colour_codes(plan.box_rgb)
        first_room = int(self.world.plans.plan_int[state.plan[row], 0])
        steps = [
            {
                "step": step,
                "xz": _metres(self._poses[row, step, :2]),
                "yaw": round(float(self._poses[row, step, 2]) % 360.0, 2),
                "room": int(self._rooms[row, step]),
                "seen": np.flatnonzero(seen[step]).tolist(),
            }
            for step in range(last + 1)
        ]
        objects = []
        for box in np.flatnonzero((plan.box_flags & K.TRAY) == 0).tolist():
            when = np.flatnonzero(seen[:, box])
            objects.append(
                {
                    "id": box,
                    "class": K.CLASS_NAMES[int(plan.box_class[box])],
                    "colour": COLOUR_NAMES[int(colours[box])],
                    "room": int(state.box_room[row, box]) - first_room,
                    "on": int(state.box_parent[row, box]),
                    "xz": _metres(state.box_pose[row, box, [0, 2]]),
                    "first_seen": int(when[0]) if len(when) else -1,
                    "last_seen": int(when[-1]) if len(when) else -1,
                    "steps_seen": len(when),
                }
            )
        moves = [
            {
                "step": int(self._moves[row, event, 0]),
                "id": int(self._moves[row, event, 1]),
                "from": _metres(self._moved[row, event, 0, [0, 2]]),
                "to": _metres(self._moved[row, event, 1, [0, 2]]),
                "on": int(self._holders[row, event]),
            }
            for event in np.flatnonzero(self._holders[row] >= 0)
        ]
        rooms = [K.ROOM_TYPES[int(kind)] for kind in plan.room_type]
        return {"house": plan.name, "rooms": rooms, "steps": steps, "objects": objects, "moves": moves}


def _metres(xz: np.ndarray) -> list[float]:
    return [round(float(value), 3) for value in xz]


class Tour(SingleEnv):
    """House-Tour-v0 as a plain Gymnasium environment."""

    batched = BatchedTour

    def log(self) -> dict[str, Any]:
        """Return the ground truth of the tour so far (see `BatchedTour.log`)."""
        assert isinstance(self.vector, BatchedTour)
        return self.vector.log(0)
