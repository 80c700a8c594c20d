"""``house-map``: a grid map and a planner on the House navigation tasks, from scan, pose and goal alone.

Every step writes the scan into a floor grid: rays make cells free, what they hit makes them occupied and leaves its
class there. A goal whose class was ever seen is planned to over the known floor (`geometry.motion`); one that was not
is looked for at the nearest frontier, where known floor borders on the unknown (Yamauchi 1997). Nothing is learnt, so
what it scores beyond an agent without memory is what a map can be worth here; its state is a row per environment, so
``wiped:k`` and ``shuffled`` disturb the map. Of an instruction it counts its own calls, in the state too.

Limits: poses are trusted (no loop closing under pose noise); one floor; cells never become unknown again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from embodied_mem.envs.house.tasks.instruction_following import next_landmark
from embodied_mem.envs.house.tasks.navigation import NavigationEnv
from embodied_mem.geometry.grid import Grid
from embodied_mem.geometry.motion import LEFT, MOVE, RIGHT, MotionModel, plan_motion, prepare
from embodied_mem.policies.scripted._scan import require_scan
from embodied_mem.registry import register

SIZE, CELL = 256, 0.125
"""Cells per side of the map and metres per cell; the episode starts in the middle."""
SIGHT = 5.0
"""Metres up to which rays make floor free; beyond them they leave gaps."""
COLUMNS, PLAN, REPLAN = 180, 96, 10
"""Columns of the scan, longest plan, actions after which a walk to the unknown is planned anew."""
RADIUS, REACH = 0.22, 0.92
"""Metres kept from obstacles, and within which a goal is called (the task allows 1.0)."""
UNKNOWN, FREE, WALL = 0, 1, 2
MOVES = {MOVE: "MoveAhead", LEFT: "RotateLeft", RIGHT: "RotateRight"}
"""Code of a plan -> action."""
SAMPLES = int(SIGHT / CELL * 1.5)
LOOKING_DOWN = 0.4
"""Look angle in ``vector`` from which low things near by are in view."""

State = dict[str, np.ndarray]


@register("agent", "house-map", about="House navigation: grid map, frontiers and a planner, nothing learnt")
class HouseMap:
    """Maps, plans, explores; reads ``scan``, ``pose``, ``vector`` and ``goal``."""

    needs_privileged = False

    @staticmethod
    def env_options(argument: str) -> dict[str, Any]:
        """Return the sensors that the agent needs."""
        return {"sensors": ("scan", "vector", "goal", "pose"), "scan_width": COLUMNS, "scan_layers": 2}

    def __init__(self, *, remember: bool = True) -> None:
        """Build the agent; without ``remember`` it explores the same way but forgets where it saw things."""
        self._codes = {name: NavigationEnv.actions.index(name) for name in NavigationEnv.actions}
        self._remember = remember
        angle = ((np.arange(COLUMNS) + 0.5) / COLUMNS - 0.5) * 2.0 * np.pi
        self._angle = angle
        self._share = (np.arange(SAMPLES) + 0.5) / SAMPLES * SIGHT
        offsets = np.arange(-2, 3) * CELL
        self._disc = np.hypot(offsets[:, None], offsets[None]) <= RADIUS + CELL / 2

    def initial_state(self, n: int, seed: int | None = None) -> State:
        """Return unknown worlds of ``n`` rows."""
        return {
            "floor": np.zeros((n, SIZE, SIZE), np.uint8),
            "label": np.full((n, SIZE, SIZE), -1, np.int16),
            "plan": np.zeros((n, PLAN), np.int8),
            "length": np.zeros(n, np.int64),
            "cursor": np.zeros(n, np.int64),
            "calls": np.zeros(n, np.int64),
            "goal": np.full(n, -1, np.int64),
            "known": np.zeros(n, bool),
            "moved": np.zeros(n, bool),
        }

    def act(
        self, obs: Mapping[str, np.ndarray], state: State, reset: np.ndarray, privileged: Any = None
    ) -> tuple[np.ndarray, State, dict[str, Any]]:
        """Return actions (B,) int64.

        Raises:
            UsageError: the observation lacks an entry, or the scan is another one.
        """
        require_scan("house-map", obs, ("scan", "pose", "vector", "goal"), COLUMNS)
        state = {name: value.copy() for name, value in state.items()}
        fresh = self.initial_state(1)
        for name, value in state.items():
            value[reset] = fresh[name][0]
        pose = obs["pose"][:, [0, 2, 3]].astype(np.float64)
        goal = next_landmark(obs["goal"], state["calls"])
        if not self._remember:
            state["label"][state["goal"] != goal] = -1
        self._bump(state, pose, obs["vector"])
        self._see(state, pose, obs["scan"])
        actions = np.empty(len(reset), np.int64)
        for row in range(len(reset)):
            actions[row] = self._decide(row, state, pose[row], int(goal[row]), obs)
        state["moved"] = actions == self._codes["MoveAhead"]
        state["calls"] += actions == self._codes["Done"]
        return actions, state, {}

    def _bump(self, state: State, pose: np.ndarray, vector: np.ndarray) -> None:
        """A move that failed puts an obstacle ahead."""
        rows = np.flatnonzero(state["moved"] & (vector[:, 0] < 0.5))
        ahead = 0.2 + CELL
        x, z = pose[rows, 0] + ahead * np.sin(pose[rows, 2]), pose[rows, 1] + ahead * np.cos(pose[rows, 2])
        i, j = _cell(z), _cell(x)
        state["floor"][rows, i, j] = WALL
        state["length"][rows] = 0

    def _see(self, state: State, pose: np.ndarray, scan: np.ndarray) -> None:
        """Write the scan (B, W, 6) into floor and labels."""
        n = len(pose)
        bearing = pose[:, 2:3] + self._angle
        sin, cos = np.sin(bearing), np.cos(bearing)
        depth = scan[:, :, 0].astype(np.float64)
        along = self._share
        i = _cell(pose[:, 1, None, None] + cos[:, :, None] * along)
        j = _cell(pose[:, 0, None, None] + sin[:, :, None] * along)
        rows = np.broadcast_to(np.arange(n)[:, None, None], i.shape)
        open_ = along < depth[:, :, None] - 0.5 * CELL
        floor = state["floor"]
        passed = (rows[open_], i[open_], j[open_])
        floor[passed] = np.where(floor[passed] == WALL, WALL, FREE)
        for layer in (0, 3):
            reach = scan[:, :, layer].astype(np.float64)
            code = scan[:, :, layer + 1].astype(np.int16)
            near = (reach > 0) & (reach < 19.9)
            i = _cell(pose[:, 1:2] + cos * (reach + 0.02))
            j = _cell(pose[:, 0:1] + sin * (reach + 0.02))
            rows2 = np.broadcast_to(np.arange(n)[:, None], i.shape)
            if layer == 0:
                solid = near & (reach < SIGHT)
                floor[rows2[solid], i[solid], j[solid]] = WALL
            else:
                near &= code > 0
            state["label"][rows2[near], i[near], j[near]] = code[near]

    def _decide(self, row: int, state: State, pose: np.ndarray, goal: int, obs: Mapping[str, np.ndarray]) -> int:
        """Return one row's action and keep its plan."""
        scan = obs["scan"][row]
        reach = np.minimum(
            np.where(scan[:, 1] == goal, scan[:, 0], np.inf), np.where(scan[:, 4] == goal, scan[:, 3], np.inf)
        )
        reach[reach <= 0] = np.inf
        best = int(reach.argmin())
        if obs["vector"][row, 1] < LOOKING_DOWN:
            return self._codes["LookDown"]
        if reach[best] <= REACH:
            near = self._angle[reach <= REACH]
            off = float(near[np.abs(near).argmin()])
            if abs(off) < np.radians(30.0):
                state["length"][row] = 0
                return self._codes["Done"]
            return self._codes["RotateRight" if off > 0 else "RotateLeft"]
        known = bool((state["label"][row] == goal).any())
        stale = state["cursor"][row] >= state["length"][row] or state["goal"][row] != goal
        stale |= known != state["known"][row] or (not known and state["cursor"][row] >= REPLAN)
        if stale:
            state["goal"][row], state["known"][row] = goal, known
            self._plan(row, state, pose, goal, known)
        if state["cursor"][row] >= state["length"][row]:
            return self._codes["RotateRight"]
        code = int(state["plan"][row, state["cursor"][row]])
        state["cursor"][row] += 1
        return self._codes[MOVES[code]]

    def _plan(self, row: int, state: State, pose: np.ndarray, goal: int, known: bool) -> None:
        """Plan to where the goal was seen, else to the nearest frontier."""
        floor, label = state["floor"][row], state["label"][row]
        seen = np.argwhere((floor != UNKNOWN) | (label >= 0))
        here = np.array([_cell(pose[1]), _cell(pose[0])])
        low = np.maximum(np.minimum(seen.min(0) if len(seen) else here, here) - 3, 0)
        high = np.minimum(np.maximum(seen.max(0) if len(seen) else here, here) + 4, SIZE)
        window = (slice(low[0], high[0]), slice(low[1], high[1]))
        part, marks = _filled(floor[window]), label[window]
        free = (part == FREE) & ~_grown(part == WALL, self._disc)
        free[tuple(here - low)] = True
        edge = (low[::-1] - SIZE // 2 - 0.5) * CELL
        grid = Grid(free, CELL, float(edge[0]), float(edge[1]))
        targets = []
        if known:
            spot = marks == goal
            targets = [_grown(spot, _disc(reach)) & free for reach in (0.75, REACH)]
        unknown = part == UNKNOWN
        targets.append(free & _grown(unknown, np.ones((3, 3), bool)))
        steps = None
        for target in targets:
            if target.any():
                steps = plan_motion(prepare(grid, target), pose, MotionModel(), limit=PLAN)
            if steps is not None and len(steps):
                break
        if known and (steps is None or len(steps) == 0):
            # seen from afar or wrongly placed: it is looked for again
            label[label == goal] = -1
        count = 0 if steps is None else min(len(steps), PLAN)
        if count and steps is not None:
            state["plan"][row, :count] = steps[:count]
        state["length"][row], state["cursor"][row] = count, 0


@register("agent", "house-map-forgetful", about="house-map that forgets where it saw things at every new goal")
class ForgetfulHouseMap(HouseMap):
    """The same explorer without object memory: what is left is the known floor."""

    def __init__(self) -> None:
        """Build the agent."""
        super().__init__(remember=False)


def _cell(metres: Any) -> Any:
    """Return grid indices of coordinates in metres, clipped to the map."""
    return np.clip(np.floor(np.asarray(metres) / CELL + 0.5).astype(np.int64) + SIZE // 2, 0, SIZE - 1)


def _disc(radius: float) -> np.ndarray:
    reach = int(radius / CELL)
    offsets = np.arange(-reach, reach + 1) * CELL
    return np.hypot(offsets[:, None], offsets[None]) <= radius


def _grown(cells: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Return ``cells`` (R, C) bool grown by a structuring element."""
    from scipy.ndimage import binary_dilation

    return binary_dilation(cells, structure=shape)


def _filled(floor: np.ndarray) -> np.ndarray:
    """Return the floor with single unknown cells between free ones made free: gaps between rays."""
    from scipy.ndimage import uniform_filter

    share = uniform_filter((floor == FREE).astype(np.float32), 3, mode="constant")
    return np.where((floor == UNKNOWN) & (share > 0.5), FREE, floor)
