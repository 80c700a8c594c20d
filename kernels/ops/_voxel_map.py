"""A sparse voxel map per row: a hash table of Morton codes with points and feature sums."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from embodied_mem.errors import UsageError
from embodied_mem.kernels.reference._voxels import EMPTY

__all__ = ["VoxelMap", "clear_map", "voxel_map"]

MAX_BITS = 21


class VoxelMap(NamedTuple):
    """Tensors of the map; operations write them in place. Where a voxel stands in the table has no meaning."""

    keys: Tensor
    """(B, C) int64 Morton codes, -1 where a cell is empty; C a power of two."""
    points: Tensor
    """(B, C) int32 points of a voxel."""
    total: Tensor
    """(B, C, F) float32 sums of the features of these points; F may be 0."""
    origin: Tensor
    """(B, 3) float32 lowest corner of the map, metres."""
    dropped: Tensor
    """(B,) int32 points so far that had no valid depth or lay outside."""
    lost: Tensor
    """(B,) int32 points so far that found the table full."""
    size: float
    """Side of a voxel, metres."""
    bits: int
    """The map has 2^bits voxels along each axis."""

    @property
    def held(self) -> Tensor:
        """(B,) int64 voxels held; above C / 2 probing slows down."""
        return (self.keys != EMPTY).sum(1)

    @property
    def overflow(self) -> Tensor:
        """(B,) bool, whether a point was lost since the last reset because the table was full."""
        return self.lost > 0


def voxel_map(
    rows: int,
    capacity: int,
    *,
    size: float,
    origin: Tensor | None = None,
    bits: int = 10,
    features: int = 0,
    device: torch.device | str | None = None,
) -> VoxelMap:
    """Return empty maps.

    Args:
        rows: B, environments.
        capacity: C, cells per row, a power of two; take twice the voxels that are expected.
        size: side of a voxel, metres.
        origin: (3,) or (B, 3) lowest corner, metres; None puts the origin of the world in the middle.
        bits: 2^bits voxels per axis, at most 21. Positions are float32: above 2^16 voxels borders are blurred by
            more than 1/256 of a voxel.
        features: F, numbers summed per voxel.
        device: of the tensors.

    Raises:
        UsageError: the capacity is no power of two, or a number is out of range.

    >>> voxel_map(2, 8, size=0.5, bits=4).origin.tolist()[0]
    [-4.0, -4.0, -4.0]
    """
    if capacity < 2 or capacity & (capacity - 1):
        raise UsageError(f"expected a capacity that is a power of two, got {capacity}")
    if not size > 0 or not 1 <= bits <= MAX_BITS or rows < 1 or features < 0:
        raise UsageError(
            f"expected size > 0, 1 <= bits <= {MAX_BITS}, rows >= 1 and features >= 0, "
            f"got {size}, {bits}, {rows} and {features}"
        )
    if origin is None:
        origin = torch.full((3,), -size * 2 ** (bits - 1))
    if origin.shape not in ((3,), (rows, 3)):
        raise UsageError(f"expected origin of shape (3,) or {(rows, 3)}, got {tuple(origin.shape)}")
    return VoxelMap(
        torch.full((rows, capacity), EMPTY, dtype=torch.int64, device=device),
        torch.zeros(rows, capacity, dtype=torch.int32, device=device),
        torch.zeros(rows, capacity, features, device=device),
        origin.to(device, torch.float32).expand(rows, 3).contiguous(),
        torch.zeros(rows, dtype=torch.int32, device=device),
        torch.zeros(rows, dtype=torch.int32, device=device),
        size,
        bits,
    )


def clear_map(map: VoxelMap, reset: Tensor) -> None:
    """Empty the maps of the rows where ``reset`` (B,) bool is True, in place.

    Raises:
        ValueError: ``reset`` does not fit.
    """
    if reset.shape != map.lost.shape or reset.dtype != torch.bool:
        raise ValueError(f"expected reset {tuple(map.lost.shape)} bool, got {tuple(reset.shape)} {reset.dtype}")
    map.keys.masked_fill_(reset.view(-1, 1), EMPTY)
    map.points.masked_fill_(reset.view(-1, 1), 0)
    map.total.masked_fill_(reset.view(-1, 1, 1), 0)
    map.dropped.masked_fill_(reset, 0)
    map.lost.masked_fill_(reset, 0)


def check_map(map: VoxelMap) -> None:
    """Check shapes and types.

    Raises:
        ValueError: the tensors do not belong together.
    """
    if map.keys.dim() != 2 or map.total.dim() != 3:
        raise ValueError(f"expected keys (B, C) and total (B, C, F), got {map.keys.shape} and {map.total.shape}")
    (B, C), F = map.keys.shape, map.total.shape[2]
    for name, found, want in (
        ("points", map.points, (B, C)),
        ("total", map.total, (B, C, F)),
        ("origin", map.origin, (B, 3)),
        ("dropped", map.dropped, (B,)),
        ("lost", map.lost, (B,)),
    ):
        if tuple(found.shape) != want:
            raise ValueError(f"expected {name} of shape {want}, got {tuple(found.shape)}")
    if map.keys.dtype != torch.int64 or any(z.dtype != torch.int32 for z in (map.points, map.dropped, map.lost)):
        raise ValueError("expected keys int64, and points, dropped and lost int32")
    if C & (C - 1) or not all(z.is_contiguous() for z in (map.keys, map.points, map.total)):
        raise ValueError(f"expected contiguous tables of a power of two of cells, got {C} cells")
