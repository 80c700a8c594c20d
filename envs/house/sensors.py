"""What an agent perceives: any subset of `rgb`, `depth`, `semantic`, `scan`, `pose`, `intrinsics`, at any size.

- `rgb` (H, W, 3) uint8, `depth` (H, W) float32 metres along the optical axis, `semantic` (H, W) int32 instance ids
  (`HousePlan.instance_class` gives their classes).
- `scan` (W, 3 or 6) float32, see `scan`; channels 1 and 2 (4 and 5) are integer codes of class and colour.
- `pose` (5,) float32: camera x, y, z in metres, yaw, pitch in radians in the frame of the episode's start, optionally
  noisy (every step adds to a drift, as odometry does). Pitch is always 0: the image plane stays upright and the look
  angle shows in `intrinsics` (4,) float32 fx, fy, cx, cy, so pose and intrinsics together unproject exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

from embodied_mem.envs import rng
from embodied_mem.envs.house import classes as K
from embodied_mem.envs.house.batch import HouseWorld
from embodied_mem.envs.house.colours import COLOUR_NAMES, colour_codes
from embodied_mem.errors import UsageError, nearest

SENSORS = ("rgb", "depth", "semantic", "scan", "pose", "intrinsics")
IMAGES = ("rgb", "depth", "semantic")
NOISE_STREAM = 977
"""Stream of `envs.rng` that pose noise is drawn from."""
MAX_INSTANCE = 1 << 20
"""Upper bound of instance ids in the observation space."""


@dataclass(frozen=True)
class SensorConfig:
    """Which sensors an agent has. Image size and field of view are those of `WorldConfig`."""

    sensors: tuple[str, ...] = ("rgb", "depth")
    """Names from `SENSORS`, without repeats."""
    scan_width: int = 64
    """Columns of the scan."""
    scan_range: float = 20.0
    """Larger scan distances are cut to this, metres."""
    scan_layers: int = 1
    """1 = (depth, class, colour); 2 = the same again for small objects."""
    pose_noise: tuple[float, float] = (0.0, 0.0)
    """Drift of the pose, standard deviations: share of the metres moved, share of the radians turned."""
    threads: int = 1
    """CPU threads for images; 1 inside rollout workers."""
    backend: str = "numba"
    """`numba` (CPU), `torch` (reference, any device) or `triton` (CUDA) draws the images."""

    def __post_init__(self) -> None:
        for name in self.sensors:
            if name not in SENSORS:
                raise UsageError(f"unknown sensor {name!r}{nearest(name, SENSORS)}; known: {', '.join(SENSORS)}")
        if len(set(self.sensors)) != len(self.sensors) or not self.sensors:
            raise UsageError(f"expected at least one sensor, each once, got {self.sensors}")
        if self.scan_layers not in (1, 2) or self.scan_width < 1:
            raise UsageError(
                f"expected scan_layers 1 or 2 and scan_width >= 1, got {self.scan_layers}, {self.scan_width}"
            )
        if self.backend not in ("numba", "torch", "triton"):
            raise UsageError(f"expected backend numba, torch or triton, got {self.backend!r}")
        if self.threads < 1 or min(self.pose_noise) < 0:
            raise UsageError(f"expected threads >= 1 and pose_noise >= 0, got {self.threads}, {self.pose_noise}")


class Sensors:
    """Reads the sensors of all rows of a world into its own buffers."""

    def __init__(self, world: HouseWorld, config: SensorConfig | None = None) -> None:
        self.world = world
        self.config = config or SensorConfig()
        n, rules = world.num_envs, world.config
        shapes: dict[str, tuple[tuple[int, ...], type]] = {
            "rgb": ((rules.height, rules.width, 3), np.uint8),
            "depth": ((rules.height, rules.width), np.float32),
            "semantic": ((rules.height, rules.width), np.int32),
            "scan": ((self.config.scan_width, 3 * self.config.scan_layers), np.float32),
            "pose": ((5,), np.float32),
            "intrinsics": ((4,), np.float32),
        }
        self.buffers: dict[str, np.ndarray] = {
            name: np.zeros((n, *shapes[name][0]), shapes[name][1]) for name in self.config.sensors
        }
        self.images = tuple(name for name in IMAGES if name in self.buffers)
        self._codes: tuple[int, np.ndarray, np.ndarray] = (-1, np.zeros(1, np.int32), np.zeros(1, np.int32))
        self._turns = column_turns(self.config.scan_width)
        self._drift = np.zeros((n, 3))
        self._last = np.zeros((n, 3))
        self._keys = np.zeros(n, np.uint64)
        self._moves = np.zeros(n, np.int64)
        self._renderer = None
        if self.images:
            from embodied_mem.envs.house.render import make_renderer

            self._renderer = make_renderer(world, self.config.backend, self.images, self.config.threads)

    def space(self) -> dict[str, spaces.Box]:
        """Return the Gymnasium space of every chosen sensor."""
        everything = {
            "rgb": lambda shape: spaces.Box(0, 255, shape, np.uint8),
            "depth": lambda shape: spaces.Box(0.0, np.inf, shape, np.float32),
            "semantic": lambda shape: spaces.Box(0, MAX_INSTANCE, shape, np.int32),
            "scan": self._scan_space,
            "pose": lambda shape: spaces.Box(-np.inf, np.inf, shape, np.float32),
            "intrinsics": lambda shape: spaces.Box(-np.inf, np.inf, shape, np.float32),
        }
        return {name: everything[name](self.buffers[name].shape[1:]) for name in self.config.sensors}

    def _scan_space(self, shape: tuple[int, ...]) -> spaces.Box:
        one = np.array([self.config.scan_range, K.NUM_CLASSES - 1, len(COLOUR_NAMES) - 1], np.float32)
        high = np.broadcast_to(np.tile(one, self.config.scan_layers), shape).astype(np.float32)
        return spaces.Box(np.zeros(shape, np.float32), high, shape, np.float32)

    def begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        """Start the odometry of ``rows`` (M,) anew; its noise depends on the episode ``keys`` (M,) uint64 alone."""
        self._drift[rows] = 0.0
        self._last[rows, :2] = self.world.arrays.position[rows]
        self._last[rows, 2] = self.world.arrays.yaw[rows]
        self._keys[rows] = keys
        self._moves[rows] = 0

    def observe(self) -> dict[str, np.ndarray]:
        """Return all chosen sensors, leading axis N. The arrays are the sensor's own: the next call overwrites them."""
        if "scan" in self.buffers:
            self._read_scan(self.buffers["scan"])
        if "pose" in self.buffers:
            self.buffers["pose"][:] = self.pose()
        if "intrinsics" in self.buffers:
            self.buffers["intrinsics"][:] = self.intrinsics()
        if self._renderer is not None:
            self._renderer.render({name: self.buffers[name] for name in self.images})
        return self.buffers

    def intrinsics(self) -> np.ndarray:
        """Return (N, 4) float32 fx, fy, cx, cy in pixels; looking down moves cy up by the focal length times tan."""
        rules = self.world.config
        focal = 0.5 * rules.width / self.world.rules.tan_x
        cy = 0.5 * rules.height - focal * np.tan(np.radians(self.world.arrays.horizon))
        out = np.empty((self.world.num_envs, 4), np.float32)
        out[:, 0] = out[:, 1] = focal
        out[:, 2], out[:, 3] = 0.5 * rules.width, cy
        return out

    def pose(self) -> np.ndarray:
        """Return (N, 5) float32 pose in the frame of the episode start, with drift where pose noise is on."""
        state = self.world.arrays
        here = np.concatenate([state.position, state.yaw[:, None]], 1)
        if max(self.config.pose_noise) > 0:
            self._add_drift(here)
        offset = here[:, :2] - state.start[:, :2] + self._drift[:, :2]
        angle = np.radians(state.start[:, 2])
        s, c = np.sin(angle), np.cos(angle)
        out = np.zeros((self.world.num_envs, 5), np.float32)
        out[:, 0] = offset[:, 0] * c - offset[:, 1] * s
        out[:, 2] = offset[:, 0] * s + offset[:, 1] * c
        turned = np.radians(here[:, 2]) - angle + self._drift[:, 2]
        out[:, 3] = (turned + math.pi) % (2 * math.pi) - math.pi
        return out

    def _add_drift(self, here: np.ndarray) -> None:
        moved = np.hypot(*(here[:, :2] - self._last[:, :2]).T)
        turned = np.abs(np.radians((here[:, 2] - self._last[:, 2] + 180.0) % 360.0 - 180.0))
        self._moves += (moved > 0) | (turned > 0)
        noise = rng.normal(self._keys[:, None], NOISE_STREAM, 3 * self._moves[:, None] + np.arange(3))
        self._drift[:, :2] += noise[:, :2] * (self.config.pose_noise[0] * moved)[:, None]
        self._drift[:, 2] += noise[:, 2] * self.config.pose_noise[1] * turned
        self._last[:] = here

    def _read_scan(self, out: np.ndarray) -> None:
        from embodied_mem.envs.house import scan

        library = self.world.library
        if self._codes[0] != len(library):
            walls = colour_codes(library.room_rgb.store[:, 0])
            self._codes = (len(library), walls, colour_codes(library.box_rgb.store))
        scan.scan(
            self.world.plans,
            self.world.arrays,
            self.world.config.eye,
            self.config.scan_range,
            self._turns,
            self._codes[1],
            self._codes[2],
            self.config.scan_layers,
            out,
        )


def column_turns(columns: int) -> np.ndarray:
    """Return (2, W) float32 sine and cosine of the angle between the heading and every column of a scan."""
    angle = ((np.arange(columns) + 0.5) / columns - 0.5) * 2.0 * np.pi
    return np.stack([np.sin(angle), np.cos(angle)]).astype(np.float32)
