"""N houses in lockstep: the state of every row, and the operations that tasks call on it.

What a task does (rows are (M,) int64 indices of the batch, boxes are local indices of the row's plan):

- episode start: `load(rows, plan_ids)`, then `place(rows, x, z, yaw)` at a pose of `free_positions(plan id)`;
- step: `act(actions, active)`; afterwards `arrays.success`, `arrays.target` (instance acted on), `arrays.held`;
- look: `visible(rows, boxes, limit)`, `nearest_visible(rows, class ids, limit)`, `gap(rows, boxes)`;
- stage a scene: `set_open`, `put`, `hide`, `teleport`; `containers(plan id)`, `receptacles(plan id)`, `items(plan id)`;
- plan a path: `free_grid(plan id)` for `embodied_mem.geometry.paths`;
- report: `describe(row)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from embodied_mem.envs.house import classes as K
from embodied_mem.envs.house.arrays import PlanArrays, Rules, WorldArrays
from embodied_mem.envs.house.library import PlanLibrary
from embodied_mem.envs.house.plan import HousePlan
from embodied_mem.errors import UsageError
from embodied_mem.geometry.grid import Grid


@dataclass(frozen=True)
class WorldConfig:
    """Rules of motion and of the camera."""

    step: float = 0.25
    """MoveAhead, metres."""
    turn: float = 30.0
    """RotateLeft and RotateRight, degrees."""
    look: float = 30.0
    """LookUp and LookDown, degrees."""
    look_limits: tuple[float, float] = (-30.0, 60.0)
    """Smallest and largest horizon angle in degrees, positive = down."""
    radius: float = 0.18
    """Radius of the agent, metres."""
    eye: float = 1.5
    """Height of the camera, metres."""
    reach: float = 1.5
    """Largest floor distance at which an interaction works, metres."""
    hfov: float = 90.0
    """Horizontal field of view, degrees."""
    width: int = 64
    """Columns of the camera image."""
    height: int = 64
    """Rows of the camera image."""
    sliding: bool = False
    """Whether a blocked move slides along the obstacle. Off: the agent stays, and the move counts as failed."""

    def __post_init__(self) -> None:
        if not 10.0 <= self.hfov <= 150.0:
            raise UsageError(f"hfov must lie in [10, 150] degrees, got {self.hfov}")
        if self.width < 1 or self.height < 1:
            raise UsageError(f"the image needs at least one pixel, got {self.width} x {self.height}")
        if self.radius <= 0 or self.step <= 0 or self.eye <= 0:
            raise UsageError(f"step, radius and eye must be positive, got {self.step}, {self.radius}, {self.eye}")

    def rules(self) -> Rules:
        """Return the numbers for compiled code."""
        tan_x = math.tan(math.radians(self.hfov) / 2)
        return Rules(
            self.step,
            self.turn,
            self.look,
            self.look_limits[0],
            self.look_limits[1],
            self.radius,
            self.eye,
            self.reach,
            tan_x,
            tan_x * self.height / self.width,
            self.sliding,
        )


class HouseWorld:
    """State of ``num_envs`` rows playing in the plans of one library.

    >>> from embodied_mem.envs.house.builder import PlanBuilder
    >>> builder = PlanBuilder("one room")
    >>> _ = builder.room("Bedroom", [(0, 0), (0, 3), (4, 3), (4, 0)])
    >>> world = HouseWorld(2, PlanLibrary())
    >>> plan_id = world.library.add(builder.build())
    >>> world.load(np.arange(2), np.full(2, plan_id))
    >>> world.place(np.arange(2), np.array([1.0, 2.0]), np.array([1.0, 1.0]), np.array([0.0, 90.0]))
    >>> bool(world.act(np.array([0, 0]))[0]), world.arrays.position.round(2).tolist()
    (True, [[1.0, 1.25], [2.25, 1.0]])
    """

    def __init__(self, num_envs: int, library: PlanLibrary, config: WorldConfig | None = None) -> None:
        if num_envs < 1:
            raise UsageError(f"num_envs must be at least 1, got {num_envs}")
        self.num_envs = num_envs
        self.library = library
        self.config = config or WorldConfig()
        self.rules = self.config.rules()
        self._box_room = 1
        self._door_room = 1
        self.arrays = _empty(num_envs, 1, 1)
        self._grids: dict[tuple[int, float], Grid] = {}
        self._free: dict[int, np.ndarray] = {}
        self._all_active = np.ones(num_envs, np.bool_)

    @property
    def plans(self) -> PlanArrays:
        """The packed plans, for compiled code. Fetch it anew after `load`: packing may move the arrays."""
        return self.library.arrays()

    def plan(self, row: int) -> HousePlan:
        """Return the plan that a row plays in."""
        return self.library.plans[self.arrays.plan[row]]

    def load(self, rows: np.ndarray, plan_ids: np.ndarray) -> None:
        """Give ``rows`` (M,) the plans ``plan_ids`` (M,) in their initial state; the agents must be placed next."""
        self._grow()
        lib, state = self.library, self.arrays
        boxes, box_pose = lib.box_int.store, lib.box_pose.store
        doors = lib.door_float.store
        for row, plan_id in zip(rows.tolist(), plan_ids.tolist()):
            room0, _, _, _, door0, num_doors, box0, num_boxes, _, _ = lib.plan_int.store[plan_id].tolist()
            part = slice(box0, box0 + num_boxes)
            state.plan[row] = plan_id
            state.room[row] = room0
            state.held[row] = -1
            state.success[row] = 1
            state.target[row] = 0
            state.horizon[row] = 0.0
            state.box_pose[row, :num_boxes] = box_pose[part]
            state.box_parent[row, :num_boxes] = boxes[part, 3]
            state.box_inside[row, :num_boxes] = boxes[part, 4]
            state.box_room[row, :num_boxes] = boxes[part, 5]
            state.box_open[row, :num_boxes] = boxes[part, 6]
            state.box_shown[row, :num_boxes] = boxes[part, 8]
            state.door_openness[row, :num_doors] = doors[door0 : door0 + num_doors, 5]

    def _grow(self) -> None:
        if self.library.max_boxes > self._box_room or self.library.max_doors > self._door_room:
            old = self.arrays
            self._box_room = max(self.library.max_boxes, self._box_room)
            self._door_room = max(self.library.max_doors, self._door_room)
            self.arrays = _empty(self.num_envs, self._box_room, self._door_room)
            for before, after in zip(old, self.arrays):
                after[tuple(slice(0, n) for n in before.shape)] = before

    def place(
        self,
        rows: np.ndarray,
        x: np.ndarray,
        z: np.ndarray,
        yaw: np.ndarray,
        horizon: np.ndarray | float = 0.0,
        *,
        start: bool = True,
    ) -> None:
        """Put the agents of ``rows`` (M,) at x, z (M,) metres with yaw (M,) and horizon degrees.

        Args:
            start: also make this pose the origin of the `pose` sensor (an episode begins); False = the agent is moved.
        """
        from embodied_mem.envs.house import interact

        rows = np.asarray(rows, np.int64)
        interact.place(
            self.plans, self.arrays, rows, np.asarray(x, np.float64), np.asarray(z, np.float64), np.asarray(yaw, float)
        )
        self.arrays.horizon[rows] = horizon
        if start:
            self.arrays.start[rows, :2] = self.arrays.position[rows]
            self.arrays.start[rows, 2] = self.arrays.yaw[rows]

    def act(self, actions: np.ndarray, active: np.ndarray | None = None) -> np.ndarray:
        """Apply one `Action` code per row, ``actions`` (N,) int, to the ``active`` (N,) bool rows.

        Returns:
            (N,) uint8: 1 = the action had its effect. A view that the next call overwrites.
        """
        from embodied_mem.envs.house import interact

        chosen = self._all_active if active is None else active
        interact.act(self.plans, self.arrays, self.rules, np.asarray(actions, np.int64), chosen)
        return self.arrays.success

    def visible(self, rows: np.ndarray, boxes: np.ndarray, limit: float = math.inf) -> np.ndarray:
        """Return (M,) bool: row k sees box ``boxes[k]`` (-1 = never) within ``limit`` metres."""
        from embodied_mem.envs.house import sight

        out = np.zeros(len(rows), np.bool_)
        sight.visible_boxes(
            self.plans, self.arrays, self.rules, np.asarray(rows, np.int64), np.asarray(boxes, np.int64), limit, out
        )
        return out

    def nearest_visible(self, rows: np.ndarray, class_ids: np.ndarray, limit: float = math.inf) -> np.ndarray:
        """Return (M,) int32: nearest box of class ``class_ids[k]`` that row k sees within ``limit`` metres, or -1."""
        from embodied_mem.envs.house import sight

        out = np.full(len(rows), -1, np.int32)
        sight.visible_class(
            self.plans, self.arrays, self.rules, np.asarray(rows, np.int64), np.asarray(class_ids, np.int64), limit, out
        )
        return out

    def gap(self, rows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Return (M,) float64 floor distance in metres from each agent to the footprint of its box."""
        from embodied_mem.envs.house import sight

        out = np.zeros(len(rows))
        sight.box_gaps(self.plans, self.arrays, np.asarray(rows, np.int64), np.asarray(boxes, np.int64), out)
        return out

    def set_open(self, row: int, box: int, value: bool) -> None:
        """Open or close a container of one row, whatever the agent does.

        Raises:
            UsageError: the box cannot be opened.
        """
        from embodied_mem.envs.house import interact

        if not self.plan(row).box_flags[box] & K.OPENABLE:
            raise UsageError(f"box {box} ({self.class_of(row, box)}) cannot be opened")
        interact.set_open(self.plans, self.arrays, row, box, value)

    def put(self, row: int, item: int, holder: int) -> bool:
        """Lay a box on a receptacle, or in the tray of an openable one (open or not); False when there is no place."""
        from embodied_mem.envs.house import interact

        x, _, z, _ = (float(value) for value in self.arrays.box_pose[row, holder])
        return bool(interact.put(self.plans, self.arrays, row, item, holder, x, z))

    def hide(self, row: int, box: int) -> None:
        """Take a box out of the world; `put` or `teleport` brings it back."""
        self.arrays.box_shown[row, box] = 0
        self.arrays.box_parent[row, box] = -1
        self.arrays.box_inside[row, box] = 0

    def teleport(self, row: int, box: int, pose: tuple[float, float, float, float]) -> None:
        """Put a box at x, base y, z (metres), yaw (radians), lying on nothing."""
        self.hide(row, box)
        self.arrays.box_pose[row, box] = pose
        self.arrays.box_shown[row, box] = 1

    def set_door(self, row: int, door: int, openness: float) -> None:
        """Set the free part [0, 1] of a door's width."""
        self.arrays.door_openness[row, door] = min(1.0, max(0.0, openness))

    def class_of(self, row: int, box: int) -> str:
        """Return the class name of a box."""
        return K.CLASS_NAMES[int(self.plan(row).box_class[box])]

    def containers(self, plan_id: int) -> np.ndarray:
        """Return the boxes (n,) of a plan that open and close."""
        return np.flatnonzero(self.library.plans[plan_id].box_flags & K.OPENABLE)

    def receptacles(self, plan_id: int) -> np.ndarray:
        """Return the boxes (n,) of a plan that things can be laid on (not the openable ones)."""
        flags = self.library.plans[plan_id].box_flags
        return np.flatnonzero(((flags & K.RECEPTACLE) != 0) & ((flags & K.OPENABLE) == 0))

    def items(self, plan_id: int) -> np.ndarray:
        """Return the boxes (n,) of a plan that can be picked up."""
        return np.flatnonzero(self.library.plans[plan_id].box_flags & K.PICKUPABLE)

    def free_grid(self, plan_id: int, cell: float = 0.1) -> Grid:
        """Return where the agent may stand in a plan: furniture in its initial place, openable doors open. Cached."""
        key = (plan_id, cell)
        if key not in self._grids:
            self._grids[key] = self._make_grid(plan_id, cell)
        return self._grids[key]

    def _make_grid(self, plan_id: int, cell: float) -> Grid:
        from embodied_mem.envs.house import physics

        probe = HouseWorld(1, self.library, self.config)
        probe.load(np.array([0]), np.array([plan_id]))
        plan = self.library.plans[plan_id]
        probe.arrays.door_openness[0, : plan.num_doors][plan.door_openable] = 1.0
        x0, z0, x1, z1 = plan.bounds
        free = np.zeros((math.ceil((z1 - z0) / cell), math.ceil((x1 - x0) / cell)), np.bool_)
        physics.free_cells(probe.plans, probe.arrays, 0, x0, z0, cell, self.config.radius + 0.01, free)
        return Grid(free, cell, x0, z0)

    def free_positions(self, plan_id: int) -> np.ndarray:
        """Return (F, 2) float64 places x, z, 0.2 m apart, in the largest connected part of the free floor. Cached."""
        if plan_id not in self._free:
            from scipy import ndimage

            grid = self.free_grid(plan_id)
            labels, count = ndimage.label(grid.free)
            if count == 0:
                raise UsageError(f"plan {self.library.plans[plan_id].name!r} has no floor an agent could stand on")
            main = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
            thin = np.zeros_like(main)
            thin[::2, ::2] = True
            cells = np.argwhere(main & thin)
            self._free[plan_id] = grid.centres_of(cells if len(cells) else np.argwhere(main))
        return self._free[plan_id]

    def describe(self, row: int) -> dict:
        """Return the present map of a row as JSON-able values, for reports: rooms, doors, windows, boxes, agent."""
        from embodied_mem.envs.house.describe import describe_row

        return describe_row(self, row)


def _empty(rows: int, boxes: int, doors: int) -> WorldArrays:
    return WorldArrays(
        plan=np.zeros(rows, np.int32),
        position=np.zeros((rows, 2)),
        yaw=np.zeros(rows),
        horizon=np.zeros(rows),
        room=np.zeros(rows, np.int32),
        held=np.full(rows, -1, np.int32),
        start=np.zeros((rows, 3)),
        box_pose=np.zeros((rows, boxes, 4), np.float32),
        box_parent=np.full((rows, boxes), -1, np.int32),
        box_inside=np.zeros((rows, boxes), np.uint8),
        box_room=np.zeros((rows, boxes), np.int32),
        box_open=np.zeros((rows, boxes), np.uint8),
        box_shown=np.zeros((rows, boxes), np.uint8),
        door_openness=np.zeros((rows, doors), np.float32),
        success=np.ones(rows, np.uint8),
        target=np.zeros(rows, np.int32),
    )
