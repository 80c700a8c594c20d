"""Queries of voxels held as codes and tokens: exact, neighbourhood, radius and ray, and coarser levels.

They take flat tensors, so a row of a `voxel_map` (`voxels_of`), an unbounded `octree` and anything else with Morton
codes are asked in the same way. An unknown place is said by a mask, never by a zero token.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from embodied_mem.errors import UsageError
from embodied_mem.memory.spatial import morton
from embodied_mem.memory.spatial.slots import EMPTY

__all__ = ["Voxels", "aggregate", "exact", "neighbourhood", "radius", "ray", "voxels_of"]


class Voxels(NamedTuple):
    """N occupied cells in ascending order of their codes."""

    codes: Tensor
    """(N,) int64."""
    tokens: Tensor
    """(N, V) float."""
    seen: Tensor
    """(N,) int64 times seen."""
    cell: float
    """Side of a cell, metres."""
    depth: int
    """Levels of the octree."""

    def centres(self) -> Tensor:
        """Return the centres (N, 3) float64, metres."""
        return morton.centres_of(morton.decode(self.codes), self.cell, self.depth)


def voxels_of(cells: Tensor, token: Tensor, cell: float, depth: int) -> Voxels:
    """Return what one row of a voxel map holds.

    Args:
        cells: (S, 6) int64 and token: (S, V), as in its state.
    """
    held = (cells[:, 0] != EMPTY).nonzero()[:, 0]
    held = held[cells[held, 0].argsort()]
    return Voxels(cells[held, 0], token[held], cells[held, 4], cell, depth)


def exact(voxels: Voxels, points: Tensor) -> tuple[Tensor, Tensor]:
    """Return tokens (Q, V) and ``found`` (Q,) bool of the cells that points (Q, 3) metres fall into."""
    cells, inside = morton.cells_of(points, voxels.cell, voxels.depth)
    return _look_up(voxels, morton.encode(cells), inside)


def neighbourhood(voxels: Voxels, points: Tensor, reach: int = 1) -> tuple[Tensor, Tensor]:
    """Return tokens (Q, (2 reach + 1)^3, V) and ``found`` of the cells around each point, in order of x, y, z."""
    if reach < 0:
        raise UsageError(f"expected reach >= 0 cells, got {reach}")
    cells, inside = morton.cells_of(points, voxels.cell, voxels.depth)
    steps = torch.arange(-reach, reach + 1, device=points.device)
    around = cells.unsqueeze(-2) + torch.cartesian_prod(steps, steps, steps)
    last = (1 << voxels.depth) - 1
    on_cube = ((around >= 0) & (around <= last)).all(-1) & inside.unsqueeze(-1)
    return _look_up(voxels, morton.encode(around.clamp(0, last)), on_cube)


def radius(voxels: Voxels, points: Tensor, metres: float) -> Tensor:
    """Return (Q, N) bool: which voxels have their centre within ``metres`` of each point (Q, 3)."""
    return (points.double().unsqueeze(1) - voxels.centres()).square().sum(-1) <= metres**2


def ray(voxels: Voxels, origins: Tensor, directions: Tensor, longest: float) -> tuple[Tensor, Tensor]:
    """Return the first voxel on each ray: its index (Q,) int64, -1 for none, and the metres to it (Q,) float64.

    Args:
        origins: (Q, 3) metres. directions: (Q, 3), any length > 0. longest: metres.

    The ray is cut at every plane between cells, so that no cell it passes through is missed.
    """
    unit = torch.nn.functional.normalize(directions.double(), dim=-1)
    origins = origins.double()
    planes = torch.arange(int(longest / voxels.cell) + 2, device=origins.device)
    base = (origins / voxels.cell + 0.5).floor().unsqueeze(-1)
    ahead = torch.where(unit.unsqueeze(-1) > 0, base + 1 + planes, base - planes)
    # metres to the planes; a ray along a plane never meets it
    cuts = ((ahead - 0.5) * voxels.cell - origins.unsqueeze(-1)) / unit.unsqueeze(-1)
    cuts = torch.where(unit.unsqueeze(-1) == 0, longest, cuts).clamp(0, longest).flatten(1).sort(1).values
    cuts = torch.nn.functional.pad(cuts, (1, 0))
    middle = (cuts[:, 1:] + cuts[:, :-1]) / 2
    cells, inside = morton.cells_of(
        origins.unsqueeze(1) + middle.unsqueeze(-1) * unit.unsqueeze(1), voxels.cell, voxels.depth
    )
    index, found = _index(voxels, morton.encode(cells))
    found &= inside & (cuts[:, 1:] > cuts[:, :-1])
    first = found.int().argmax(1, keepdim=True)
    hit = found.any(1)
    return (
        torch.where(hit, index.gather(1, first)[:, 0], -1),
        torch.where(hit, cuts.gather(1, first)[:, 0], torch.inf),
    )


def aggregate(voxels: Voxels, levels: int) -> Voxels:
    """Return the nodes ``levels`` above: means of the tokens below, weighted by how often they were seen."""
    if not 0 <= levels < voxels.depth:
        raise UsageError(f"expected 0 <= levels < {voxels.depth}, got {levels}")
    codes, group = morton.parent(voxels.codes, levels).unique_consecutive(return_inverse=True)
    seen = voxels.seen.new_zeros(len(codes)).index_add(0, group, voxels.seen)
    weighed = voxels.tokens * voxels.seen.unsqueeze(-1)
    total = voxels.tokens.new_zeros(len(codes), voxels.tokens.shape[1]).index_add(0, group, weighed)
    return Voxels(codes, total / seen.unsqueeze(-1), seen, voxels.cell * 2**levels, voxels.depth - levels)


def _index(voxels: Voxels, codes: Tensor) -> tuple[Tensor, Tensor]:
    if not len(voxels.codes):
        return torch.zeros_like(codes), torch.zeros_like(codes, dtype=torch.bool)
    index = torch.searchsorted(voxels.codes, codes.contiguous()).clamp(max=len(voxels.codes) - 1)
    return index, voxels.codes[index] == codes


def _look_up(voxels: Voxels, codes: Tensor, possible: Tensor) -> tuple[Tensor, Tensor]:
    index, found = _index(voxels, codes)
    found &= possible
    if not len(voxels.codes):
        return voxels.tokens.new_zeros(*codes.shape, voxels.tokens.shape[1]), found
    return torch.where(found.unsqueeze(-1), voxels.tokens[index], 0), found
