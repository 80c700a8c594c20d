"""Compiled motion of the agent: a disc that moves among wall segments, door panels and box footprints.

A move of 0.25 m is tested as a whole (capsule against segments and oriented rectangles), so nothing is tunnelled
through and no sub-stepping is needed. A move is refused when its path comes nearer to something than the radius, unless
the agent already stood nearer than that (so an agent that was placed badly can walk away). About 140 bounding-box tests
and a handful of exact ones per row and step: below 1 microsecond.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from embodied_mem.envs.house.arrays import PlanArrays, Rules, WorldArrays
from embodied_mem.envs.house.classes import FLAT, PICKUPABLE, TRAY

_jit = numba.njit(cache=True, nogil=True, error_model="numpy")

BODY_HEIGHT = 1.5
"""A box whose base is higher than this many metres does not block the agent."""
DOOR_SLACK = 1e-3


@_jit
def in_room(plans: PlanArrays, room: int, x: float, z: float) -> bool:
    """Return whether a floor point lies in a room (crossing number)."""
    inside = False
    for e in range(plans.room_int[room, 0], plans.room_int[room, 1]):
        x0, z0, x1, z1 = plans.edge_float[e, 0], plans.edge_float[e, 1], plans.edge_float[e, 2], plans.edge_float[e, 3]
        if (z0 > z) != (z1 > z) and x < (x1 - x0) * (z - z0) / (z1 - z0) + x0:
            inside = not inside
    return inside


@_jit
def find_room(plans: PlanArrays, plan: int, x: float, z: float, guess: int) -> int:
    """Return the library-wide room a floor point lies in; ``guess`` is tried first and kept when no room holds it."""
    if guess >= 0 and in_room(plans, guess, x, z):
        return guess
    first = plans.plan_int[plan, 0]
    for room in range(first, first + plans.plan_int[plan, 1]):
        if in_room(plans, room, x, z):
            return room
    return guess


@_jit
def point_segment(px: float, pz: float, ax: float, az: float, bx: float, bz: float) -> tuple[float, float, float]:
    """Return the squared distance from a point to a segment and the nearest point of the segment."""
    dx, dz = bx - ax, bz - az
    length = dx * dx + dz * dz
    t = 0.0
    if length > 1e-12:
        t = min(1.0, max(0.0, ((px - ax) * dx + (pz - az) * dz) / length))
    qx, qz = ax + t * dx, az + t * dz
    return (px - qx) ** 2 + (pz - qz) ** 2, qx, qz


@_jit
def segments_cross(ax: float, az: float, bx: float, bz: float, cx: float, cz: float, dx: float, dz: float) -> bool:
    """Return whether segment a-b crosses segment c-d (touching counts, collinear does not)."""
    rx, rz, sx, sz = bx - ax, bz - az, dx - cx, dz - cz
    cross = rx * sz - rz * sx
    if abs(cross) < 1e-12:
        return False
    t = ((cx - ax) * sz - (cz - az) * sx) / cross
    u = ((cx - ax) * rz - (cz - az) * rx) / cross
    return 0.0 <= t <= 1.0 and 0.0 <= u <= 1.0


@_jit
def _path_to_segment(ax: float, az: float, bx: float, bz: float, cx: float, cz: float, dx: float, dz: float) -> float:
    """Squared distance between the path a-b and the segment c-d."""
    if segments_cross(ax, az, bx, bz, cx, cz, dx, dz):
        return 0.0
    best = point_segment(ax, az, cx, cz, dx, dz)[0]
    best = min(best, point_segment(bx, bz, cx, cz, dx, dz)[0])
    best = min(best, point_segment(cx, cz, ax, az, bx, bz)[0])
    return min(best, point_segment(dx, dz, ax, az, bx, bz)[0])


@_jit
def _point_to_rect(px: float, pz: float, hx: float, hz: float) -> float:
    """Squared distance from a point to the rectangle |x| <= hx, |z| <= hz; 0 inside."""
    gx, gz = max(abs(px) - hx, 0.0), max(abs(pz) - hz, 0.0)
    return gx * gx + gz * gz


@_jit
def _path_to_rect(ax: float, az: float, bx: float, bz: float, hx: float, hz: float) -> float:
    """Squared distance between the path a-b and the rectangle |x| <= hx, |z| <= hz."""
    best = min(_point_to_rect(ax, az, hx, hz), _point_to_rect(bx, bz, hx, hz))
    if best == 0.0:
        return 0.0
    best = min(best, _path_to_segment(ax, az, bx, bz, -hx, -hz, hx, -hz))
    best = min(best, _path_to_segment(ax, az, bx, bz, hx, -hz, hx, hz))
    best = min(best, _path_to_segment(ax, az, bx, bz, hx, hz, -hx, hz))
    return min(best, _path_to_segment(ax, az, bx, bz, -hx, hz, -hx, -hz))


@_jit
def door_panel(plans: PlanArrays, door: int, openness: float) -> tuple[float, float, float, float]:
    """Return the ends of the closed part of a (sliding) door's panel; both ends coincide when it is fully open."""
    x0, z0, x1, z1 = (
        plans.door_float[door, 0],
        plans.door_float[door, 1],
        plans.door_float[door, 2],
        plans.door_float[door, 3],
    )
    part = 1.0 - openness
    return x0, z0, x0 + (x1 - x0) * part, z0 + (z1 - z0) * part


@_jit
def blocks(plans: PlanArrays, world: WorldArrays, i: int, b: int, box: int) -> bool:
    """Return whether local box ``b`` (library index ``box``) of row ``i`` is furniture that stops the agent."""
    flags = plans.box_int[box, 2]
    return (
        world.box_shown[i, b] != 0
        and (flags & (FLAT | PICKUPABLE | TRAY)) == 0
        and world.box_pose[i, b, 1] < BODY_HEIGHT
    )


@_jit
def clearance(
    plans: PlanArrays, world: WorldArrays, i: int, ax: float, az: float, bx: float, bz: float, limit: float
) -> tuple[float, float, float]:
    """Return how near the path a-b comes to an obstacle (at most ``limit``) and the point of that obstacle nearest b.

    Only obstacles within ``limit`` of the path are looked at.
    """
    plan = world.plan[i]
    mid_x, mid_z = 0.5 * (ax + bx), 0.5 * (az + bz)
    reach_x, reach_z = 0.5 * abs(bx - ax) + limit, 0.5 * abs(bz - az) + limit
    best = limit * limit
    nx, nz = bx, bz
    first = plans.plan_int[plan, 8]
    doors = plans.plan_int[plan, 5]
    for k in range(-doors, plans.plan_int[plan, 9]):
        if k < 0:
            openness = world.door_openness[i, k + doors]
            if openness > 1.0 - DOOR_SLACK:
                continue
            x0, z0, x1, z1 = door_panel(plans, plans.plan_int[plan, 4] + k + doors, openness)
        else:
            x0, z0 = plans.solid[first + k, 0], plans.solid[first + k, 1]
            x1, z1 = plans.solid[first + k, 2], plans.solid[first + k, 3]
        far_x = abs(0.5 * (x0 + x1) - mid_x) > 0.5 * abs(x1 - x0) + reach_x
        if far_x | (abs(0.5 * (z0 + z1) - mid_z) > 0.5 * abs(z1 - z0) + reach_z):
            continue
        gap = _path_to_segment(ax, az, bx, bz, x0, z0, x1, z1)
        if gap < best:
            best = gap
            _, nx, nz = point_segment(bx, bz, x0, z0, x1, z1)
    first = plans.plan_int[plan, 6]
    for b in range(plans.plan_int[plan, 7]):
        hx, hz = 0.5 * plans.box_size[first + b, 0], 0.5 * plans.box_size[first + b, 2]
        x, z = world.box_pose[i, b, 0], world.box_pose[i, b, 2]
        span = hx + hz
        if (abs(x - mid_x) > span + reach_x) | (abs(z - mid_z) > span + reach_z):
            continue
        if not blocks(plans, world, i, b, first + b):
            continue
        angle = float(world.box_pose[i, b, 3])
        c, s = math.cos(angle), math.sin(angle)
        lax, laz = (ax - x) * c - (az - z) * s, (ax - x) * s + (az - z) * c
        lbx, lbz = (bx - x) * c - (bz - z) * s, (bx - x) * s + (bz - z) * c
        gap = _path_to_rect(lax, laz, lbx, lbz, hx, hz)
        if gap < best:
            best = gap
            qx, qz = min(max(lbx, -hx), hx), min(max(lbz, -hz), hz)
            nx, nz = x + qx * c + qz * s, z - qx * s + qz * c
    return math.sqrt(best), nx, nz


@_jit
def move(plans: PlanArrays, world: WorldArrays, rules: Rules, i: int) -> bool:
    """Move row ``i`` ahead by one step if nothing is in the way (or slide, if the rules say so); return success."""
    angle = math.radians(world.yaw[i])
    ax, az = world.position[i, 0], world.position[i, 1]
    bx, bz = ax + rules.step * math.sin(angle), az + rules.step * math.cos(angle)
    gap, nx, nz = clearance(plans, world, i, ax, az, bx, bz, rules.radius)
    free = gap >= rules.radius
    if not free:
        here, _, _ = clearance(plans, world, i, ax, az, ax, az, rules.radius)
        free = here < rules.radius and gap >= here - 1e-9
        if free:
            there, _, _ = clearance(plans, world, i, bx, bz, bx, bz, rules.radius)
            free = there > here
    if not free and rules.sliding:
        ux, uz = bx - nx, bz - nz
        norm = math.sqrt(ux * ux + uz * uz)
        if norm > 1e-9:
            ux, uz = ux / norm, uz / norm
            dot = (bx - ax) * ux + (bz - az) * uz
            bx, bz = ax + (bx - ax) - dot * ux, az + (bz - az) - dot * uz
            gap, _, _ = clearance(plans, world, i, ax, az, bx, bz, rules.radius)
            free = gap >= rules.radius - 1e-9
    if free:
        world.position[i, 0], world.position[i, 1] = bx, bz
        world.room[i] = find_room(plans, world.plan[i], bx, bz, world.room[i])
    return free


@_jit
def free_cells(
    plans: PlanArrays, world: WorldArrays, i: int, x0: float, z0: float, cell: float, radius: float, out: np.ndarray
) -> None:
    """Mark in ``out`` (R, C) bool the grid cells at whose centre the agent of row ``i`` may stand."""
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            x, z = x0 + (c + 0.5) * cell, z0 + (r + 0.5) * cell
            room = find_room(plans, world.plan[i], x, z, -1)
            out[r, c] = room >= 0 and clearance(plans, world, i, x, z, x, z, radius)[0] >= radius
