"""Unbounded voxel map for streams and long lives: the cells and rules of `voxel_map` without its capacity.

It stands outside the memory contract: one map, no rows, no gradient, growing with what is seen. Codes are kept sorted,
so every query is a binary search, and the cells below any node of the octree are one slice.
"""

from __future__ import annotations

import torch
from torch import Tensor

from embodied_mem.errors import UsageError
from embodied_mem.memory.spatial import morton
from embodied_mem.memory.spatial.voxel_queries import Voxels

__all__ = ["Octree"]


class Octree:
    """Sparse octree of tokens with running means."""

    def __init__(self, dim: int, cell: float = 0.25, depth: int = 16, keep: float = 0.0) -> None:
        """Make an empty map.

        Args:
            dim: width V of a token.
            cell: side of a leaf, metres.
            depth: levels; the cube has side ``cell * 2**depth``, centred on the origin.
            keep: least weight of the newest observation, 0 for the plain mean of all; 0.1 forgets slowly.

        Raises:
            UsageError: a value is out of range.
        """
        morton.check_depth(depth)
        if dim < 1 or cell <= 0 or not 0 <= keep < 1:
            raise UsageError(f"expected dim >= 1, cell > 0 and 0 <= keep < 1, got {dim}, {cell}, {keep}")
        self.keep = keep
        self.version = 0
        self._voxels = Voxels(
            torch.zeros(0, dtype=torch.int64),
            torch.zeros(0, dim),
            torch.zeros(0, dtype=torch.int64),
            cell,
            depth,
        )

    @property
    def voxels(self) -> Voxels:
        """What is held, for `voxel_queries`."""
        return self._voxels

    def __len__(self) -> int:
        return len(self._voxels.codes)

    def nbytes(self) -> int:
        """Return the bytes of all cells."""
        held = self._voxels
        return sum(value.numel() * value.element_size() for value in (held.codes, held.tokens, held.seen))

    def insert(self, points: Tensor, tokens: Tensor) -> int:
        """Add observations and return how many lay in the cube.

        Args:
            points: (P, 3) metres. tokens: (P, V) float.

        Raises:
            UsageError: the shapes do not fit.
        """
        held = self._voxels
        if points.shape != (len(tokens), 3) or tokens.shape[1:] != held.tokens.shape[1:]:
            raise UsageError(
                f"expected points (P, 3) and tokens (P, {held.tokens.shape[1]}), "
                f"got {tuple(points.shape)} and {tuple(tokens.shape)}"
            )
        cells, inside = morton.cells_of(points, held.cell, held.depth)
        codes, group = morton.encode(cells[inside]).unique(return_inverse=True)
        total = torch.zeros(len(codes), held.tokens.shape[1])
        total.index_add_(0, group, tokens[inside].detach().float().cpu())
        mean = total / group.bincount(minlength=len(codes)).unsqueeze(-1)
        joined, place = torch.cat([held.codes, codes]).unique(return_inverse=True)
        old, new = place[: len(held.codes)], place[len(held.codes) :]
        seen = torch.zeros(len(joined), dtype=torch.int64)
        seen[old] = held.seen
        table = torch.zeros(len(joined), held.tokens.shape[1])
        table[old] = held.tokens
        seen[new] += 1
        share = (1 / seen[new]).clamp(min=self.keep).unsqueeze(-1)
        table[new] += share * (mean - table[new])
        self._voxels = held._replace(codes=joined, tokens=table, seen=seen)
        self.version += 1
        return int(inside.sum())

    def below(self, code: int, levels: int) -> Voxels:
        """Return the leaves below the node ``code`` that stands ``levels`` above them."""
        first, last = morton.children(torch.tensor(code), levels)
        held = self._voxels
        start, stop = torch.searchsorted(held.codes, torch.stack([first, last])).tolist()
        return held._replace(codes=held.codes[start:stop], tokens=held.tokens[start:stop], seen=held.seen[start:stop])
