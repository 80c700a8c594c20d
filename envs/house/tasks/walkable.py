"""Where agents that can only walk may be: floor that is not too narrow for them, behind doors that stand open."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from embodied_mem.envs.house.batch import HouseWorld
from embodied_mem.envs.house.plan import HousePlan

LEAST_SHARE = 0.5
"""Part of the floor that must be left without its narrow places; else they count as floor too."""


class Walkable:
    """The floor of a house on which steps of a fixed length and turns of a fixed angle lead everywhere.

    Slots between furniture that are hardly wider than the agent are left out: with a random heading it might never get
    out of them.
    """

    def __init__(self, world: HouseWorld, plan_id: int) -> None:
        from scipy import ndimage

        grid = world.free_grid(plan_id)
        wide = _largest(ndimage.binary_erosion(grid.free, np.ones((3, 3), bool)))
        grown = ndimage.binary_dilation(wide, np.ones((3, 3), bool)) & grid.free
        floor = _largest(grid.free)
        enough = grown.sum() >= LEAST_SHARE * floor.sum()
        self.cells: np.ndarray = grown if enough else floor
        """(R, C) bool: where goals may be reached from."""
        inner = wide if enough else floor
        thin = np.zeros_like(inner)
        thin[::2, ::2] = True
        chosen = np.argwhere(inner & thin)
        self.places: np.ndarray = grid.centres_of(chosen if len(chosen) else np.argwhere(inner))
        """(F, 2) x, z, 0.2 m apart: where episodes may begin."""


def doors_open(plan: HousePlan) -> HousePlan:
    """Return the plan with every door that can be opened standing open for good."""
    return replace(
        plan,
        door_openness=np.where(plan.door_openable, 1.0, plan.door_openness).astype(np.float32),
        door_openable=np.zeros_like(plan.door_openable),
    )


def _largest(cells: np.ndarray) -> np.ndarray:
    """Return the largest connected part of (R, C) bool."""
    from scipy import ndimage

    labels, count = ndimage.label(cells)
    if count == 0:
        return cells
    return labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
