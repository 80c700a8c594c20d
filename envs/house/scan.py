"""The `scan` sensor, compiled: W columns all around the agent, each (depth, class, colour code).

Column i looks ((i + 0.5) / W - 0.5) turns clockwise of the agent's heading, so the middle columns look ahead. Depth is
the floor distance in metres from the camera to the first wall, closed door panel or shown box that stands in the column
at any height (what lies flat on the floor and the wall above a door are left out). A small object that can be seen from
the camera above what stands before it takes the column over, with its own depth: so what lies on a table is noticed.
With two layers the first three channels keep the nearest surface and the next three hold the object (0, 0, 0 = none).

Cost per frame: every wall of a room that rays pass is tested against all columns at once in vector registers, then each
column is resolved; per box of such a room one bearing and a slab test in the few columns it covers.
"""
# mypy: disable-error-code="arg-type,assignment,operator,index,call-overload"
# Compiled code: every `float` below is a float32 at run time, and mixing in a Python float would widen it.

from __future__ import annotations

import math

import numba
import numpy as np

from embodied_mem.envs.house.arrays import PlanArrays, WorldArrays
from embodied_mem.envs.house.classes import DOOR, FLAT, PICKUPABLE, WALL, WINDOW
from embodied_mem.envs.house.colours import COLOUR_NAMES
from embodied_mem.envs.house.library import MAX_ROOMS

_jit = numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")

F32 = np.float32
ZERO, HALF, ONE, TINY = F32(0.0), F32(0.5), F32(1.0), F32(1e-6)

CROSSINGS = 24
"""Boxes remembered per column; what a column crosses beyond that is left out."""
FLAT_HEIGHT = F32(0.05)
SEEN_AT = F32(0.75)
"""An object counts as seen where the sight line to this fraction of its height is free."""
DOOR_CODE, WINDOW_CODE = COLOUR_NAMES.index("brown"), COLOUR_NAMES.index("cyan")


@_jit
def column_walls(
    plans: PlanArrays,
    openness: np.ndarray,
    first_room: int,
    room: int,
    x: float,
    z: float,
    direction: np.ndarray,
    depth: np.ndarray,
    best: np.ndarray,
    kind: np.ndarray,
    at: np.ndarray,
    hit: np.ndarray,
    visited: np.ndarray,
) -> None:
    """Follow the floor rays of all columns from room to room until something blocks them.

    Room by room, every wall is tested against all columns at once; then each column is resolved on its own.

    Args:
        openness: (D,) float32 of the row's doors.
        first_room: library-wide index of the plan's first room; room: where the rays start, at x, z.
        direction: (2, W) float32 unit directions.
        depth: (W,) float32, gets the distance; kind: (W,) int32, gets wall, door or window.
        at: (W,) int32, gets -1 - the library-wide room whose wall was hit.
        best, hit: (W,) scratch; visited: (MAX_ROOMS,) uint8, rooms of the plan that rays pass are set to 1.
    """
    columns = depth.shape[0]
    dx, dz = direction[0], direction[1]
    for c in range(columns):
        depth[c], at[c] = ZERO, room
    here, steps = room, 0
    while here >= 0 and steps < 4 * MAX_ROOMS:
        steps += 1
        visited[min(here - first_room, MAX_ROOMS - 1)] = 1
        for c in range(columns):
            best[c], hit[c] = F32(1e9), -1
        for e in range(plans.room_int[here, 0], plans.room_int[here, 1]):
            ux, uz = plans.edge_float[e, 4], plans.edge_float[e, 5]
            ox, oz = F32(x - plans.edge_float[e, 0]), F32(z - plans.edge_float[e, 1])
            wide = (plans.edge_float[e, 2] - plans.edge_float[e, 0]) * ux + (
                plans.edge_float[e, 3] - plans.edge_float[e, 1]
            ) * uz
            across, along = ox * uz - oz * ux, ox * ux + oz * uz
            for c in range(columns):
                # A ray leaves a room through walls whose outer side it looks at; so its entry is never met again.
                outward = dz[c] * ux - dx[c] * uz
                t = across / outward
                s = along + t * (dx[c] * ux + dz[c] * uz)
                met = (outward > TINY) & (t > depth[c] - TINY) & (t < best[c]) & (s >= -TINY) & (s <= wide + TINY)
                best[c] = t if met else best[c]
                hit[c] = e if met else hit[c]
        following = -1
        for c in range(columns):
            if at[c] != here:
                following = at[c] if at[c] >= 0 else following
                continue
            e = hit[c]
            at[c], kind[c] = -1 - here, WALL
            if e < 0:
                continue
            t = max(best[c], ZERO)
            depth[c] = t
            if plans.edge_int[e, 1] == plans.edge_int[e, 2]:
                continue
            ux, uz = plans.edge_float[e, 4], plans.edge_float[e, 5]
            ox, oz = F32(x - plans.edge_float[e, 0]), F32(z - plans.edge_float[e, 1])
            along = ox * ux + oz * uz + t * (dx[c] * ux + dz[c] * uz)
            for k in range(plans.edge_int[e, 1], plans.edge_int[e, 2]):
                low, high = plans.opening_float[k, 0], plans.opening_float[k, 1]
                if along < low or along >= high:
                    continue
                if plans.opening_int[k, 0] == 1:
                    kind[c] = WINDOW
                    break
                share = (along - low) / (high - low)
                if plans.opening_int[k, 5] == 1:
                    share = ONE - share
                if share < ONE - openness[plans.opening_int[k, 1]] or plans.opening_int[k, 2] < 0:
                    kind[c] = DOOR
                else:
                    at[c] = plans.opening_int[k, 2]
                    following = at[c]
                break
        here = following


@_jit
def _scan_row(
    plans: PlanArrays,
    world: WorldArrays,
    i: int,
    eye: float,
    reach: float,
    turns: np.ndarray,
    wall_code: np.ndarray,
    box_code: np.ndarray,
    layers: int,
    line: np.ndarray,
    number: np.ndarray,
    near: np.ndarray,
    far: np.ndarray,
    which: np.ndarray,
    out: np.ndarray,
) -> None:
    """Fill ``out`` (W, 3 * layers) float32 for row ``i``."""
    columns = out.shape[0]
    plan = world.plan[i]
    x, z = world.position[i, 0], world.position[i, 1]
    heading = math.radians(world.yaw[i])
    sin, cos = F32(math.sin(heading)), F32(math.cos(heading))
    visited = np.zeros(MAX_ROOMS, np.uint8)
    direction, depth, kind, at, count = line[:2], line[2], number[0], number[1], number[2]
    for c in range(columns):
        line[0, c] = sin * turns[1, c] + cos * turns[0, c]
        line[1, c] = cos * turns[1, c] - sin * turns[0, c]
        count[c] = 0
    first, first_room = plans.plan_int[plan, 6], plans.plan_int[plan, 0]
    column_walls(
        plans, world.door_openness[i], first_room, world.room[i], x, z, direction, depth, line[3], kind, at, number[3],
        visited,
    )  # fmt: skip
    for c in range(columns):
        out[c, 0], out[c, 1] = min(depth[c], reach), kind[c]
        out[c, 2] = wall_code[-1 - at[c]] if kind[c] == WALL else (DOOR_CODE if kind[c] == DOOR else WINDOW_CODE)
        for k in range(3, 3 * layers):
            out[c, k] = 0.0
    per_turn = columns / (2.0 * math.pi)
    for b in range(plans.plan_int[plan, 7]):
        if world.box_shown[i, b] == 0 or visited[min(world.box_room[i, b] - first_room, MAX_ROOMS - 1)] == 0:
            continue
        box = first + b
        if plans.box_int[box, 2] & FLAT and plans.box_size[box, 1] < FLAT_HEIGHT:
            continue
        ox, oz = F32(world.box_pose[i, b, 0] - x), F32(world.box_pose[i, b, 2] - z)
        hx, hz = HALF * plans.box_size[box, 0], HALF * plans.box_size[box, 2]
        away2, span2 = ox * ox + oz * oz, hx * hx + hz * hz
        low, high = 0, columns
        if away2 > span2 * F32(1.02):
            middle = (math.atan2(ox, oz) - heading + math.pi) * per_turn - 0.5
            spread = math.asin(math.sqrt(span2 / away2)) * per_turn
            low, high = math.ceil(middle - spread), math.floor(middle + spread) + 1
        angle = world.box_pose[i, b, 3]
        co, si = math.cos(angle), math.sin(angle)
        lx, lz = ox * co - oz * si, ox * si + oz * co
        for wide in range(low, high):
            c = wide % columns
            vx, vz = line[0, c] * co - line[1, c] * si, line[0, c] * si + line[1, c] * co
            ix = ONE / (vx if abs(vx) > TINY else TINY)
            iz = ONE / (vz if abs(vz) > TINY else TINY)
            t0 = max(lx * ix - hx * abs(ix), lz * iz - hz * abs(iz))
            t1 = min(lx * ix + hx * abs(ix), lz * iz + hz * abs(iz))
            if t0 >= t1 or t1 <= ZERO or t0 >= depth[c] or count[c] == CROSSINGS:
                continue
            k = count[c]
            near[c, k], far[c, k], which[c, k] = max(t0, ZERO), t1, b
            count[c] = k + 1
    for c in range(columns):
        if count[c] > 0:
            _settle(
                plans.box_int, plans.box_size, world.box_pose[i], first, eye, reach, box_code, layers, near, far, which,
                c, count[c], out,
            )  # fmt: skip


@_jit
def _settle(
    box_int: np.ndarray,
    box_size: np.ndarray,
    box_pose: np.ndarray,
    first: int,
    eye: float,
    reach: float,
    box_code: np.ndarray,
    layers: int,
    near: np.ndarray,
    far: np.ndarray,
    which: np.ndarray,
    c: int,
    count: int,
    out: np.ndarray,
) -> None:
    """Choose the nearest surface and the nearest seen object among the boxes that column ``c`` crosses."""
    item, best = -1, F32(1e9)
    nearest, closest = -1, F32(1e9)
    for k in range(count):
        b = which[c, k]
        if near[c, k] < closest:
            closest, nearest = near[c, k], b
        if box_int[first + b, 2] & PICKUPABLE == 0 or near[c, k] >= best:
            continue
        target = box_pose[b, 1] + SEEN_AT * box_size[first + b, 1]
        slope = (target - eye) / max(near[c, k], TINY)
        seen = True
        for j in range(count):
            if j == k or near[c, j] >= near[c, k]:
                continue
            ya, yb = eye + slope * near[c, j], eye + slope * min(far[c, j], near[c, k])
            base = box_pose[which[c, j], 1]
            if max(ya, yb) > base and min(ya, yb) < base + box_size[first + which[c, j], 1]:
                seen = False
                break
        if seen:
            item, best = b, near[c, k]
    if nearest >= 0:
        out[c, 0], out[c, 1] = min(closest, reach), box_int[first + nearest, 0]
        out[c, 2] = box_code[first + nearest]
    if item >= 0:
        at = 3 if layers == 2 else 0
        out[c, at], out[c, at + 1] = min(best, reach), box_int[first + item, 0]
        out[c, at + 2] = box_code[first + item]


@_jit
def scan(
    plans: PlanArrays,
    world: WorldArrays,
    eye: float,
    reach: float,
    turns: np.ndarray,
    wall_code: np.ndarray,
    box_code: np.ndarray,
    layers: int,
    out: np.ndarray,
) -> None:
    """Fill the scan of every row.

    Args:
        plans: packed plans.
        world: state of N rows.
        eye: camera height, metres.
        reach: larger distances are cut to this, metres.
        turns: (2, W) float32 sine and cosine of every column's angle from the heading, see `sensors.column_turns`.
        wall_code: (R,) int32 colour code of every room's walls.
        box_code: (B,) int32 colour code of every box of the library.
        layers: 1 or 2.
        out: (N, W, 3 * layers) float32.
    """
    columns = out.shape[1]
    line, number = np.empty((4, columns), np.float32), np.empty((4, columns), np.int32)
    near, far = np.empty((columns, CROSSINGS), np.float32), np.empty((columns, CROSSINGS), np.float32)
    which = np.empty((columns, CROSSINGS), np.int32)
    eye32, reach32 = F32(eye), F32(reach)
    for i in range(out.shape[0]):
        _scan_row(
            plans, world, i, eye32, reach32, turns, wall_code, box_code, layers, line, number, near, far, which, out[i]
        )
