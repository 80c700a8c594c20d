"""Plain torch form of `ops.map_query`."""

from __future__ import annotations

import torch
from torch import Tensor

from embodied_mem.kernels.reference._voxels import EMPTY, cells_of, morton_encode, spread

__all__ = ["cast", "find"]


def codes(voxels: Tensor, offsets: Tensor, bits: int) -> Tensor:
    """Return the codes (B, Q, K) int64 of voxels (B, Q, 3) plus offsets (K, 3), -1 where they lie outside the map."""
    # bits are spread once per different offset of an axis, not per neighbour
    steps, at = offsets.unique(return_inverse=True)
    axes = (voxels.unsqueeze(-1) + steps).to(torch.int64)
    outside = (axes < 0) | (axes >= 2**bits)
    axes = spread(axes.clamp_(0, 2**bits - 1))
    axes = axes.bitwise_left_shift_(torch.arange(3, device=axes.device).unsqueeze(1))
    # or with -1 is -1
    x, y, z = axes.masked_fill_(outside, EMPTY).unbind(2)
    return x[..., at[:, 0]].bitwise_or_(y[..., at[:, 1]]).bitwise_or_(z[..., at[:, 2]])


def find(keys: Tensor, voxels: Tensor, offsets: Tensor, bits: int) -> Tensor:
    """Return slots (B, Q, K) int64, -1 where there is none; shapes as in `ops.map_query`."""
    (B, Q, _), K = voxels.shape, len(offsets)
    code = codes(voxels, offsets, bits)
    row = torch.arange(B, device=keys.device).unsqueeze(1).expand(B, Q * K).reshape(-1)
    return cells_of(keys, row, code.flatten()).view(B, Q, K)


def cast(keys: Tensor, start: Tensor, direction: Tensor, bits: int, steps: int) -> tuple[Tensor, Tensor]:
    """Return slots (B, Q) int64 and distances (B, Q); shapes as in `ops.map_query`."""
    B, Q, _ = start.shape
    step = direction.sign().to(torch.int64)
    at = start.floor()
    at = torch.where(torch.isfinite(at) & (at.abs() < 2**30), at, EMPTY).to(torch.int64).flatten(0, 1)
    start, direction, step = start.flatten(0, 1), direction.flatten(0, 1), step.flatten(0, 1)
    slots = torch.full((B * Q,), -1, device=keys.device)
    far = start.new_full((B * Q,), torch.inf)
    row = torch.arange(B, device=keys.device).repeat_interleave(Q)
    going = torch.arange(B * Q, device=keys.device)
    reached = torch.zeros_like(far)
    for _ in range(steps):
        if not len(going):
            break
        here = at[going]
        inside = ((here >= 0) & (here < 2**bits)).all(-1)
        going, here = going[inside], here[inside]
        slot = cells_of(keys, row[going], morton_encode(here))
        hit = slot >= 0
        slots[going] = slot
        far[going[hit]] = reached[going[hit]]
        going, here = going[~hit], here[~hit]
        # the border that the ray meets next, of equal ones that of the first axis
        s, d, to = start[going], direction[going], step[going]
        border = torch.where(d == 0, torch.inf, (here + (to > 0) - s) / d)
        meets, axis = border.min(-1)
        going = going[torch.isfinite(meets)]
        axis, meets = axis[torch.isfinite(meets)], meets[torch.isfinite(meets)]
        at[going, axis] += step[going, axis]
        reached[going] = meets
    return slots.view(B, Q), far.view(B, Q)
