"""House-MultiObjectNav-v0: several goals one after another in one house; classes recur, so a map pays.

The agent is told one class at a time and says Done (MultiON's FOUND) within 1.0 m of such an object, with it in view;
a wrong call ends the episode. The first ``kinds`` goals are all different, the others are drawn from these again,
never twice in a row; goals are classes with a single box in the house, as far as there are enough. The legs of the
metrics run from the place nearest to one goal to the next (`metrics.multi_object`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from embodied_mem.envs import rng
from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.house.env import STREAM_TASK
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

REPEAT_STREAM = STREAM_TASK + 4


@dataclass(frozen=True)
class MultiObjectLevel(NavigationLevel):
    """Difficulty of MultiObjectNav."""

    goals: int = 3
    """Goals per episode, m."""
    kinds: int = 2
    """Different classes among them, 2 to m."""
    leg_gap: float = 1.5
    """Least geodesic metres between two goals (less where the house is too small)."""


class BatchedMultiObjectNav(NavigationEnv):
    """N rows of House-MultiObjectNav-v0."""

    task: ClassVar[str] = "multi-object-nav"
    unique: ClassVar[bool] = True
    levels: ClassVar[tuple[NavigationLevel, ...]] = (
        MultiObjectLevel(boxes=14, max_steps=200),
        MultiObjectLevel(rooms=(2, 3), boxes=30, start_gap=2.0, max_steps=500, goals=4, kinds=3, leg_gap=2.0),
        MultiObjectLevel(
            rooms=(4, 6), boxes=60, small=True, start_gap=3.0, max_steps=500, goals=5, kinds=3, leg_gap=3.0
        ),
        MultiObjectLevel(
            rooms=(8, 10), boxes=100, small=True, start_gap=4.0, max_steps=1000, goals=6, kinds=4, leg_gap=4.0
        ),
    )

    def __init__(self, num_envs: int = 1, **kwargs: Any) -> None:
        """Keywords as `HouseEnv`; the level's fields are those of `MultiObjectLevel`."""
        self._legs_of: dict[tuple[int, int, int], float] = {}
        super().__init__(num_envs, **kwargs)
        level = self.level
        if not 2 <= level.kinds <= level.goals:
            raise UsageError(f"expected 2 <= kinds <= goals, got kinds={level.kinds}, goals={level.goals}")
        self.sequence = np.zeros((num_envs, level.goals), np.int64)
        self._legs = np.zeros((num_envs, level.goals))
        self._path_at_last = np.zeros(num_envs)

    @property
    def _needed(self) -> int:
        return self.level.kinds

    @property
    def _goals_per_episode(self) -> int:
        return self.level.goals

    def leg(self, plan_id: int, start: int, end: int) -> float:
        """Return the geodesic metres from the place nearest to one target to another target of a house; cached."""
        key = (plan_id, start, end)
        if key not in self._legs_of:
            x, z = self.stand_of(plan_id, start)
            self._legs_of[key] = self.goal_of(plan_id, end).at(float(x), float(z))
        return self._legs_of[key]

    def _begin_task(self, rows: np.ndarray, keys: np.ndarray) -> None:
        level = self.level
        order = rng.permutation(keys, GOAL_STREAM, len(TARGETS))
        repeats = rng.integers(keys[:, None], REPEAT_STREAM, 0, level.kinds - 1, np.arange(level.goals))
        draws, yaws = rng.uniform(keys, START_STREAM), rng.uniform(keys, YAW_STREAM)
        for index, row in enumerate(rows.tolist()):
            plan_id = int(self.world.arrays.plan[row])
            kinds = self._kinds(plan_id, order[index])
            self.sequence[row] = self._spread(kinds, repeats[index])
            self._set_goal(row, int(self.sequence[row, 0]), self._text(row, 0))
            self._place(row, int(self.sequence[row, 0]), draws[index], yaws[index])
            for leg in range(1, level.goals):
                before, after = self.sequence[row, leg - 1 : leg + 1].tolist()
                self._legs[row, leg] = self.leg(plan_id, before, after)
        self._last_distance[rows] = self._legs[rows, 0] = self.goals.update(rows)[rows]
        self._path_at_last[rows] = 0.0
        self.found[rows] = 0
        self._effect[rows] = 1.0
        self._stopped[rows] = False

    def _kinds(self, plan_id: int, order: np.ndarray) -> list[int]:
        """Return the different targets of an episode: the first of ``order`` (G,) that lie far enough apart."""
        offers = self._offers[plan_id]
        known = [target for target in order.tolist() if target in offers and len(self.starts_of(plan_id, target))]
        chosen: list[int] = []
        for gap in (self.level.leg_gap, self.goal_limit, -1.0):
            for target in known:
                if len(chosen) == self.level.kinds:
                    return chosen
                apart = (min(self.leg(plan_id, a, b) for a, b in ((target, c), (c, target))) for c in chosen)
                if target not in chosen and all(gap < distance < np.inf for distance in apart):
                    chosen.append(target)
        if len(chosen) < self.level.kinds:
            raise UsageError(f"house {self.library.plans[plan_id].name!r} has fewer than {self.level.kinds} targets")
        return chosen

    def _spread(self, kinds: list[int], repeats: np.ndarray) -> list[int]:
        """Return the sequence of goals: all ``kinds`` once, then draws from those that are not the last goal."""
        sequence = list(kinds)
        for draw in repeats[len(kinds) :].tolist():
            sequence.append([kind for kind in kinds if kind != sequence[-1]][draw])
        return sequence

    def _text(self, row: int, number: int) -> str:
        return f"find the {spoken(int(self.sequence[row, number]))}"

    def _judge(self, codes: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        level = self.level
        success = self._act(codes, active)
        self._effect = np.where(active, success, self._effect).astype(np.float32)
        called = active & (codes == DONE)
        right = self._called_right(called)
        rows = np.flatnonzero(active)
        distance = self.goals.update(rows)
        distance = np.where(active & np.isfinite(distance), distance, self._last_distance)
        reward = np.where(active, level.shaping * (self._last_distance - distance) - level.step_cost, 0.0)
        reward += right - level.wrong_cost * (called & ~right)
        self._last_distance = distance
        self.found += right
        self._path_at_last = np.where(right, self.path, self._path_at_last)
        finished = right & (self.found == level.goals)
        self._stopped |= called & ~right
        self._next_goals(np.flatnonzero(right & ~finished))
        terminated = finished | (called & ~right)
        truncated = active & (self.steps >= level.max_steps) & ~terminated
        return reward.astype(np.float32), terminated, truncated

    def _next_goals(self, rows: np.ndarray) -> None:
        """Give ``rows`` (M,), which have just found a goal, the next one."""
        for row in rows.tolist():
            number = int(self.found[row])
            self._set_goal(row, int(self.sequence[row, number]), self._text(row, number))
        if len(rows):
            distance = self.goals.update(rows)[rows]
            # A pose beside the grid has no distance; the length of the leg stands in, else the next reward is infinite.
            leg = self._legs[rows, self.found[rows]]
            self._last_distance[rows] = np.where(np.isfinite(distance), distance, leg)

    def _final_info(self) -> dict[str, np.ndarray]:
        return {
            "success": self.found == self.level.goals,
            "found": self.found.copy(),
            "stopped": self._stopped.copy(),
            "leg_geodesics": self._legs.copy(),
            "path_at_last_found": self._path_at_last.copy(),
            "path_length": self.path.copy(),
            "final_distance": self._last_distance.copy(),
            "goal_class": self.target.copy(),
        }

    def describe(self, row: int) -> dict[str, Any]:
        """Return the map and the sequence of goals as JSON-able values."""
        offers = self._offers[int(self.world.arrays.plan[row])]
        sequence = self.sequence[row].tolist()
        return {
            **super().describe(row),
            "goals": [TARGETS[target] for target in sequence],
            "targets": [list(offers[target]) for target in sequence],
        }

    def trace(self, row: int) -> dict[str, Any]:
        """Return pose, distance and the number of goals found so far of a row."""
        return {**super().trace(row), "found": int(self.found[row]), "target": TARGETS[int(self.target[row])]}


class MultiObjectNav(SingleEnv):
    """House-MultiObjectNav-v0 as a plain Gymnasium environment."""

    batched = BatchedMultiObjectNav
