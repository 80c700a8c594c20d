"""The state of the stand-in: one row of the House simulator, the names of its objects, and its cameras."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from embodied_mem.envs.house import classes as K
from embodied_mem.envs.house.batch import HouseWorld, WorldConfig
from embodied_mem.envs.house.library import PlanLibrary
from embodied_mem.envs.house.plan import HousePlan
from embodied_mem.envs.thor.standin import raycast
from embodied_mem.envs.thor.standin.settings import Settings

BODY_HEIGHT = 0.9
"""Height at which the agent's position is reported, metres."""
EYE = 1.5
RADIUS = 0.2
OPEN_FROM = 0.05
"""Openness from which a container counts as open."""
WALL = 3


@dataclass
class Camera:
    """Where a camera is and how it sees."""

    position: np.ndarray
    """(3,) metres."""
    yaw: float
    """Degrees."""
    pitch: float
    """Degrees, positive = down."""
    fov: float
    """Vertical field of view, degrees."""
    half: float = 0.0
    """Half the height in metres that an orthographic camera sees; 0 = perspective."""

    def axes(self) -> np.ndarray:
        """Return (3, 3) float64: right, up and forward."""
        yaw, pitch = math.radians(self.yaw), math.radians(self.pitch)
        s, c, sp, cp = math.sin(yaw), math.cos(yaw), math.sin(pitch), math.cos(pitch)
        return np.array([[c, 0.0, -s], [s * sp, cp, c * sp], [s * cp, -sp, c * cp]])


@dataclass
class Thing:
    """What a box is called and how it is beyond its pose in the world."""

    box: int
    name: str
    key: str
    """The objectId."""
    kind: str
    flags: int
    openness: float = 0.0
    tilt: tuple[float, float] = (0.0, 0.0)
    """Degrees about x and z: reported as they were set, not simulated."""


@dataclass
class Scene:
    """A plan that an agent plays in."""

    plan: HousePlan
    settings: Settings
    name: str
    labels: list[str] = field(default_factory=list)
    """Names of the boxes, empty = made from their class."""
    keys: list[str] = field(default_factory=list)
    """Object ids of the boxes, empty = made from class and place."""

    def __post_init__(self) -> None:
        library = PlanLibrary()
        plan_id = library.add(self.plan)
        self.world = HouseWorld(1, library, WorldConfig(radius=RADIUS, eye=EYE, step=self.settings.grid))
        self.world.load(np.zeros(1, np.int64), np.array([plan_id]))
        self.things: dict[str, Thing] = {}
        self.third: list[Camera] = []
        taken: dict[str, int] = {}
        for box in range(self.plan.num_boxes):
            flags = int(self.plan.box_flags[box])
            if flags & K.TRAY:
                continue
            kind = K.CLASS_NAMES[int(self.plan.box_class[box])]
            label = self.labels[box] if box < len(self.labels) else ""
            kind = label.rsplit("_", 1)[0] if label else kind
            x, y, z = self.centre(box)
            key = self.keys[box] if box < len(self.keys) else ""
            key = key or f"{kind}|{x:+06.2f}|{y:+06.2f}|{z:+06.2f}"
            taken[key] = taken.get(key, 0) + 1
            key = key if taken[key] == 1 else f"{key}|{taken[key]}"
            thing = Thing(box, label or f"{kind}_{box:08x}", key, kind, flags)
            thing.openness = float(bool(self.plan.box_open[box]))
            self.things[key] = thing
        self._place_agent()
        self.refresh()

    # Agent

    def _place_agent(self) -> None:
        """Put the agent on a grid point of the free floor, near the start that the plan names or the middle."""
        grid, spots = self.settings.grid, self.world.free_positions(0)
        wish = np.array(self.plan.start[:2]) if self.plan.start else spots.mean(axis=0)
        for x, z in spots[np.argsort(((spots - wish) ** 2).sum(axis=1), kind="stable")]:
            x, z = round(x / grid) * grid, round(z / grid) * grid
            if self.free(x, z):
                break
        yaw = math.degrees(self.plan.start[2]) if self.plan.start else 0.0
        self.place_agent(x, z, round(yaw / 90.0) * 90.0, 0.0)

    def place_agent(self, x: float, z: float, yaw: float, horizon: float) -> None:
        """Move the agent, metres and degrees."""
        self.world.place(np.zeros(1, np.int64), np.array([x]), np.array([z]), np.array([yaw]), horizon)

    def free(self, x: float, z: float) -> bool:
        """Return whether the agent may stand at a floor point."""
        from embodied_mem.envs.house import physics

        plans, state = self.world.plans, self.world.arrays
        room = physics.find_room(plans, 0, x, z, -1)
        return room >= 0 and physics.clearance(plans, state, 0, x, z, x, z, RADIUS)[0] >= RADIUS

    @property
    def agent(self) -> tuple[float, float, float, float]:
        """x, z (metres), yaw and horizon (degrees)."""
        state = self.world.arrays
        return float(state.position[0, 0]), float(state.position[0, 1]), float(state.yaw[0]), float(state.horizon[0])

    @property
    def held(self) -> Thing | None:
        """What the agent carries."""
        box = int(self.world.arrays.held[0])
        return next((thing for thing in self.things.values() if thing.box == box), None) if box >= 0 else None

    def eye(self) -> Camera:
        """Return the agent's camera."""
        x, z, yaw, horizon = self.agent
        return Camera(np.array([x, EYE, z]), yaw, horizon, self.settings.fov)

    # Objects

    def size(self, box: int) -> np.ndarray:
        """Return (3,) metres."""
        return self.plan.box_size[box].astype(np.float64)

    def centre(self, box: int) -> tuple[float, float, float]:
        """Return the middle of a box, metres; what is held is in front of the agent."""
        state = self.world.arrays
        if int(state.held[0]) == box:
            x, z, yaw, _ = self.agent
            angle = math.radians(yaw)
            return x + 0.4 * math.sin(angle), EYE - 0.3, z + 0.4 * math.cos(angle)
        x, y, z, _ = (float(value) for value in state.box_pose[0, box])
        return x, y + 0.5 * float(self.plan.box_size[box, 1]), z

    def set_pose(self, thing: Thing, position: dict[str, float], rotation: dict[str, float] | None) -> None:
        """Put an object's middle at a place; it lies on nothing then."""
        box = thing.box
        yaw = float(self.world.arrays.box_pose[0, box, 3]) if rotation is None else math.radians(rotation["y"])
        base = position["y"] - 0.5 * float(self.plan.box_size[box, 1])
        if int(self.world.arrays.held[0]) == box:
            self.world.arrays.held[0] = -1
        self.world.teleport(0, box, (position["x"], base, position["z"], yaw))
        if rotation is not None:
            thing.tilt = (float(rotation["x"]), float(rotation["z"]))
        self.refresh()

    def set_openness(self, thing: Thing, openness: float) -> None:
        """Open or close a container."""
        thing.openness = openness
        self.world.set_open(0, thing.box, openness > OPEN_FROM)
        self.refresh()

    def refresh(self) -> None:
        """Rebuild what rays can hit; call it after anything but the agent has moved."""
        plan, state, world = self.plan, self.world.arrays, self.world
        pose, count = state.box_pose[0, : plan.num_boxes].astype(np.float64), plan.num_boxes
        box = np.empty((count, 8))
        box[:, :3] = pose[:, :3]
        box[:, 3], box[:, 5] = 0.5 * plan.box_size[:, 0], 0.5 * plan.box_size[:, 2]
        box[:, 4] = plan.box_size[:, 1]
        box[:, 6], box[:, 7] = np.sin(pose[:, 3]), np.cos(pose[:, 3])
        shown = state.box_shown[0, :count] != 0
        walls, ids, colours = _walls(world, plan)
        self.solids = raycast.Solids(
            wall=walls,
            wall_id=ids,
            wall_rgb=colours,
            box=box,
            box_id=np.where(shown, plan.box_instance, -1).astype(np.int32),
            box_rgb=plan.box_rgb.copy(),
            room_start=plan.room_start.copy(),
            corner=plan.corners.astype(np.float64),
            room_rgb=plan.room_rgb[:, 1].copy(),
            height=float(plan.height),
        )

    def visible(self, camera: Camera | None = None, limit: float | None = None, only: int = -1) -> np.ndarray:
        """Return (B,) bool: which boxes (or ``only`` one) a camera (the agent's) sees within ``limit`` floor metres."""
        camera = camera or self.eye()
        tan_y = math.tan(math.radians(camera.fov) / 2)
        tan_x = tan_y * self.settings.width / self.settings.height
        out = np.zeros(self.plan.num_boxes, np.uint8)
        reach = self.settings.visibility if limit is None else limit
        raycast.seen(self.solids, camera.position, camera.axes(), tan_x, tan_y, reach, only, out)
        return out.astype(bool)

    def picture(self, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return rgb (H, W, 3) uint8, depth (H, W) float32 metres and instance numbers (H, W) int32 of a camera."""
        height, width = self.settings.height, self.settings.width
        rgb = np.zeros((height, width, 3), np.uint8)
        depth, ids = np.zeros((height, width), np.float32), np.zeros((height, width), np.int32)
        focal = 0.0 if camera.half > 0 else 0.5 * height / math.tan(math.radians(camera.fov) / 2)
        raycast.draw(self.solids, camera.position, camera.axes(), focal, camera.half, rgb, depth, ids)
        return rgb, depth, ids

    def colours(self) -> list[dict[str, Any]]:
        """Return the colour of every object in the instance picture, as the client wants it."""
        instances = self.plan.box_instance
        return [{"name": thing.key, "color": colour_of(int(instances[thing.box]))} for thing in self.things.values()]


def colour_of(number: int) -> list[int]:
    """Return the colour of an instance number."""
    return [number & 255, number >> 8 & 255, 80]


def _walls(world: HouseWorld, plan: HousePlan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return wall pieces (W, 6), their instance numbers (W,) and colours (W, 3); see `raycast.Solids`."""
    packed, openness = world.plans, world.arrays.door_openness[0]
    pieces, ids, colours = [], [], []

    def add(edge: np.ndarray, s0: float, s1: float, y0: float, y1: float, number: int, rgb: np.ndarray) -> None:
        if s1 - s0 > 1e-4 and y1 - y0 > 1e-4:
            a, b = edge[:2] + s0 * edge[4:6], edge[:2] + s1 * edge[4:6]
            pieces.append([a[0], a[1], b[0], b[1], y0, y1])
            ids.append(number)
            colours.append(rgb)

    for e in range(len(world.library.edge_float.array)):
        edge = packed.edge_float[e].astype(np.float64)
        rgb = plan.room_rgb[packed.edge_int[e, 0], 0]
        length, position = float(np.hypot(*(edge[2:4] - edge[:2]))), 0.0
        for k in range(packed.edge_int[e, 1], packed.edge_int[e, 2]):
            low, high, sill, head = (float(value) for value in packed.opening_float[k])
            kind, index, behind, _, instance, backwards = (int(value) for value in packed.opening_int[k])
            add(edge, position, low, 0.0, plan.height, WALL, rgb)
            add(edge, low, high, head, plan.height, WALL, rgb)
            if kind == 1:
                add(edge, low, high, 0.0, sill, WALL, rgb)
                add(edge, low, high, sill, head, instance, K.CLASS_RGB[K.WINDOW])
            else:
                closed = (1.0 if behind < 0 else 1.0 - float(openness[index])) * (high - low)
                ends = (high - closed, high) if backwards else (low, low + closed)
                add(edge, *ends, 0.0, head, instance, K.CLASS_RGB[K.DOOR])
            position = high
        add(edge, position, length, 0.0, plan.height, WALL, rgb)
    return (
        np.array(pieces, np.float64).reshape(-1, 6),
        np.array(ids, np.int32),
        np.array(colours, np.uint8).reshape(-1, 3),
    )
