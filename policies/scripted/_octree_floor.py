"""The octree of the House map agent: what a step's scan and depth write into it, and the floor that it shows.

A leaf's token is the share of observations that found it solid. Rays of the scan write the floor they pass over (0) and
what they hit (1, at half the camera's height: the scan tells no height); pixels of the depth image write the point they
show, 0 on the floor and 1 above it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from embodied_mem.geometry.grid import Grid
from embodied_mem.memory.spatial import morton
from embodied_mem.memory.spatial.octree import Octree
from embodied_mem.perception.unproject import points_from_depth

__all__ = ["CELL", "DEPTH", "Floor", "disc", "floor_of", "grown", "leaves_of", "views"]

CELL, DEPTH = 0.125, 9
"""Side of a leaf, metres, and levels of the octree: a cube of 64 m."""
EYE = 1.5
"""Metres of the camera above the floor."""
SIGHT = 5.0
"""Metres up to which the scan's rays make floor free, and depth is trusted."""
MARGIN = 5
"""Unknown cells kept around what is known."""
SAMPLES = round(SIGHT / CELL)
SPAN = SAMPLES + 2
FLOOR_LEVEL = round(-EYE / CELL)
"""Number of the leaves at floor height; the camera's own is 0."""
TOP_LEVEL = 2
"""Highest level of what an agent bumps into."""


def views(
    pose: np.ndarray, angle: np.ndarray, scan: np.ndarray, depth: np.ndarray, intrinsics: np.ndarray
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return per row the points (P, 3) float64 and tokens (P, 1) float32 that it adds to its octree.

    Args:
        pose: (m, 5) as observed. angle: (W,) bearings of the scan's columns.
        scan: (m, W, 6). depth: (m, H, W') metres. intrinsics: (m, 4).
    """
    m = len(pose)
    place = pose[:, [0, 2]].astype(np.float64)
    bearing = pose[:, 3:4].astype(np.float64) + angle
    way = np.stack([np.sin(bearing), np.cos(bearing)], -1)
    reach = scan[:, :, 0].astype(np.float64)
    along = (np.arange(SAMPLES) + 0.5) / SAMPLES * SIGHT
    at = place[:, None, None] + way[:, :, None] * along[:, None]
    middle = np.floor(place / CELL + 0.5).astype(np.int64)
    cells = np.floor(at / CELL + 0.5).astype(np.int64) - middle[:, None, None] + SPAN
    passed = along < reach[:, :, None] - CELL / 2
    free = np.zeros((m, 2 * SPAN + 1, 2 * SPAN + 1), bool)
    rows = np.broadcast_to(np.arange(m)[:, None, None], passed.shape)
    free[rows[passed], cells[..., 0][passed], cells[..., 1][passed]] = True
    free[:, SPAN, SPAN] = True
    hit = place[:, None] + way * (reach[:, :, None] + 0.02)
    solid = (reach > 0) & (reach < SIGHT)
    seen, lens, eye = (torch.from_numpy(value).double() for value in (depth, intrinsics, pose))
    points, real = points_from_depth(seen, lens, eye, SIGHT)
    found = []
    for row in range(m):
        floor = (np.argwhere(free[row]) - SPAN + middle[row]) * CELL
        walls, shown = hit[row][solid[row]], points[row][real[row]].numpy()
        above = shown[:, 1] > (FLOOR_LEVEL + 0.5) * CELL
        every = np.concatenate([_raised(floor, -EYE), _raised(walls, -EYE / 2), shown])
        token = np.concatenate([np.zeros(len(floor)), np.ones(len(walls)), above])
        found.append((torch.from_numpy(every), torch.from_numpy(token.astype(np.float32))[:, None]))
    return found


@dataclass(frozen=True)
class Floor:
    """The octree seen from above, with `MARGIN` unknown cells around."""

    free: np.ndarray
    """(R, C) bool, rows along z, columns along x."""
    solid: np.ndarray
    """(R, C) bool."""
    x0: float
    """Lower edge of the first column, metres."""
    z0: float
    """Lower edge of the first row, metres."""

    @property
    def unknown(self) -> np.ndarray:
        """(R, C) bool."""
        return ~(self.free | self.solid)

    def grid(self, free: np.ndarray) -> Grid:
        """Return a `Grid` of cells ``free`` (R, C) in this frame."""
        return Grid(free, CELL, self.x0, self.z0)

    def near(self, places: np.ndarray, metres: float) -> np.ndarray:
        """Return (R, C) bool: cells within ``metres`` of any place (Q, 2) x, z."""
        rows, columns = self.free.shape
        z = (self.z0 + (np.arange(rows) + 0.5) * CELL)[None, :, None] - places[:, 1, None, None]
        x = (self.x0 + (np.arange(columns) + 0.5) * CELL)[None, None] - places[:, 0, None, None]
        return (x**2 + z**2 <= metres**2).any(0)


def floor_of(octree: Octree, here: np.ndarray) -> Floor:
    """Return the floor that an octree shows; ``here`` (2,) x, z is on it. Single gaps between rays are closed."""
    from scipy.ndimage import uniform_filter

    held = octree.voxels
    cells = morton.decode(held.codes).numpy() - (1 << (DEPTH - 1))
    full = held.tokens[:, 0].numpy() > 0.5
    own = np.floor(here / CELL + 0.5).astype(np.int64)
    flat = np.concatenate([cells[:, [2, 0]], own[None, ::-1]])
    low = flat.min(0) - MARGIN
    shape = tuple(flat.max(0) + MARGIN + 1 - low)
    free, solid = np.zeros(shape, bool), np.zeros(shape, bool)
    at, level = flat[:-1] - low, cells[:, 1]
    floor = ~full & (level <= FLOOR_LEVEL)
    free[at[floor, 0], at[floor, 1]] = True
    obstacle = full & (level > FLOOR_LEVEL) & (level <= TOP_LEVEL)
    solid[at[obstacle, 0], at[obstacle, 1]] = True
    share = uniform_filter((free & ~solid).astype(np.float32), 3, mode="constant")
    free = (free | (share > 0.5)) & ~solid
    edge = (low - 0.5) * CELL
    return Floor(free, solid, float(edge[1]), float(edge[0]))


def leaves_of(octree: Octree) -> np.ndarray:
    """Return (L, 3) float: x, z metres of every column of leaves, and the height of its highest solid one (-1: floor).

    Heights are metres above the floor; ceilings are left out, so that one sees in from above.
    """
    held = octree.voxels
    cells = morton.decode(held.codes).numpy() - (1 << (DEPTH - 1))
    below = cells[:, 1] <= TOP_LEVEL
    cells, full = cells[below], held.tokens[:, 0].numpy()[below] > 0.5
    height = np.where(full, cells[:, 1] * CELL + EYE, -1.0)
    columns, group = np.unique(cells[:, [0, 2]], axis=0, return_inverse=True)
    highest = np.full(len(columns), -1.0)
    np.maximum.at(highest, group.ravel(), height)
    return np.concatenate([columns * CELL, highest[:, None]], 1)


def disc(radius: float) -> np.ndarray:
    """Return the cells (k, k) bool within ``radius`` metres of the middle one."""
    offsets = np.arange(-int(radius / CELL), int(radius / CELL) + 1) * CELL
    return np.hypot(offsets[:, None], offsets[None]) <= radius


def grown(cells: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Return ``cells`` (R, C) bool grown by a structuring element."""
    from scipy.ndimage import binary_dilation

    return binary_dilation(cells, structure=shape)


def _raised(floor: np.ndarray, height: float) -> np.ndarray:
    return np.stack([floor[:, 0], np.full(len(floor), height), floor[:, 1]], 1)
