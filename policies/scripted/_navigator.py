"""Walk to goals in a House with the true map: what all scripted House agents share.

A row plans once per goal (`geometry.motion`), follows the plan, plans anew where a move turns out to be blocked, and at
the goal turns (and looks down) until its last action would succeed. Where no heading does it, the place is left out and
another one is tried. The state is a dict of arrays with rows first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.geometry.camera import wrap_angle
from embodied_mem.geometry.grid import Grid
from embodied_mem.geometry.motion import MotionModel, bar, plan_motion, prepare

State = dict[str, np.ndarray]
GoalOf = Callable[[int], tuple[Grid, np.ndarray]]
"""Row -> free floor and (R, C) bool cells where the row would have arrived."""
PLAN, BARS, SPOTS = 256, 24, 8
MOVE, TURN_LEFT, TURN_RIGHT, LOOK_UP, LOOK_DOWN = range(5)
"""Codes of House's `Action`, which start with those of a plan."""
SPOT_RADIUS = 0.25
"""Metres around a place that turned out to be useless."""
LOOK = 30.0
"""Degrees per look action, and steepest look up; twice as far down."""


class Navigator:
    """Plans and follows plans for the rows of a batch; keeps no state of its own."""

    def initial_state(self, n: int) -> State:
        """Return the state of ``n`` rows that have no plan yet."""
        return {
            "plan": np.zeros((n, PLAN), np.int8),
            "length": np.zeros(n, np.int64),
            "cursor": np.zeros(n, np.int64),
            "whole": np.zeros(n, bool),
            "version": np.full(n, -1, np.int64),
            "before": np.full((n, 3), np.nan),
            "expected": np.full((n, 3), np.nan),
            "bars": np.full((n, BARS), -1, np.int64),
            "bar_count": np.zeros(n, np.int64),
            "spots": np.full((n, SPOTS, 2), np.inf),
            "spot_count": np.zeros(n, np.int64),
            "tries": np.zeros(n, np.int64),
        }

    def act(
        self,
        facts: Mapping[str, np.ndarray],
        state: State,
        reset: np.ndarray,
        *,
        goal_of: GoalOf,
        version: np.ndarray,
        target: np.ndarray,
        ready: np.ndarray,
    ) -> tuple[np.ndarray, State]:
        """Return actions (B,) int64 of the environment and the new state.

        Args:
            facts: what ``privileged()`` of a House task returns.
            state: as `initial_state`.
            reset: (B,) bool: a new episode begins.
            goal_of: where a row wants to go; asked for when it plans.
            version: (B,) int64, changes with the goal.
            target: (B, 3) x, y, z that a row looks at when it has arrived.
            ready: (B,) bool: the last action would succeed now.
        """
        state = {name: value.copy() for name, value in state.items()}
        fresh = self.initial_state(1)
        for name, value in state.items():
            value[reset] = fresh[name][0]
        pose = facts["pose_world"][:, [0, 2, 3]]
        # A finished row that nobody resets does not even turn: it is left alone.
        inert = (pose == state["before"]).all(1) & (np.abs(state["expected"] - state["before"]) > 1e-6).any(1)
        busy = ~facts["idle"] & ~ready & ~inert
        self._forget(state, version, busy)
        moved = np.abs(pose - state["expected"])
        moved[:, 2] = np.abs(wrap_angle(pose[:, 2] - state["expected"][:, 2]))
        # NaN, a row without a plan, counts as moved.
        lost = busy & (~(moved.max(1) < 1e-3) | ((state["cursor"] >= state["length"]) & ~state["whole"]))
        for row in np.flatnonzero(lost).tolist():
            self._plan(row, facts, pose[row], state, goal_of)
        code = self._next(state)
        blocked = busy & (code == MOVE) & ~facts["headings_free"][:, 0]
        for row in np.flatnonzero(blocked).tolist():
            grid, _ = goal_of(row)
            state["bars"][row, state["bar_count"][row] % BARS] = bar(grid, pose[row])
            state["bar_count"][row] += 1
            self._plan(row, facts, pose[row], state, goal_of)
        code = self._next(state)
        for row in np.flatnonzero(busy & (code < 0)).tolist():
            code[row] = self._look_about(row, facts, pose[row], target[row], state, goal_of)
        state["cursor"] += busy & (state["cursor"] < state["length"])
        state["expected"][~inert] = self._expected(pose, facts, np.where(busy, code, -1))[~inert]
        state["before"] = pose
        code = np.where(busy, code, facts["finish"])
        return facts["action_of"][np.arange(len(code)), code].astype(np.int64), state

    def _forget(self, state: State, version: np.ndarray, busy: np.ndarray) -> None:
        """Drop the plans of rows whose goal has changed, and what was learnt about places for the old goal."""
        changed = busy & (state["version"] != version)
        state["version"][changed] = version[changed]
        state["expected"][changed] = np.nan
        state["spots"][changed] = np.inf
        state["spot_count"][changed] = 0
        state["tries"][changed] = 0

    def _next(self, state: State) -> np.ndarray:
        """Return (B,) the code of the next planned action, -1 at the end of the plan."""
        rows, cursor = np.arange(len(state["cursor"])), state["cursor"]
        code = state["plan"][rows, np.minimum(cursor, PLAN - 1)].astype(np.int64)
        return np.where(cursor < state["length"], code, -1)

    def _plan(self, row: int, facts: Mapping[str, np.ndarray], pose: np.ndarray, state: State, goal_of: GoalOf) -> None:
        grid, goal = goal_of(row)
        spots = state["spots"][row]
        allowed = goal.copy()
        for spot in spots[np.isfinite(spots[:, 0])]:
            cells = np.argwhere(allowed)
            near = np.hypot(*(grid.centres_of(cells) - spot).T) < SPOT_RADIUS
            allowed[tuple(cells[near].T)] = False
        model = MotionModel(step=float(facts["step"][row]), turn=float(facts["turn"][row]))
        first, bars = facts["headings_free"][row], state["bars"][row]
        steps = None
        if allowed.any():
            steps = plan_motion(
                prepare(grid, allowed), pose, model, first=first, barred=bars[bars >= 0], limit=PLAN + 1
            )
        if steps is None:
            # Everything was tried: start over with a clean slate after one move to wherever there is room.
            state["spots"][row], state["spot_count"][row] = np.inf, 0
            state["bars"][row], state["bar_count"][row] = -1, 0
            turns = int(np.argmax(first))
            steps = np.array([TURN_RIGHT] * turns + [MOVE] * bool(first.any()) or [TURN_RIGHT], np.int8)
            state["whole"][row] = False
        else:
            state["whole"][row] = len(steps) <= PLAN
        count = min(len(steps), PLAN)
        state["plan"][row, :count] = steps[:count]
        state["length"][row], state["cursor"][row] = count, 0
        state["tries"][row] = 0

    def _look_about(
        self,
        row: int,
        facts: Mapping[str, np.ndarray],
        pose: np.ndarray,
        target: np.ndarray,
        state: State,
        goal_of: GoalOf,
    ) -> int:
        """Return the code that brings the target of a row that has arrived into view."""
        turn = float(np.radians(facts["turn"][row]))
        headings = facts["headings_free"].shape[1]
        flat = float(np.hypot(target[0] - pose[0], target[2] - pose[1]))
        bearing = float(np.arctan2(target[0] - pose[0], target[2] - pose[1]))
        off = float(wrap_angle(bearing - pose[2]))
        tries = int(state["tries"][row])
        if tries == 0 and abs(off) > 0.5 * turn + 1e-6:
            return TURN_RIGHT if off > 0 else TURN_LEFT
        state["tries"][row] += 1
        drop = float(facts["pose_world"][row, 1] - target[1])
        pitch = float(np.degrees(np.arctan2(drop, max(flat, 0.1))))
        wanted = float(np.clip(round(pitch / LOOK) * LOOK, -LOOK, 2 * LOOK))
        horizon = float(facts["horizon"][row])
        look = LOOK_DOWN if wanted > horizon else LOOK_UP
        if tries < 3 and abs(wanted - horizon) > 0.5 * LOOK and facts["action_of"][row, look] >= 0:
            return look
        if tries < headings + 3:
            return TURN_RIGHT
        state["spots"][row, state["spot_count"][row] % SPOTS] = pose[:2]
        state["spot_count"][row] += 1
        self._plan(row, facts, pose, state, goal_of)
        code = int(self._next(state)[row])
        return code if code >= 0 else TURN_RIGHT

    def _expected(self, pose: np.ndarray, facts: Mapping[str, np.ndarray], code: np.ndarray) -> np.ndarray:
        """Return (B, 3) where each row should be after its action (B,) int64; NaN where that is -1, not planned."""
        moving, turning = code == MOVE, np.radians(facts["turn"])
        expected = pose.copy()
        expected[moving, 0] += facts["step"][moving] * np.sin(pose[moving, 2])
        expected[moving, 1] += facts["step"][moving] * np.cos(pose[moving, 2])
        expected[:, 2] += np.where(code == TURN_RIGHT, turning, 0.0) - np.where(code == TURN_LEFT, turning, 0.0)
        expected[code < 0] = np.nan
        return expected


def grid_of(facts: Mapping[str, np.ndarray], row: int) -> Grid:
    """Return the free floor of a row."""
    rows, columns = (int(size) for size in facts["grid_shape"][row])
    x0, z0, cell = (float(value) for value in facts["grid_frame"][row])
    return Grid(facts["grid_free"][row, : rows * columns].reshape(rows, columns), cell, x0, z0)


def demand(facts: Mapping[str, np.ndarray] | None, agent: object) -> Mapping[str, np.ndarray]:
    """Return the privileged facts.

    Raises:
        UsageError: they were not given.
    """
    if facts is None:
        raise UsageError(f"{type(agent).__name__} needs privileged=env.privileged(), got None")
    return facts
