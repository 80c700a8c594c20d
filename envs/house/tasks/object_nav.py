"""House-ObjectNav-v0: go to an object of a named class and say Done within 1.0 m of it, with it in view.

Done ends the episode, right or wrong. Level 0: one room with little furniture. Level 1: two or three rooms. Level 2:
four to six rooms, small objects too. Level 3: eight to ten rooms.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from embodied_mem.envs import rng
from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.house.tasks.navigation import (
    DONE,
    GOAL_STREAM,
    START_STREAM,
    YAW_STREAM,
    NavigationEnv,
    NavigationLevel,
)
from embodied_mem.envs.house.tasks.targets import TARGETS, spoken
from embodied_mem.errors import UsageError


class BatchedObjectNav(NavigationEnv):
    """N rows of House-ObjectNav-v0."""

    task: ClassVar[str] = "object-nav"
    levels: ClassVar[tuple[NavigationLevel, ...]] = (
        NavigationLevel(),
        NavigationLevel(rooms=(2, 3), boxes=30, start_gap=3.0, max_steps=500),
        NavigationLevel(rooms=(4, 6), boxes=60, small=True, start_gap=4.0, max_steps=500),
        NavigationLevel(rooms=(8, 10), boxes=100, small=True, start_gap=5.0, max_steps=500),
    )

    def __init__(self, num_envs: int = 1, **kwargs: Any) -> None:
        """Keywords as `HouseEnv`; the level's fields are those of `navigation.NavigationLevel`."""
        super().__init__(num_envs, **kwargs)
        self._first_distance = np.zeros(num_envs)
        self._least_distance = np.zeros(num_envs)

    def _begin_task(self, rows: np.ndarray, keys: np.ndarray) -> None:
        order = rng.permutation(keys, GOAL_STREAM, len(TARGETS))
        draws, yaws = rng.uniform(keys, START_STREAM), rng.uniform(keys, YAW_STREAM)
        for index, row in enumerate(rows.tolist()):
            target = self._first_target(int(self.world.arrays.plan[row]), order[index])
            self._set_goal(row, target, f"find the {spoken(target)}")
            self._place(row, target, draws[index], yaws[index])
        distance = self.goals.update(rows)[rows]
        for kept in (self._first_distance, self._least_distance, self._last_distance):
            kept[rows] = distance
        self.found[rows] = 0
        self._effect[rows] = 1.0
        self._stopped[rows] = False

    def _first_target(self, plan_id: int, order: np.ndarray) -> int:
        """Return the first target of ``order`` (G,) that the house offers and that can be reached."""
        offers = self._offers[plan_id]
        for target in order.tolist():
            if target in offers and len(self.starts_of(plan_id, target)):
                return target
        raise UsageError(f"house {self.library.plans[plan_id].name!r} has no target that can be reached")

    def _judge(self, codes: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        level = self.level
        success = self._act(codes, active)
        self._effect = np.where(active, success, self._effect).astype(np.float32)
        terminated = active & (codes == DONE)
        self._stopped |= terminated
        right = self._called_right(terminated)
        self.found += right
        rows = np.flatnonzero(active)
        distance = self.goals.update(rows)
        # A pose beside the grid has no distance; the last one stands.
        distance = np.where(active & np.isfinite(distance), distance, self._last_distance)
        reward = np.where(active, level.shaping * (self._last_distance - distance) - level.step_cost, 0.0)
        reward += right - level.wrong_cost * (terminated & ~right)
        self._last_distance = distance
        self._least_distance = np.minimum(self._least_distance, distance)
        truncated = active & (self.steps >= level.max_steps) & ~terminated
        return reward.astype(np.float32), terminated, truncated

    def _final_info(self) -> dict[str, np.ndarray]:
        return {
            "success": self.found > 0,
            "stopped": self._stopped.copy(),
            "start_distance": self._first_distance.copy(),
            "final_distance": self._last_distance.copy(),
            "min_distance": self._least_distance.copy(),
            "path_length": self.path.copy(),
            "goal_class": self.target.copy(),
        }

    def describe(self, row: int) -> dict[str, Any]:
        """Return the map and the target (class and boxes) as JSON-able values."""
        plan_id, target = int(self.world.arrays.plan[row]), int(self.target[row])
        return {
            **super().describe(row),
            "target": TARGETS[target],
            "targets": list(self._offers[plan_id][target]),
        }


class ObjectNav(SingleEnv):
    """House-ObjectNav-v0 as a plain Gymnasium environment."""

    batched = BatchedObjectNav
