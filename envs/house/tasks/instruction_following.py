"""House-InstructionFollowing-v0: "go to the fridge, then to the bed, then stop at the television", told once for all.

The whole instruction is in every observation, as text (``instruction``) and as one one-hot class per landmark in the
order of the visit (``goal``, n blocks of G). The agent goes to the first landmark and says Done there, to the second
and says Done, and so on; Done at the last one ends the episode with success. Done counts within 1.0 m of a box of the
landmark's class, with it in view; anywhere else, or out of order, it ends the episode as a failure. A call rather than
a mere passing by is what counts because a place passed on the way is its own reminder.

Memory demand. How far the agent has come is observed nowhere: ``vector`` holds no time and no count, ``goal`` and
``instruction`` never change, and a right call leaves every sensor as it was. All landmarks differ, and from no place
(cells of 0.1 m) can two of them be called. So an agent without memory calls again what it has just called, which is
wrong, or draws lots. Its walk does not depend on its calls; along the walk they come like clicks of a Poisson counter
(a step with calling chance p weighs -ln(1-p)), and success needs the i-th click near landmark i: with weights w_i near
all landmarks but the last at most prod(w_i e^-w_i) <= e^(1-n), 0.14 for n = 3 and 0.05 for n = 4. One that draws no
lots never succeeds. A counter of the own calls is the least memory; a map pays where a landmark was seen on the way to
an earlier one.

Success of random play 0.00, of the oracle (shortest ways, privileged) 1.00 at all levels. Landmarks are classes that
the ``scan`` shows: what stands on furniture is none unless it can be picked up. Metrics (family "instruction"): those
of MultiON over the landmarks, and nDTW, sDTW and CLS (`metrics.vln`, threshold 1.0 m) against the reference path: the
shortest way to where the first landmark can be called, from there on to where the second can be, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.house import classes as K
from embodied_mem.envs.house.batch import HouseWorld
from embodied_mem.envs.house.goals import GoalField, GoalFields
from embodied_mem.envs.house.library import PlanLibrary
from embodied_mem.envs.house.plan import HousePlan
from embodied_mem.envs.house.tasks.multi_object_nav import BatchedMultiObjectNav
from embodied_mem.envs.house.tasks.navigation import DONE, LOWEST_VIEW, NavigationLevel
from embodied_mem.envs.house.tasks.targets import TARGET_CLASS, TARGETS, spoken
from embodied_mem.envs.house.tasks.walkable import Walkable
from embodied_mem.errors import UsageError
from embodied_mem.geometry.paths import field_at, grid_path
from embodied_mem.metrics.vln import PATH_KEYS, vln_continuous
from embodied_mem.spaces import encode_text


@dataclass(frozen=True)
class InstructionLevel(NavigationLevel):
    """Difficulty of InstructionFollowing."""

    landmarks: int = 3
    """Landmarks per instruction, n >= 2."""
    leg_gap: float = 1.5
    """Least geodesic metres between two landmarks (less where the house is too small)."""

    def __post_init__(self) -> None:
        if self.landmarks < 2:
            raise UsageError(f"expected landmarks >= 2, got {self.landmarks}")

    @property
    def goals(self) -> int:
        """Goals per episode."""
        return self.landmarks

    @property
    def kinds(self) -> int:
        """Different classes among them: all."""
        return self.landmarks


class BatchedInstructionFollowing(BatchedMultiObjectNav):
    """N rows of House-InstructionFollowing-v0."""

    task: ClassVar[str] = "instruction-following"
    text_bytes: ClassVar[int] = 192
    vector_names: ClassVar[tuple[str, ...]] = ("effect", "look")
    levels: ClassVar[tuple[NavigationLevel, ...]] = (
        InstructionLevel(boxes=20, room_area=(18.0, 26.0), max_steps=200),
        InstructionLevel(rooms=(2, 3), boxes=30, start_gap=2.0, max_steps=500, landmarks=4, leg_gap=2.0),
        InstructionLevel(rooms=(4, 6), boxes=60, small=True, start_gap=3.0, max_steps=500, landmarks=5, leg_gap=3.0),
        InstructionLevel(rooms=(8, 10), boxes=100, small=True, start_gap=4.0, max_steps=1000, landmarks=6, leg_gap=4.0),
    )

    def __init__(self, num_envs: int = 1, **kwargs: Any) -> None:
        """Keywords as `HouseEnv`; the level's fields are those of `InstructionLevel`."""
        self._known: dict[int, tuple[list[int], np.ndarray, np.ndarray]] = {}
        super().__init__(num_envs, **kwargs)
        self._track = np.zeros((num_envs, self.level.max_steps + 1, 2))
        self._scores = {name: np.full(num_envs, np.nan) for name in PATH_KEYS}

    # Houses

    def _offered(self, plan: HousePlan) -> dict[int, tuple[int, ...]]:
        shown = (plan.box_parent < 0) | ((plan.box_flags & K.PICKUPABLE) != 0)
        return {target: boxes for target, boxes in super()._offered(plan).items() if shown[list(boxes)].all()}

    def _usable(self, plan: HousePlan) -> bool:
        world = HouseWorld(1, PlanLibrary(), self.world.config)
        plan_id = world.library.add(plan)
        fields, walkable = GoalFields(world, self.goal_limit), Walkable(world, plan_id)
        known: list[GoalField] = []
        for boxes in self._offered(plan).values():
            goal = fields.of(plan_id, boxes)
            if self._distances(goal, walkable).any():
                known.append(goal)
                if len(known) >= self._needed and _first_set(_apart(known), self._needed):
                    return True
        return False

    def _house_made(self, index: int, plan_id: int) -> None:
        super()._house_made(index, plan_id)
        known = [target for target in self._offers[plan_id] if len(self.starts_of(plan_id, target))]
        goals = [self.goal_of(plan_id, target) for target in known]
        stands = np.array([self.stand_of(plan_id, target) for target in known])
        legs = np.array([field_at(goal.field, goal.grid, stands) for goal in goals])
        self._known[plan_id] = known, _apart(goals), np.minimum(legs, legs.T)

    # Episodes

    def _begin_task(self, rows: np.ndarray, keys: np.ndarray) -> None:
        super()._begin_task(rows, keys)
        self._track[rows, 0] = self.world.arrays.position[rows]

    def _kinds(self, plan_id: int, order: np.ndarray) -> list[int]:
        """Return the landmarks of an episode: the first of ``order`` (G,) that fit together, far apart if possible."""
        known, apart, legs = self._known[plan_id]
        ranked = np.array([known.index(target) for target in order.tolist() if target in known])
        pairs = np.ix_(ranked, ranked)
        for gap in (self.level.leg_gap, 0.0):
            chosen = _first_set(apart[pairs] & (legs[pairs] > gap), self._needed)
            if chosen:
                return [known[index] for index in ranked[chosen]]
        raise UsageError(f"house {self.library.plans[plan_id].name!r} has no {self._needed} landmarks that lie apart")

    def _text(self, row: int, number: int) -> str:
        """Return the whole instruction, whatever landmark is next."""
        first, *middle, last = (spoken(target) for target in self.sequence[row].tolist())
        return ", then ".join([f"go to the {first}", *(f"to the {name}" for name in middle), f"stop at the {last}"])

    def _say(self, row: int, text: str) -> None:
        self._instruction[row] = encode_text(text, self.text_bytes)

    def _judge(self, codes: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        effect = self._effect
        reward, terminated, truncated = super()._judge(codes, active)
        # The effect of the action before the call stays: a right call must leave no trace.
        self._effect = np.where(active & (codes == DONE), effect, self._effect)
        rows = np.flatnonzero(active)
        self._track[rows, self.steps[rows]] = self.world.arrays.position[rows]
        for row in np.flatnonzero(terminated | truncated).tolist():
            self._measure(row)
        return reward, terminated, truncated

    def _measure(self, row: int) -> None:
        """Compare the path of a row whose episode has ended with the reference path."""
        track = self._track[row, : self.steps[row] + 1]
        scores = vln_continuous(track, self.reference(row), stopped=True, threshold=self.goal_limit)
        last = self.goal_of(int(self.world.arrays.plan[row]), int(self.sequence[row, -1]))
        success = float(self.found[row] == self.level.landmarks)
        scores = {**scores, "ne": last.at(*track[-1]), "sdtw": success * (scores["ndtw"] or 0.0)}
        for name, values in self._scores.items():
            found = scores[name]
            values[row] = np.nan if found is None else found

    def reference(self, row: int) -> np.ndarray:
        """Return (L, 2) x, z of the reference path of a row's episode, points at most 0.23 m apart."""
        plan_id, path = int(self.world.arrays.plan[row]), self._track[row, :1]
        for target in self.sequence[row].tolist():
            goal = self.goal_of(plan_id, target)
            leg = grid_path(goal.field, goal.grid, path[-1])
            far = field_at(goal.field, goal.grid, leg) > self.goal_limit
            path = np.concatenate([path, leg[: np.count_nonzero(far) + 1]])
        return path

    # What the agent is told

    def _vector(self) -> np.ndarray:
        look = np.clip(self.world.arrays.horizon / LOWEST_VIEW, -1.0, 1.0)
        return np.stack([self._effect, look], axis=1).astype(np.float32)

    def _goal(self) -> np.ndarray:
        out = np.zeros((self.num_envs, self.level.landmarks, len(TARGETS)), np.float32)
        np.put_along_axis(out, self.sequence[:, :, None], 1.0, axis=2)
        return out.reshape(self.num_envs, -1)

    def _space(self, name: str) -> spaces.Box:
        if name == "goal":
            return spaces.Box(0.0, 1.0, (self.level.landmarks * len(TARGETS),), np.float32)
        return super()._space(name)

    def _final_info(self) -> dict[str, np.ndarray]:
        return {**super()._final_info(), **{name: values.copy() for name, values in self._scores.items()}}

    def describe(self, row: int) -> dict[str, Any]:
        """Return the map, the landmarks in order and the reference path as JSON-able values."""
        return {**super().describe(row), "reference": self.reference(row).round(2).tolist()}


def next_landmark(goal: np.ndarray, calls: np.ndarray) -> np.ndarray:
    """Return (B,) int64 class ids of what an agent is to go to after so many right calls.

    Args:
        goal: (B, n * G) float32 as observed; with n = 1, the other navigation tasks, calls do not matter.
        calls: (B,) int64, as the agent remembers them.
    """
    coded = goal.reshape(len(goal), -1, len(TARGETS)).argmax(2)
    return TARGET_CLASS[coded[np.arange(len(goal)), np.minimum(calls, coded.shape[1] - 1)]]


def _apart(goals: Sequence[GoalField]) -> np.ndarray:
    """Return (K, K) bool: there is no cell from which both goals can be called."""
    regions = np.array([np.isfinite(goal.costs).reshape(-1) for goal in goals], np.float32)
    return regions @ regions.T == 0.0


def _first_set(fits: np.ndarray, count: int, chosen: tuple[int, ...] = ()) -> list[int]:
    """Return the first ``count`` indices, in the order of the rows of ``fits`` (K, K) bool, that fit pairwise; or [].

    >>> _first_set(np.array([[0, 0, 1], [0, 0, 1], [1, 1, 0]], bool), 2)
    [0, 2]
    """
    if len(chosen) == count:
        return list(chosen)
    for index in range(chosen[-1] + 1 if chosen else 0, len(fits)):
        if fits[index, list(chosen)].all():
            found = _first_set(fits, count, (*chosen, index))
            if found:
                return found
    return []


class InstructionFollowing(SingleEnv):
    """House-InstructionFollowing-v0 as a plain Gymnasium environment."""

    batched = BatchedInstructionFollowing
