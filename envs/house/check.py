"""Checks a plan with the agent's own collision test: can every room and every container be reached?"""

from __future__ import annotations

import math

import numpy as np

from embodied_mem.envs.house import classes as K
from embodied_mem.envs.house.plan import HousePlan

CELL = 0.125
"""Edge of a flood-fill cell, metres."""


def problems(plan: HousePlan, radius: float = 0.18) -> list[tuple[str, int]]:
    """Return (what, room) for every room that is cut off and every container whose front cannot be stood at.

    Args:
        plan: the house; openable doors count as open.
        radius: of the agent, metres.
    """
    from scipy import ndimage

    from embodied_mem.envs.house.batch import HouseWorld, WorldConfig
    from embodied_mem.envs.house.library import PlanLibrary

    library = PlanLibrary()
    plan_id = library.add(plan)
    grid = HouseWorld(1, library, WorldConfig(radius=radius)).free_grid(plan_id, CELL)
    labels, count = ndimage.label(grid.free)
    if count == 0:
        return [("no free floor", room) for room in range(plan.num_rooms)]
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    main = labels == int(np.argmax(sizes))
    rows, columns = np.nonzero(main)
    places = grid.centres_of(np.stack([rows, columns], -1))
    out = []
    for room in range(plan.num_rooms):
        if not inside(plan.room_polygon(room), places).any():
            out.append(("room is cut off", room))
    for box in np.flatnonzero(plan.box_flags & K.OPENABLE):
        x, _, z, yaw = (float(value) for value in plan.box_pose[box])
        if plan.box_parent[box] >= 0 or plan.box_pose[box, 1] > 0.3:
            continue
        away = 0.5 * float(plan.box_size[box, 2]) + 0.45
        front = np.array([x + away * math.sin(yaw), z + away * math.cos(yaw)])
        if np.hypot(*(places - front).T).min() > 0.3:
            out.append(("container cannot be reached", int(plan.box_room[box])))
    return out


def inside(polygon: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return (P,) bool: which points (P, 2) lie in the polygon (C, 2)."""
    x, z = points[:, 0], points[:, 1]
    inside = np.zeros(len(points), np.bool_)
    for (x0, z0), (x1, z1) in zip(polygon, np.roll(polygon, -1, 0)):
        if z0 != z1:
            inside ^= ((z0 > z) != (z1 > z)) & (x < (x1 - x0) * (z - z0) / (z1 - z0) + x0)
    return inside
