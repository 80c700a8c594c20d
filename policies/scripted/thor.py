"""Oracle of the AI2-THOR navigation tasks: over reachable grid points to a pose that reaches the goal.

It moves along the axes of the grid only, so the turning angle must divide 90 degrees. A move that turns out to be
blocked, and a pose from which the goal is not reached after all, are left out from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.geometry.grid import Grid
from embodied_mem.geometry.paths import distance_field
from embodied_mem.policies.scripted._navigator import demand
from embodied_mem.registry import register

State = dict[str, np.ndarray]
MOVE, LEFT, RIGHT, UP, DOWN, DONE = range(6)
NOTES = 32
"""Blocked places and useless poses that a row remembers."""
TASKS = ("embodied_mem/Thor-ObjectNav-v0", "embodied_mem/Thor-PointNav-v0")


@register("agent", "thor-oracle", oracle_for=TASKS, about="shortest way over AI2-THOR's reachable points")
class ThorOracle:
    """Walks the reachable points; reads ``env.privileged()``."""

    needs_privileged = True

    def initial_state(self, n: int, seed: int | None = None) -> State:
        """Return the state of ``n`` rows."""
        return {
            "blocked": np.full((n, NOTES, 2), np.nan),
            "useless": np.full((n, NOTES, 4), np.nan),
            "tried": np.full((n, 2), np.nan),
        }

    def act(
        self, obs: Any, state: State, reset: np.ndarray, privileged: Mapping[str, np.ndarray] | None = None
    ) -> tuple[np.ndarray, State, dict[str, Any]]:
        """Return the best actions (B,) int64.

        Raises:
            UsageError: ``privileged`` was not given, or the turning angle does not divide 90 degrees.
        """
        facts = demand(privileged, self)
        n = len(reset)
        fresh = self.initial_state(n)
        state = {
            name: np.where(reset.reshape(-1, *(1,) * (value.ndim - 1)), fresh[name], value)
            for name, value in state.items()
        }
        actions = np.full(n, DONE, dtype=np.int64)
        for row in range(n):
            # A row that has lost its player has no points; any action will do.
            if facts and np.isfinite(facts["points"][row]).any():
                actions[row] = _choose({name: value[row] for name, value in facts.items()}, state, row)
        return actions, state, {}


def _choose(facts: Mapping[str, np.ndarray], state: State, row: int) -> int:
    if facts["ready"]:
        return DONE
    turn, step = float(facts["turn"]), float(facts["step"])
    if abs(90.0 / turn - round(90.0 / turn)) > 1e-6:
        raise UsageError(f"the AI2-THOR oracle needs a turning angle that divides 90 degrees, got {turn}")
    points = facts["points"][np.isfinite(facts["points"][:, 0])]
    here, yaw = facts["pose_world"][[0, 2]], np.degrees(facts["pose_world"][3])
    low = points.min(axis=0) - 0.5 * step
    cells = np.floor((points - low) / step + 1e-6).astype(np.int64)
    free = np.zeros(tuple(cells.max(axis=0)[::-1] + 1), np.bool_)
    free[cells[:, 1], cells[:, 0]] = True
    grid = Grid(free, step, float(low[0]), float(low[1]))
    if np.isfinite(state["tried"][row]).all() and np.abs(state["tried"][row] - here).max() > 0.5 * step:
        _note(state["blocked"][row], state["tried"][row])
    state["tried"][row] = np.nan
    blocked = state["blocked"][row]
    blocked = grid.cells_of(blocked[np.isfinite(blocked[:, 0])])
    free[blocked[:, 0], blocked[:, 1]] = False
    cell = grid.cells_of(here)
    free[tuple(cell)] = True
    poses = _useful(facts["goal_poses"], state["useless"][row])
    stands = grid.cells_of(poses[:, :2])
    at = (stands == cell).all(axis=1)
    if at.any():
        pose = poses[at][np.argmin(np.nan_to_num(np.abs(_bend(poses[at][:, 2] - yaw))))]
        bend = 0.0 if np.isnan(pose[2]) else float(_bend(pose[2] - yaw))
        if abs(bend) > 0.5 * turn:
            return RIGHT if bend > 0 else LEFT
        tilt = 0.0 if np.isnan(pose[3]) else float(pose[3] - facts["horizon"])
        if abs(tilt) > 1.0:
            return DOWN if tilt > 0 else UP
        _note(state["useless"][row], pose)
        return LEFT
    field = distance_field(grid, stands, neighbours=4)
    best, heading = np.inf, 0.0
    for dr, dc, angle in ((1, 0, 0.0), (0, 1, 90.0), (-1, 0, 180.0), (0, -1, 270.0)):
        r, c = int(cell[0]) + dr, int(cell[1]) + dc
        if 0 <= r < free.shape[0] and 0 <= c < free.shape[1] and field[r, c] < best:
            best, heading = float(field[r, c]), angle
    if not np.isfinite(best):
        return DONE
    bend = float(_bend(heading - yaw))
    if abs(bend) > 0.5 * turn:
        return RIGHT if bend > 0 else LEFT
    angle = np.radians(heading)
    state["tried"][row] = here + step * np.array([np.sin(angle), np.cos(angle)])
    return MOVE


def _bend(degrees: Any) -> Any:
    """Return angles moved into [-180, 180)."""
    return (degrees + 180.0) % 360.0 - 180.0


def _useful(poses: np.ndarray, useless: np.ndarray) -> np.ndarray:
    """Return the poses (G, 4) that are none of the noted ones; all of them where nothing would be left."""
    poses = poses[np.isfinite(poses[:, 0])]
    noted = useless[np.isfinite(useless[:, 0])]
    same = np.isclose(poses[:, None], noted[None], equal_nan=True).all(axis=2).any(axis=1)
    return poses[~same] if (~same).any() else poses


def _note(notes: np.ndarray, value: np.ndarray) -> None:
    """Write ``value`` into the first free line of ``notes`` (K, D), in place; a full list is left as it is."""
    free = np.flatnonzero(np.isnan(notes[:, 0]))
    if len(free):
        notes[free[0]] = value
