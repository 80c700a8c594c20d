"""Compiled parts of the tour: which boxes every row sees, and objects that change place while nobody looks."""

from __future__ import annotations

import numba
import numpy as np

from embodied_mem.envs.house.arrays import PlanArrays, Rules, WorldArrays
from embodied_mem.envs.house.classes import TRAY
from embodied_mem.envs.house.interact import put
from embodied_mem.envs.house.sight import box_gap, box_visible


@numba.njit(cache=True, nogil=True)
def see(
    plans: PlanArrays,
    world: WorldArrays,
    rules: Rules,
    rows: np.ndarray,
    steps: np.ndarray,
    limit: float,
    out: np.ndarray,
) -> None:
    """Write into ``out[row, step]`` (N, T, B) bool which boxes each of ``rows`` (M,) sees within ``limit`` metres.

    Args:
        steps: (M,) int64 second index.
    """
    for k in range(len(rows)):
        i = rows[k]
        first = plans.plan_int[world.plan[i], 6]
        for b in range(plans.plan_int[world.plan[i], 7]):
            out[i, steps[k], b] = (
                plans.box_int[first + b, 2] & TRAY == 0
                and box_gap(plans, world, i, b) <= limit
                and box_visible(plans, world, rules, i, b)
            )


@numba.njit(cache=True, nogil=True)
def move_unseen(
    plans: PlanArrays,
    world: WorldArrays,
    rules: Rules,
    rows: np.ndarray,
    items: np.ndarray,
    holders: np.ndarray,
    out: np.ndarray,
) -> None:
    """Lay box ``items[k]`` of ``rows[k]`` on box ``holders[k]``, each (M,); ``out`` (M,) bool = it was done.

    Nothing happens while the item or its new place is in view, or where no room is left.
    """
    for k in range(len(rows)):
        i, item, holder = rows[k], items[k], holders[k]
        out[k] = False
        if world.box_parent[i, item] == holder:
            continue
        if box_visible(plans, world, rules, i, item) or box_visible(plans, world, rules, i, holder):
            continue
        x, z = float(world.box_pose[i, holder, 0]), float(world.box_pose[i, holder, 2])
        out[k] = put(plans, world, i, item, holder, x, z)
