"""Compiled sight lines: which boxes and doors an agent sees, and how far away they are.

"Sees" = one of the sample points of the thing lies in the camera's frustum and no wall, door or other prism is between;
the same prisms are drawn, so what is visible here can be found in the images.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from embodied_mem.envs.house.arrays import PlanArrays, Rules, WorldArrays
from embodied_mem.envs.house.classes import TRAY
from embodied_mem.envs.house.physics import door_panel

_jit = numba.njit(cache=True, nogil=True, error_model="numpy")

NEAR = 1e-3
SHRINK = 0.9
"""Sample points lie at this fraction of the half size, just inside the prism."""


@_jit
def _crossing(ax: float, az: float, bx: float, bz: float, cx: float, cz: float, dx: float, dz: float) -> float:
    """Return where in [0, 1] along a-b it crosses c-d, or -1."""
    rx, rz, sx, sz = bx - ax, bz - az, dx - cx, dz - cz
    cross = rx * sz - rz * sx
    if abs(cross) < 1e-12:
        return -1.0
    t = ((cx - ax) * sz - (cz - az) * sx) / cross
    u = ((cx - ax) * rz - (cz - az) * rx) / cross
    return t if 0.0 <= t <= 1.0 and 0.0 <= u <= 1.0 else -1.0


@_jit
def prism_entry(
    plans: PlanArrays, world: WorldArrays, i: int, b: int, box: int, a: np.ndarray, d: np.ndarray, end: float
) -> float:
    """Return the parameter in (0, end) at which the ray a + t d enters box ``b`` of row ``i``, or -1.

    Args:
        a: (3,) start, x y z.
        d: (3,) direction.
    """
    angle = float(world.box_pose[i, b, 3])
    c, s = math.cos(angle), math.sin(angle)
    ox, oz = a[0] - world.box_pose[i, b, 0], a[2] - world.box_pose[i, b, 2]
    hx, hy, hz = 0.5 * plans.box_size[box, 0], 0.5 * plans.box_size[box, 1], 0.5 * plans.box_size[box, 2]
    low, high = 0.0, end
    for axis in range(3):
        if axis == 0:
            o, v, h = ox * c - oz * s, d[0] * c - d[2] * s, hx
        elif axis == 1:
            o, v, h = a[1] - world.box_pose[i, b, 1] - hy, d[1], hy
        else:
            o, v, h = ox * s + oz * c, d[0] * s + d[2] * c, hz
        if abs(v) < 1e-12:
            if abs(o) > h:
                return -1.0
            continue
        t0, t1 = (-h - o) / v, (h - o) / v
        if t0 > t1:
            t0, t1 = t1, t0
        low, high = max(low, t0), min(high, t1)
        if low >= high:
            return -1.0
    return low


@_jit
def sight_blocked(
    plans: PlanArrays, world: WorldArrays, i: int, a: np.ndarray, b: np.ndarray, skip_box: int, skip_door: int
) -> bool:
    """Return whether a wall, a door or a shown prism other than the skipped ones lies between two points (3,)."""
    plan = world.plan[i]
    first = plans.plan_int[plan, 8]
    for k in range(first, first + plans.plan_int[plan, 9]):
        x0, z0, x1, z1 = plans.solid[k, 0], plans.solid[k, 1], plans.solid[k, 2], plans.solid[k, 3]
        if _crossing(a[0], a[2], b[0], b[2], x0, z0, x1, z1) >= 0.0:
            return True
    first = plans.plan_int[plan, 4]
    for k in range(plans.plan_int[plan, 5]):
        row = plans.door_float[first + k]
        t = _crossing(a[0], a[2], b[0], b[2], row[0], row[1], row[2], row[3])
        if t < 0.0 or k == skip_door:
            continue
        if a[1] + t * (b[1] - a[1]) > row[4]:
            return True
        x0, z0, x1, z1 = door_panel(plans, first + k, world.door_openness[i, k])
        if _crossing(a[0], a[2], b[0], b[2], x0, z0, x1, z1) >= 0.0:
            return True
    first = plans.plan_int[plan, 6]
    d = b - a
    instance = plans.box_int[first + skip_box, 1] if skip_box >= 0 else -1
    for k in range(plans.plan_int[plan, 7]):
        if world.box_shown[i, k] == 0 or plans.box_int[first + k, 1] == instance:
            continue
        if prism_entry(plans, world, i, k, first + k, a, d, 1.0) >= 0.0:
            return True
    return False


@_jit
def _in_view(world: WorldArrays, rules: Rules, i: int, p: np.ndarray) -> bool:
    """Return whether a world point (3,) projects into the image of row ``i``."""
    angle = math.radians(world.yaw[i])
    s, c = math.sin(angle), math.cos(angle)
    dx, dz = p[0] - world.position[i, 0], p[2] - world.position[i, 1]
    z = dx * s + dz * c
    if z < NEAR:
        return False
    shift = (rules.eye - p[1]) / z - math.tan(math.radians(world.horizon[i]))
    return abs(dx * c - dz * s) <= rules.tan_x * z and abs(shift) <= rules.tan_y


@_jit
def box_visible(plans: PlanArrays, world: WorldArrays, rules: Rules, i: int, b: int) -> bool:
    """Return whether row ``i`` sees a sample point (upper and middle corners, centre) of its box ``b``."""
    if world.box_shown[i, b] == 0:
        return False
    box = plans.plan_int[world.plan[i], 6] + b
    angle = float(world.box_pose[i, b, 3])
    c, s = math.cos(angle), math.sin(angle)
    eye, p = np.empty(3), np.empty(3)
    eye[0], eye[1], eye[2] = world.position[i, 0], rules.eye, world.position[i, 1]
    for k in range(13):
        fx = 0.0 if k == 12 else (SHRINK if k & 1 else -SHRINK)
        fz = 0.0 if k == 12 else (SHRINK if k & 2 else -SHRINK)
        fy = 0.5 if k == 12 else (0.95 if k < 4 else (0.5 if k < 8 else 0.05))
        lx, lz = 0.5 * fx * plans.box_size[box, 0], 0.5 * fz * plans.box_size[box, 2]
        p[0] = world.box_pose[i, b, 0] + lx * c + lz * s
        p[1] = world.box_pose[i, b, 1] + fy * plans.box_size[box, 1]
        p[2] = world.box_pose[i, b, 2] - lx * s + lz * c
        if _in_view(world, rules, i, p) and not sight_blocked(plans, world, i, eye, p, b, -1):
            return True
    return False


@_jit
def door_visible(plans: PlanArrays, world: WorldArrays, rules: Rules, i: int, k: int) -> bool:
    """Return whether row ``i`` sees one of nine sample points of its door ``k`` (open or not)."""
    row = plans.door_float[plans.plan_int[world.plan[i], 4] + k]
    eye, p = np.empty(3), np.empty(3)
    eye[0], eye[1], eye[2] = world.position[i, 0], rules.eye, world.position[i, 1]
    for n in range(9):
        f = 0.1 + 0.4 * (n % 3)
        p[0], p[2] = row[0] + f * (row[2] - row[0]), row[1] + f * (row[3] - row[1])
        p[1] = (0.1 + 0.4 * (n // 3)) * row[4]
        if _in_view(world, rules, i, p) and not sight_blocked(plans, world, i, eye, p, -1, k):
            return True
    return False


@_jit
def box_gap(plans: PlanArrays, world: WorldArrays, i: int, b: int) -> float:
    """Return the floor distance in metres from the agent of row ``i`` to the footprint of box ``b``; 0 inside."""
    box = plans.plan_int[world.plan[i], 6] + b
    angle = float(world.box_pose[i, b, 3])
    c, s = math.cos(angle), math.sin(angle)
    dx, dz = world.position[i, 0] - world.box_pose[i, b, 0], world.position[i, 1] - world.box_pose[i, b, 2]
    gx = max(abs(dx * c - dz * s) - 0.5 * plans.box_size[box, 0], 0.0)
    gz = max(abs(dx * s + dz * c) - 0.5 * plans.box_size[box, 2], 0.0)
    return math.hypot(gx, gz)


@_jit
def visible_boxes(
    plans: PlanArrays,
    world: WorldArrays,
    rules: Rules,
    rows: np.ndarray,
    boxes: np.ndarray,
    limit: float,
    out: np.ndarray,
) -> None:
    """Write into ``out`` (M,) bool whether each row sees its box within ``limit`` metres of floor distance."""
    for k in range(len(rows)):
        i, b = rows[k], boxes[k]
        out[k] = b >= 0 and box_gap(plans, world, i, b) <= limit and box_visible(plans, world, rules, i, b)


@_jit
def visible_class(
    plans: PlanArrays,
    world: WorldArrays,
    rules: Rules,
    rows: np.ndarray,
    classes: np.ndarray,
    limit: float,
    out: np.ndarray,
) -> None:
    """Write into ``out`` (M,) int32 the nearest box of a class that each row sees within ``limit`` metres, or -1."""
    for k in range(len(rows)):
        i = rows[k]
        plan = world.plan[i]
        best = limit
        out[k] = -1
        for b in range(plans.plan_int[plan, 7]):
            box = plans.plan_int[plan, 6] + b
            if plans.box_int[box, 0] != classes[k] or plans.box_int[box, 2] & TRAY:
                continue
            gap = box_gap(plans, world, i, b)
            if gap <= best and box_visible(plans, world, rules, i, b):
                best = gap
                out[k] = b


@_jit
def box_gaps(plans: PlanArrays, world: WorldArrays, rows: np.ndarray, boxes: np.ndarray, out: np.ndarray) -> None:
    """Write into ``out`` (M,) float64 the floor distance of each row to its box."""
    for k in range(len(rows)):
        out[k] = box_gap(plans, world, rows[k], boxes[k])
