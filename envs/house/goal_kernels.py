"""Compiled part of `goals`: from which floor cells a box can be seen near by, and distance look-up for many rows."""

from __future__ import annotations

import math

import numba
import numpy as np

from embodied_mem.envs.house.arrays import PlanArrays, Rules, WorldArrays
from embodied_mem.envs.house.classes import OPENABLE, TRAY
from embodied_mem.envs.house.physics import clearance
from embodied_mem.envs.house.sight import box_gap, box_visible, sight_blocked
from embodied_mem.geometry._grid_kernels import value_at

_jit = numba.njit(cache=True, nogil=True)

SAMPLE = 0.9
"""Sight lines end at this fraction of a box's half size, as in `sight`."""


@_jit
def _any_sample_seen(plans: PlanArrays, world: WorldArrays, rules: Rules, i: int, b: int) -> bool:
    """Return whether some heading shows box ``b`` to row ``i``: a clear line to a top or middle sample point."""
    box = plans.plan_int[world.plan[i], 6] + b
    angle = float(world.box_pose[i, b, 3])
    c, s = math.cos(angle), math.sin(angle)
    eye, p = np.empty(3), np.empty(3)
    eye[0], eye[1], eye[2] = world.position[i, 0], rules.eye, world.position[i, 1]
    for k in range(9):
        fx = 0.0 if k == 8 else (SAMPLE if k & 1 else -SAMPLE)
        fz = 0.0 if k == 8 else (SAMPLE if k & 2 else -SAMPLE)
        fy = 0.95 if k < 4 else 0.5
        lx, lz = 0.5 * fx * plans.box_size[box, 0], 0.5 * fz * plans.box_size[box, 2]
        p[0] = world.box_pose[i, b, 0] + lx * c + lz * s
        p[1] = world.box_pose[i, b, 1] + fy * plans.box_size[box, 1]
        p[2] = world.box_pose[i, b, 2] - lx * s + lz * c
        if not sight_blocked(plans, world, i, eye, p, b, -1):
            return True
    return False


@_jit
def mark_goals(
    plans: PlanArrays,
    probe: WorldArrays,
    rules: Rules,
    b: int,
    limit: float,
    free: np.ndarray,
    x0: float,
    z0: float,
    cell: float,
    costs: np.ndarray,
) -> None:
    """Lower ``costs`` (R, C) float32 to the floor distance of box ``b`` where an agent within ``limit`` can see it.

    Args:
        probe: a one-row world in the plan's initial state; its agent is moved about.
        free: (R, C) bool.
    """
    rows, columns = free.shape
    box = plans.plan_int[probe.plan[0], 6] + b
    span = limit + 0.5 * (plans.box_size[box, 0] + plans.box_size[box, 2])
    bx, bz = probe.box_pose[0, b, 0], probe.box_pose[0, b, 2]
    first_r, last_r = int((bz - span - z0) / cell), int((bz + span - z0) / cell) + 1
    first_c, last_c = int((bx - span - x0) / cell), int((bx + span - x0) / cell) + 1
    for r in range(max(first_r, 0), min(last_r, rows)):
        for c in range(max(first_c, 0), min(last_c, columns)):
            if not free[r, c]:
                continue
            probe.position[0, 0], probe.position[0, 1] = x0 + (c + 0.5) * cell, z0 + (r + 0.5) * cell
            gap = box_gap(plans, probe, 0, b)
            if gap <= limit and gap < costs[r, c] and _any_sample_seen(plans, probe, rules, 0, b):
                costs[r, c] = gap


@_jit
def look_up(
    fields: np.ndarray, shape: np.ndarray, frame: np.ndarray, position: np.ndarray, rows: np.ndarray, out: np.ndarray
) -> None:
    """Write into ``out[rows]`` the metres from each agent to its goal.

    Args:
        fields: (N, cells) float32, each row's field flattened.
        shape: (N, 2) int64 rows and columns of the field.
        frame: (N, 3) float64 x0, z0, cell.
        position: (N, 2) float64.
        rows: (M,) int64.
        out: (N,) float64.
    """
    for k in range(len(rows)):
        i = rows[k]
        height, width = shape[i, 0], shape[i, 1]
        field = fields[i, : height * width].reshape(height, width)
        out[i] = value_at(field, frame[i, 2], frame[i, 0], frame[i, 1], position[i, 0], position[i, 1])


@_jit
def next_opened(plans: PlanArrays, world: WorldArrays, rules: Rules, rows: np.ndarray, out: np.ndarray) -> None:
    """Write into ``out[rows]`` the closed container that OpenObject would act on now, -1 = none."""
    for k in range(len(rows)):
        i = rows[k]
        first = plans.plan_int[world.plan[i], 6]
        best = 1e9
        out[i] = -1
        for b in range(plans.plan_int[world.plan[i], 7]):
            flags = plans.box_int[first + b, 2]
            if flags & OPENABLE == 0 or flags & TRAY or world.box_open[i, b] or world.box_shown[i, b] == 0:
                continue
            if box_gap(plans, world, i, b) > rules.reach:
                continue
            dx = world.box_pose[i, b, 0] - world.position[i, 0]
            dz = world.box_pose[i, b, 2] - world.position[i, 1]
            angle = math.atan2(dx, dz) - math.radians(world.yaw[i])
            angle = abs((angle + math.pi) % (2 * math.pi) - math.pi)
            if angle < best and box_visible(plans, world, rules, i, b):
                best, out[i] = angle, b


@_jit
def headings_free(plans: PlanArrays, world: WorldArrays, rules: Rules, out: np.ndarray) -> None:
    """Write into ``out`` (N, H) bool whether MoveAhead would succeed after k = 0..H-1 times RotateRight."""
    for i in range(out.shape[0]):
        x, z = world.position[i, 0], world.position[i, 1]
        for k in range(out.shape[1]):
            angle = math.radians(world.yaw[i] + k * rules.turn)
            bx, bz = x + rules.step * math.sin(angle), z + rules.step * math.cos(angle)
            out[i, k] = clearance(plans, world, i, x, z, bx, bz, rules.radius)[0] >= rules.radius


@_jit
def class_to_face(
    plans: PlanArrays,
    world: WorldArrays,
    rules: Rules,
    rows: np.ndarray,
    classes: np.ndarray,
    limit: float,
    out: np.ndarray,
) -> None:
    """Write into ``out`` (M,) int64 the box of a class that each row should look at, -1 = there is none.

    That is the nearest one within ``limit`` metres that some heading shows, else the nearest one.
    """
    for k in range(len(rows)):
        i = rows[k]
        first = plans.plan_int[world.plan[i], 6]
        best, shown = math.inf, False
        out[k] = -1
        for b in range(plans.plan_int[world.plan[i], 7]):
            if plans.box_int[first + b, 0] != classes[k] or plans.box_int[first + b, 2] & TRAY:
                continue
            gap = box_gap(plans, world, i, b)
            if world.box_shown[i, b] == 0 or (shown and gap >= best):
                continue
            seen = gap <= limit and _any_sample_seen(plans, world, rules, i, b)
            if seen or (not shown and gap < best):
                best, shown, out[k] = gap, seen, b
