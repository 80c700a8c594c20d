"""From the client's events to observations: pictures, depth, instance numbers, the camera's pose and intrinsics."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from gymnasium import spaces

from embodied_mem.envs.thor.player import PlayerConfig
from embodied_mem.errors import UsageError, nearest
from embodied_mem.geometry.camera import relative_pose

if TYPE_CHECKING:
    from ai2thor.server import Event

SENSORS = ("rgb", "depth", "semantic", "pose", "intrinsics")
MAX_INSTANCE = 1 << 16


def check_sensors(names: tuple[str, ...], own: tuple[str, ...]) -> None:
    """Raise UsageError unless ``names`` are different sensors of `SENSORS` or of the task's ``own``."""
    known = (*SENSORS, *own)
    for name in names:
        if name not in known:
            raise UsageError(f"unknown sensor {name!r}{nearest(name, known)}; available: {', '.join(known)}")
    if not names or len(set(names)) != len(names):
        raise UsageError(f"expected at least one sensor and none twice, got {list(names)}")


def sensor_space(name: str, config: PlayerConfig) -> spaces.Box:
    """Return the space of one of `SENSORS`."""
    shape = (config.height, config.width)
    if name == "rgb":
        return spaces.Box(0, 255, (*shape, 3), np.uint8)
    if name == "depth":
        return spaces.Box(0.0, np.inf, shape, np.float32)
    if name == "semantic":
        return spaces.Box(0, MAX_INSTANCE, shape, np.int32)
    return spaces.Box(-np.inf, np.inf, (5,) if name == "pose" else (4,), np.float32)


class Lens:
    """Reads one player's events; instance numbers are those of one episode.

    Args:
        config: size and field of view of the picture.
        sensors: names from `SENSORS`.
    """

    def __init__(self, config: PlayerConfig, sensors: tuple[str, ...]) -> None:
        self.config = config
        self.sensors = sensors
        self.numbers: dict[str, int] = {}
        """Object id -> number in ``semantic``; 0 is what belongs to no object."""
        self._start = np.zeros(5)

    def begin(self, event: Event) -> None:
        """Start an episode: its pose becomes the origin of ``pose``."""
        self.numbers = {}
        self._start = camera_pose(event)

    def read(self, event: Event) -> dict[str, np.ndarray]:
        """Return the sensors, each a new array that may be written to."""
        out: dict[str, np.ndarray] = {}
        for name in self.sensors:
            if name == "rgb":
                # The client hands out read-only views with negative strides.
                out[name] = np.ascontiguousarray(event.frame, dtype=np.uint8).copy()
            elif name == "depth":
                out[name] = np.array(event.depth_frame, dtype=np.float32, order="C")
            elif name == "semantic":
                out[name] = self._semantic(event)
            elif name == "pose":
                out[name] = relative_pose(camera_pose(event), self._start).astype(np.float32)
            elif name == "intrinsics":
                focal = 0.5 * self.config.height / math.tan(math.radians(self.config.fov) / 2)
                middle = (0.5 * self.config.width, 0.5 * self.config.height)
                out[name] = np.array([focal, focal, *middle], dtype=np.float32)
        return out

    def _semantic(self, event: Event) -> np.ndarray:
        for entry in event.metadata["objects"]:
            self.numbers.setdefault(entry["objectId"], len(self.numbers) + 1)
        colours = event.instance_segmentation_frame.astype(np.uint32)
        packed = colours[..., 0] | colours[..., 1] << 8 | colours[..., 2] << 16
        known = {
            int(red) | int(green) << 8 | int(blue) << 16: self.numbers[key]
            for key, (red, green, blue) in event.object_id_to_color.items()
            if key in self.numbers
        }
        found, inverse = np.unique(packed, return_inverse=True)
        table = np.array([known.get(int(value), 0) for value in found], dtype=np.int32)
        return table[inverse].reshape(packed.shape)


def camera_pose(event: Event) -> np.ndarray:
    """Return (5,) float64 world pose of the agent's camera: x, y, z metres, yaw, pitch radians (positive = down)."""
    data = event.metadata
    place = data.get("cameraPosition") or data["agent"]["position"]
    yaw, pitch = math.radians(data["agent"]["rotation"]["y"]), math.radians(data["agent"]["cameraHorizon"])
    return np.array([place["x"], place["y"], place["z"], yaw, pitch])


def floor_place(event: Event) -> np.ndarray:
    """Return (2,) float64 x, z of the agent, metres."""
    place = event.metadata["agent"]["position"]
    return np.array([place["x"], place["z"]])
