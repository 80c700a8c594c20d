"""``house-octree-graph``: an explorer with an octree, a graph of places, and memories of things, on the House tasks.

Mem4Nav's parts (arXiv 2506.19433) without its learned front end, on what `house-map` reads, and depth:

    octree        `Octree` of what scan and depth showed at the pose: how solid every leaf is (`_octree_floor`)
    graph         `TopologyGraph` of places, new by distance or looks, loops closed where a clear way is seen
    memories      things by class and place: `ShortTermMemory` of recent ones, `LongTermMemory` of all (`_landmarks`)
    a goal seen   short-term memory answers if it holds the class near by, else the long-term memory; near places are
                  planned to on the octree's floor, what is unknown counting as free; far ones along the graph by A*
    else          the nearest frontier of the known floor; without one the place visited longest ago

Nothing is learnt. All that it knows is its state, rows first, so ``wiped:k`` and ``shuffled`` disturb all of it, its
count of its own calls too, which tells how far it is in an instruction; octrees and long-term memories are objects in
it, copied before they are written.

Limits: poses are trusted; classes come from the simulator's scan, which does not show what stands on furniture unless
it can be picked up (a microwave, a television); a thing once filed under a leaf is never unlearned.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from embodied_mem.envs.house.tasks.instruction_following import next_landmark
from embodied_mem.envs.house.tasks.navigation import NavigationEnv
from embodied_mem.geometry.motion import LEFT, MOVE, RIGHT, MotionModel, plan_motion, prepare
from embodied_mem.memory.spatial.frontiers import FREE, OCCUPIED, UNKNOWN, frontier_cells, frontier_groups
from embodied_mem.memory.spatial.octree import Octree
from embodied_mem.policies.rows import own_rows, put_rows
from embodied_mem.policies.scripted._landmarks import Landmarks
from embodied_mem.policies.scripted._octree_floor import CELL, DEPTH, Floor, disc, floor_of, grown, leaves_of, views
from embodied_mem.policies.scripted._scan import require_scan
from embodied_mem.registry import register

COLUMNS, PLAN, REPLAN, IDLE = 180, 96, 8, 6
"""Columns of the scan, longest plan, actions after which a plan is made anew, turns where there is nothing to do."""
BODY = disc(0.18 + CELL / 2)
NO_BODY = np.ones((1, 1), bool)
"""Cells that an obstacle keeps the agent's centre out of; and, where there is no other way, none but its own."""
REACH, ARRIVED = 0.92, 0.75
"""Metres within which the scan must show a goal to call it (the task allows 1.0), and that are walked up to."""
LOCAL = 4.0
"""Metres of way beyond which a place is walked to along the graph."""
LOOKING_DOWN = 0.4
"""Look angle in ``vector`` from which low things near by are in view."""
SHUNNED = 4
"""Places per goal that can be given up."""
LEAVES = 4096
"""Columns of leaves that a trace keeps."""
MOVES = {MOVE: "MoveAhead", LEFT: "RotateLeft", RIGHT: "RotateRight"}
READS = ("scan", "depth", "pose", "intrinsics", "vector", "goal")

State = dict[str, Any]


@register("agent", "house-octree-graph", about="House navigation: octree, graph of places, short- and long-term memory")
class HouseOctreeGraph:
    """Maps, remembers, plans, explores; reads `READS`."""

    needs_privileged = False
    record = False
    """Whether `act` also tells what it holds and recalled, for traces."""

    @staticmethod
    def env_options(argument: str) -> dict[str, Any]:
        """Return the sensors that the agent needs."""
        sensors = ("scan", "vector", "goal", "pose", "depth", "intrinsics")
        return {"sensors": sensors, "scan_width": COLUMNS, "scan_layers": 2, "width": 24, "height": 16}

    def __init__(self) -> None:
        """Build the agent."""
        self._codes = {name: NavigationEnv.actions.index(name) for name in NavigationEnv.actions}
        self._angle = ((np.arange(COLUMNS) + 0.5) / COLUMNS - 0.5) * 2.0 * np.pi
        self.landmarks = Landmarks()

    def initial_state(self, n: int, seed: int | None = None) -> State:
        """Return unknown worlds of ``n`` rows."""
        octree = np.empty(n, object)
        octree[:] = [Octree(1, cell=CELL, depth=DEPTH) for _ in range(n)]
        return {
            "octree": octree,
            "memory": self.landmarks.initial_state(n),
            "seen_from": np.full((n, 3), np.nan),
            "plan": np.zeros((n, PLAN), np.int8),
            "length": np.zeros(n, np.int64),
            "cursor": np.zeros(n, np.int64),
            "calls": np.zeros(n, np.int64),
            "goal": np.full(n, -1, np.int64),
            "known": np.zeros(n, bool),
            "news": np.zeros(n, bool),
            "moved": np.zeros(n, bool),
            "shunned": np.full((n, SHUNNED, 2), np.nan),
            "recalled": np.full((n, 2), np.nan),
        }

    def act(
        self, obs: Mapping[str, np.ndarray], state: State, reset: np.ndarray, privileged: Any = None
    ) -> tuple[np.ndarray, State, dict[str, Any]]:
        """Return actions (B,) int64.

        Raises:
            UsageError: the observation lacks an entry, or the scan is another one.
        """
        require_scan("house-octree-graph", obs, READS, COLUMNS)
        state = own_rows(state)
        rows = np.flatnonzero(reset)
        if len(rows):
            put_rows(state, rows, self.initial_state(len(rows)))
        pose = obs["pose"][:, [0, 2, 3]].astype(np.float64)
        goal = next_landmark(obs["goal"], state["calls"])
        self._bump(state, pose, obs["vector"])
        self._see(state, pose, obs)
        changed = state["goal"] != goal
        state["goal"][changed], state["length"][changed], state["shunned"][changed] = goal[changed], 0, np.nan
        actions = np.empty(len(reset), np.int64)
        for row in range(len(reset)):
            actions[row] = self._decide(row, state, pose[row], obs)
        state["moved"] = actions == self._codes["MoveAhead"]
        state["calls"] += actions == self._codes["Done"]
        return actions, state, self._told(state) if self.record else {}

    def _bump(self, state: State, pose: np.ndarray, vector: np.ndarray) -> None:
        """A move that failed puts a solid leaf ahead."""
        for row in np.flatnonzero(state["moved"] & (vector[:, 0] < 0.5)):
            x, z, yaw = pose[row]
            ahead = 0.2 + CELL
            spot = torch.tensor([[x + ahead * np.sin(yaw), -0.75, z + ahead * np.cos(yaw)]])
            state["octree"][row] = copy.copy(state["octree"][row])
            state["octree"][row].insert(spot, torch.ones(1, 1))
            state["length"][row] = 0

    def _see(self, state: State, pose: np.ndarray, obs: Mapping[str, np.ndarray]) -> None:
        """Write into octree, graph and memories; the scan looks all around, so only a new place shows new things."""
        look = np.concatenate([pose[:, :2], obs["vector"][:, 1:2]], 1)
        # a cell that was seen from here before is written anew only from elsewhere
        rows = np.flatnonzero(~(np.abs(look - state["seen_from"]) < 0.01).all(1))
        state["seen_from"][rows] = look[rows]
        if len(rows):
            shown = views(*(obs["pose"][rows], self._angle, *(obs[k][rows] for k in ("scan", "depth", "intrinsics"))))
            for row, (points, tokens) in zip(rows, shown, strict=True):
                state["octree"][row] = copy.copy(state["octree"][row])
                state["octree"][row].insert(points, tokens)
        memory = self.landmarks.visit(pose[:, :2], obs["scan"], state["memory"], state["octree"])
        new, state["memory"] = self.landmarks.write(rows, pose[rows], self._angle, obs["scan"][rows], memory)
        state["news"][:] = False
        state["news"][rows] = new

    def _decide(self, row: int, state: State, pose: np.ndarray, obs: Mapping[str, np.ndarray]) -> int:
        """Return one row's action and keep its plan."""
        scan, goal = obs["scan"][row], int(state["goal"][row])
        if obs["vector"][row, 1] < LOOKING_DOWN:
            return self._codes["LookDown"]
        reach = np.minimum(
            np.where(scan[:, 1] == goal, scan[:, 0], np.inf), np.where(scan[:, 4] == goal, scan[:, 3], np.inf)
        )
        reach[reach <= 0] = np.inf
        if reach.min() <= REACH:
            near = self._angle[reach <= REACH]
            off = float(near[np.abs(near).argmin()])
            if abs(off) < np.radians(30.0):
                state["length"][row] = 0
                return self._codes["Done"]
            return self._codes["RotateRight" if off > 0 else "RotateLeft"]
        stale = state["cursor"][row] >= min(state["length"][row], REPLAN)
        if stale or (state["news"][row] and not state["known"][row]):
            found = self._recall(row, goal, pose, state)
            if stale or len(found):
                state["known"][row] = len(found) > 0
                self._plan(row, state, pose, found)
        code = int(state["plan"][row, state["cursor"][row]])
        state["cursor"][row] += 1
        return self._codes[MOVES[code]]

    def _recall(self, row: int, goal: int, pose: np.ndarray, state: State) -> np.ndarray:
        """Return the places (m, 2) where the goal was seen and that were not given up."""
        found = self.landmarks.recall(row, goal, pose[:2], state["memory"]).places
        given_up = np.linalg.norm(found[:, None] - state["shunned"][row], axis=-1) < 0.5
        found = found[~given_up.any(1)]
        state["recalled"][row] = found[0] if len(found) else np.nan
        return found

    def _plan(self, row: int, state: State, pose: np.ndarray, found: np.ndarray) -> None:
        """Plan to where the goal was seen, else to what is not known yet."""
        floor = floor_of(state["octree"][row], pose[:2])
        steps = None
        if len(found):
            steps = self._to_goal(row, state, pose, found, floor)
            if steps is None or not len(steps):
                # stood there, or there is no way: it is looked for elsewhere
                state["shunned"][row] = np.roll(state["shunned"][row], 1, axis=0)
                state["shunned"][row, 0] = found[0]
        if steps is None or not len(steps):
            steps = self._explore(row, state, pose, floor)
        if steps is None or not len(steps):
            steps = np.full(IDLE, RIGHT, np.int8)
        count = min(len(steps), PLAN)
        state["plan"][row, :count] = steps[:count]
        state["length"][row], state["cursor"][row] = count, 0

    def _to_goal(self, row: int, state: State, pose: np.ndarray, found: np.ndarray, floor: Floor) -> np.ndarray | None:
        """Return actions towards the recalled places (m, 2); floor not seen yet counts as free."""
        apart = np.linalg.norm(found - pose[:2], axis=1)
        way, metres = self.landmarks.route(row, found[apart.argmin()], state["memory"], state["octree"][row])
        # by the way, not by the straight line: whichever changes as one walks, only the former never turns one back
        if LOCAL < metres < np.inf:
            ahead = [place for place in way[1:] if np.linalg.norm(place - pose[:2]) <= LOCAL]
            if ahead:
                steps = _walk(floor, pose, floor.near(np.array(ahead[-1:]), 0.4), unknown=False)
                if steps is not None and len(steps):
                    return steps
        for reach, body in ((ARRIVED, BODY), (REACH, BODY), (ARRIVED, NO_BODY)):
            steps = _walk(floor, pose, floor.near(found, reach), unknown=True, body=body)
            if steps is not None and len(steps):
                return steps
        return None

    def _explore(self, row: int, state: State, pose: np.ndarray, floor: Floor) -> np.ndarray | None:
        """Return actions to the nearest frontier, else to the place visited longest ago."""
        kind = np.where(floor.free, FREE, np.where(floor.solid, OCCUPIED, UNKNOWN))
        edge = frontier_cells(torch.from_numpy(kind)[None])[0].numpy()
        for least in (3, 1):
            groups = frontier_groups(edge, least)
            target = np.zeros_like(edge)
            for cells in groups:
                target[tuple(cells.T)] = True
            for spread in (0.15, 0.4):
                steps = _walk(floor, pose, grown(target, disc(spread)), unknown=False)
                if steps is not None and len(steps):
                    return steps
        # everything in sight is known: what was given up may be worth another try from elsewhere
        state["shunned"][row] = np.nan
        return _walk(floor, pose, floor.near(self.landmarks.stalest(row, state["memory"])[None], 0.4), unknown=True)

    def _told(self, state: State) -> dict[str, Any]:
        """Return what traces keep: nodes, edges, leaves seen from above, and what was recalled (see `viewer.spatial`).

        ``weights`` and ``age`` (n, N): the node next to the recalled place, and steps since every node was visited.
        """
        graph = state["memory"]["graph"]
        place, held = graph["place"][:, :, [0, 2]].numpy(), (graph["time"] >= 0).numpy()
        recalled = state["recalled"]
        apart = np.where(held, np.linalg.norm(place - recalled[:, None], axis=-1), np.inf)
        weights = (apart == apart.min(1, keepdims=True)) & ~np.isnan(recalled[:, :1])
        age = np.where(held, (graph["clock"][:, None] - 1 - graph["time"]).numpy(), -1)
        shown = np.full((len(recalled), LEAVES, 3), np.nan, np.float16)
        for row, octree in enumerate(state["octree"]):
            leaves = leaves_of(octree)[:LEAVES]
            shown[row, : len(leaves)] = leaves
        inspect = {
            "weights": weights.astype(np.float32),
            "age": age.astype(np.float32),
            "node": np.where(held[..., None], place, np.nan).astype(np.float32),
            "edge": np.isfinite(graph["weight"].numpy()),
            "leaf": shown,
            "recalled": recalled.astype(np.float32),
        }
        return {"inspect": inspect}


def _walk(
    floor: Floor, pose: np.ndarray, target: np.ndarray, *, unknown: bool, body: np.ndarray = BODY
) -> np.ndarray | None:
    """Return actions to the nearest cell of ``target`` (R, C) bool; with ``unknown`` also over floor never seen."""
    free = (floor.free | floor.unknown if unknown else floor.free) & ~grown(floor.solid, body)
    row, column = floor.grid(free).cells_of(pose[:2])
    free[row, column] = True
    target = target & free
    if not target.any():
        return None
    return plan_motion(prepare(floor.grid(free), target), pose, MotionModel(), limit=PLAN)
