"""Compiled scene changes of the hiding tasks, for many rows at once."""

from __future__ import annotations

import numba
import numpy as np

from embodied_mem.envs.house.arrays import PlanArrays, WorldArrays
from embodied_mem.envs.house.interact import put, set_open


@numba.njit(cache=True, nogil=True)
def show(
    plans: PlanArrays, world: WorldArrays, rows: np.ndarray, shut: np.ndarray, opened: np.ndarray, item: np.ndarray
) -> None:
    """In each of ``rows`` (M,): close box ``shut``, put box ``item`` into ``opened`` and open that; -1 = nothing."""
    for k in range(len(rows)):
        i = rows[k]
        if shut[k] >= 0:
            set_open(plans, world, i, shut[k], False)
        if opened[k] >= 0:
            if item[k] >= 0:
                x, z = float(world.box_pose[i, opened[k], 0]), float(world.box_pose[i, opened[k], 2])
                put(plans, world, i, item[k], opened[k], x, z)
            set_open(plans, world, i, opened[k], True)
