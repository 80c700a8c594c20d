"""Observations of the street environment, one function per sensor; nothing in them needs a picture.

- ``vector``: junction type (4, one-hot: at most 2 links, 3, 4, more), angles of the links relative to the heading
  (degrees / 180, from left to right, padded) and a mask of them, change of heading by the last action (degrees / 180),
  last action (5, one-hot: forward, left, right, stop, turn around), actions played / 55.
- ``motion``: of these the agent's own: change of heading, last action, actions played (the control "no graph").
- ``traffic``: cosine and sine of the heading of the car that took the panorama, relative to the agent's: the direction
  of traffic in a one-way street. It comes from the graph's file (``pano_yaw_angle``), not from a picture.
- ``instruction``: UTF-8 bytes.
- ``landmarks``: (5 * names,) 1 where a landmark of the synthetic layer shows in a view bin.
- ``text_obs``: the same in words, UTF-8 bytes.
- ``pose``: metres and radians relative to the start (x right, z ahead).
- ``panorama``: features that users bring.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from gymnasium import spaces

from embodied_mem.envs.street.landmarks import NAMES
from embodied_mem.envs.street.verbalise import longest, verbalise
from embodied_mem.geometry.camera import relative_pose
from embodied_mem.spaces import encode_text

if TYPE_CHECKING:
    from embodied_mem.envs.street.env import BatchedStreet

SENSORS = ("vector", "motion", "traffic", "instruction", "landmarks", "text_obs", "pose", "panorama")


def vector_names(links: int = 5) -> list[str]:
    """Return what each entry of ``vector`` (11 + 2 * links,) holds."""
    return [
        *(f"junction_{item}" for item in ("2", "3", "4", "5")),
        *(f"angle_{k}" for k in range(links)),
        *(f"link_{k}" for k in range(links)),
        "heading_change",
        *(f"last_{item}" for item in ("forward", "left", "right", "stop", "turn_around")),
        "step",
    ]


def space_of(env: BatchedStreet, sensor: str) -> spaces.Space:
    """Return the single-env space of a sensor."""
    if sensor == "vector":
        return spaces.Box(-1.0, np.inf, (11 + 2 * env.max_links,), np.float32)
    if sensor == "motion":
        return spaces.Box(-1.0, np.inf, (7,), np.float32)
    if sensor == "traffic":
        return spaces.Box(-1.0, 1.0, (2,), np.float32)
    if sensor == "instruction":
        return spaces.Box(0, 255, (env.instruction_length,), np.uint8)
    if sensor == "landmarks":
        return spaces.Box(0.0, 1.0, (5 * len(NAMES),), np.float32)
    if sensor == "text_obs":
        return spaces.Box(0, 255, (longest(env.landmarks, env.actions),), np.uint8)
    if sensor == "pose":
        return spaces.Box(-np.inf, np.inf, (5,), np.float32)
    assert env.panoramas is not None
    return spaces.Box(-np.inf, np.inf, env.panoramas.shape, np.float32)


def read(env: BatchedStreet, sensor: str) -> np.ndarray:
    """Return what a sensor shows in all rows, a new array (N, ...)."""
    from embodied_mem.envs.street import _kernels

    n, world = env.num_envs, env.world
    if sensor in ("vector", "motion"):
        out = np.empty((n, 11 + 2 * env.max_links), np.float32)
        _kernels.observe(env.graph.arrays, world, env.max_links, out)
        return out if sensor == "vector" else out[:, 4 + 2 * env.max_links :].copy()
    if sensor == "traffic":
        angle = np.radians(env.graph.yaw[world.pano] - world.heading)
        return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    if sensor == "instruction":
        return env.instruction
    if sensor == "landmarks":
        out, layer = np.empty((n, 5 * len(NAMES)), np.float32), env.landmarks
        assert layer is not None
        _kernels.observe_landmarks(layer.first, layer.name, layer.bearing, len(NAMES), world, out)
        return out
    if sensor == "text_obs":
        length = longest(env.landmarks, env.actions)
        return np.stack([encode_text(describe_row(env, row), length) for row in range(n)])
    if sensor == "pose":
        return relative_pose(pose(env, world.pano, world.heading), env.origin).astype(np.float32)
    assert env.panoramas is not None
    rows = zip(world.pano.tolist(), world.heading.tolist())
    return np.stack([env.panoramas.look(pano, heading) for pano, heading in rows])


def pose(env: BatchedStreet, pano: np.ndarray, heading: np.ndarray) -> np.ndarray:
    """Return world poses (M, 5) float64 of panoramas (M,) and headings (M,) in degrees."""
    out = np.zeros((len(pano), 5))
    out[:, [0, 2]] = env.graph.xz[pano]
    out[:, 3] = np.radians(heading)
    return out


def describe_row(env: BatchedStreet, row: int) -> str:
    """Return what one row sees, in words."""
    world = env.world
    arrived = bool(world.before[row] >= 0 and world.before[row] != world.pano[row])
    return verbalise(env.graph, env.landmarks, int(world.pano[row]), int(world.heading[row]), arrived, env.actions)
