"""Compiled actions: the rules of PickupObject, PutObject, OpenObject and CloseObject, and the step of all rows.

An interaction has no argument: it acts on the suitable thing that the agent sees within reach, the one nearest to the
middle column of its view.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from embodied_mem.envs.house.arrays import PlanArrays, Rules, WorldArrays
from embodied_mem.envs.house.classes import OPENABLE, PICKUPABLE, RECEPTACLE, TRAY
from embodied_mem.envs.house.physics import find_room, move
from embodied_mem.envs.house.sight import box_gap, box_visible, door_visible

_jit = numba.njit(cache=True, nogil=True, error_model="numpy")

MARGIN = 0.02
"""Free border in metres around a thing that is put down."""


@_jit
def _off_axis(world: WorldArrays, i: int, x: float, z: float) -> float:
    """Return the absolute angle in radians between the view direction of row ``i`` and a floor point."""
    dx, dz = x - world.position[i, 0], z - world.position[i, 1]
    angle = math.atan2(dx, dz) - math.radians(world.yaw[i])
    return abs((angle + math.pi) % (2 * math.pi) - math.pi)


@_jit
def _suits(plans: PlanArrays, world: WorldArrays, i: int, b: int, box: int, action: int) -> bool:
    """Return whether an interaction could act on a box, sight and reach left aside."""
    flags = plans.box_int[box, 2]
    if world.box_shown[i, b] == 0 or flags & TRAY:
        return False
    if action == 5:
        return flags & PICKUPABLE != 0 and _load(plans, world, i, b) == 0
    if action == 6:
        return flags & RECEPTACLE != 0 and (flags & OPENABLE == 0 or world.box_open[i, b] != 0)
    return flags & OPENABLE != 0 and (world.box_open[i, b] != 0) == (action == 8)


@_jit
def _load(plans: PlanArrays, world: WorldArrays, i: int, b: int) -> int:
    """Return how many things lie on or in a box, its tray and what is held left aside."""
    first = plans.plan_int[world.plan[i], 6]
    count = 0
    for k in range(plans.plan_int[world.plan[i], 7]):
        if world.box_parent[i, k] == b and world.held[i] != k and plans.box_int[first + k, 2] & TRAY == 0:
            count += 1
    return count


@_jit
def set_open(plans: PlanArrays, world: WorldArrays, i: int, b: int, value: bool) -> None:
    """Open or close box ``b`` of row ``i``: its tray and what lies inside are shown or hidden."""
    world.box_open[i, b] = value
    for k in range(plans.plan_int[world.plan[i], 7]):
        if world.box_parent[i, k] == b and world.box_inside[i, k] != 0 and world.held[i] != k:
            world.box_shown[i, k] = value


@_jit
def put(plans: PlanArrays, world: WorldArrays, i: int, item: int, holder: int, near_x: float, near_z: float) -> bool:
    """Lay box ``item`` of row ``i`` on (or in the tray of) box ``holder`` at the free place nearest a floor point.

    Returns:
        False when no place is free; nothing has changed then.
    """
    plan = world.plan[i]
    first = plans.plan_int[plan, 6]
    inside = plans.box_int[first + holder, 2] & OPENABLE != 0
    support = plans.box_int[first + holder, 7] if inside else holder
    angle = float(world.box_pose[i, support, 3])
    c, s = math.cos(angle), math.sin(angle)
    sx, sz = world.box_pose[i, support, 0], world.box_pose[i, support, 2]
    half = plans.box_size[first + item] * 0.5
    room_x = max(0.5 * plans.box_size[first + support, 0] - half[0], 0.0)
    room_z = max(0.5 * plans.box_size[first + support, 2] - half[2], 0.0)
    best, best_x, best_z = 1e18, 0.0, 0.0
    for n in range(63):
        lx, lz = room_x * (n % 9 - 4) / 4.0, room_z * (n // 9 - 3) / 3.0
        x, z = sx + lx * c + lz * s, sz - lx * s + lz * c
        gap = (x - near_x) ** 2 + (z - near_z) ** 2
        if gap >= best:
            continue
        clear = True
        for k in range(plans.plan_int[plan, 7]):
            if k == item or world.box_parent[i, k] != holder or k == support or world.held[i] == k:
                continue
            dx, dz = world.box_pose[i, k, 0] - x, world.box_pose[i, k, 2] - z
            reach_x = half[0] + 0.5 * plans.box_size[first + k, 0] + MARGIN
            reach_z = half[2] + 0.5 * plans.box_size[first + k, 2] + MARGIN
            if abs(dx * c - dz * s) < reach_x and abs(dx * s + dz * c) < reach_z:
                clear = False
                break
        if clear:
            best, best_x, best_z = gap, x, z
    if best == 1e18:
        return False
    world.box_pose[i, item, 0], world.box_pose[i, item, 2] = best_x, best_z
    world.box_pose[i, item, 1] = world.box_pose[i, support, 1] + plans.box_size[first + support, 1]
    world.box_pose[i, item, 3] = angle
    world.box_parent[i, item] = holder
    world.box_inside[i, item] = inside
    world.box_room[i, item] = world.box_room[i, holder]
    world.box_shown[i, item] = (not inside) or world.box_open[i, holder] != 0
    if world.held[i] == item:
        world.held[i] = -1
    return True


@_jit
def _interact(plans: PlanArrays, world: WorldArrays, rules: Rules, i: int, action: int) -> bool:
    """Apply one of the four interactions to row ``i``; return success."""
    if (action == 5 and world.held[i] >= 0) or (action == 6 and world.held[i] < 0):
        return False
    plan = world.plan[i]
    first = plans.plan_int[plan, 6]
    best, chosen, door = 1e9, -1, -1
    for b in range(plans.plan_int[plan, 7]):
        if not _suits(plans, world, i, b, first + b, action) or box_gap(plans, world, i, b) > rules.reach:
            continue
        angle = _off_axis(world, i, world.box_pose[i, b, 0], world.box_pose[i, b, 2])
        if angle < best and box_visible(plans, world, rules, i, b):
            best, chosen = angle, b
    if action >= 7:
        base = plans.plan_int[plan, 4]
        for k in range(plans.plan_int[plan, 5]):
            if plans.door_int[base + k, 2] == 0 or (world.door_openness[i, k] > 0.5) != (action == 8):
                continue
            row = plans.door_float[base + k]
            x, z = 0.5 * (row[0] + row[2]), 0.5 * (row[1] + row[3])
            angle = _off_axis(world, i, x, z)
            far = math.hypot(x - world.position[i, 0], z - world.position[i, 1]) > rules.reach
            if angle < best and not far and door_visible(plans, world, rules, i, k):
                best, chosen, door = angle, -1, k
    if door >= 0:
        row = plans.door_float[plans.plan_int[plan, 4] + door]
        if action == 8 and _door_gap(row, world.position[i, 0], world.position[i, 1]) < rules.radius:
            return False
        world.door_openness[i, door] = 1.0 if action == 7 else 0.0
        world.target[i] = plans.door_int[plans.plan_int[plan, 4] + door, 3]
        return True
    if chosen < 0:
        return False
    world.target[i] = plans.box_int[first + chosen, 1]
    if action == 5:
        world.held[i] = chosen
        world.box_shown[i, chosen] = 0
        world.box_parent[i, chosen] = -1
        world.box_inside[i, chosen] = 0
        return True
    if action == 6:
        item = world.held[i]
        return put(plans, world, i, item, chosen, world.position[i, 0], world.position[i, 1])
    set_open(plans, world, i, chosen, action == 7)
    return True


@_jit
def _door_gap(row: np.ndarray, x: float, z: float) -> float:
    """Return the distance in metres from a floor point to the opening of a door."""
    dx, dz = row[2] - row[0], row[3] - row[1]
    t = ((x - row[0]) * dx + (z - row[1]) * dz) / max(dx * dx + dz * dz, 1e-9)
    t = min(1.0, max(0.0, t))
    return math.hypot(x - row[0] - t * dx, z - row[1] - t * dz)


@_jit
def act(plans: PlanArrays, world: WorldArrays, rules: Rules, actions: np.ndarray, active: np.ndarray) -> None:
    """Apply one action to every active row.

    Args:
        actions: (N,) int64 codes of `arrays.Action`.
        active: (N,) bool.
    """
    for i in range(len(actions)):
        if not active[i]:
            continue
        code = actions[i]
        world.target[i] = 0
        done = True
        if code == 0:
            done = move(plans, world, rules, i)
        elif code == 1 or code == 2:
            world.yaw[i] = (world.yaw[i] + (rules.turn if code == 2 else -rules.turn)) % 360.0
        elif code == 3 or code == 4:
            value = world.horizon[i] + (rules.look if code == 4 else -rules.look)
            done = rules.look_up_limit - 1e-6 <= value <= rules.look_down_limit + 1e-6
            if done:
                world.horizon[i] = value
        elif code < 9:
            done = _interact(plans, world, rules, i, code)
        world.success[i] = done


@_jit
def place(
    plans: PlanArrays, world: WorldArrays, rows: np.ndarray, x: np.ndarray, z: np.ndarray, yaw: np.ndarray
) -> None:
    """Put the agents of ``rows`` (M,) at floor points x, z (M,) with yaw (M,) degrees."""
    for k in range(len(rows)):
        i = rows[k]
        world.position[i, 0], world.position[i, 1] = x[k], z[k]
        world.yaw[i] = yaw[k] % 360.0
        guess = world.room[i]
        first, count = plans.plan_int[world.plan[i], 0], plans.plan_int[world.plan[i], 1]
        if guess < first or guess >= first + count:
            guess = first
        world.room[i] = find_room(plans, world.plan[i], x[k], z[k], guess)
