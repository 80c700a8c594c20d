"""Triton kernels of `ops.map_query`: a block of look-ups, or of rays, per program."""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from embodied_mem.kernels.triton_ops._voxels import cells_of, encode

BLOCK = 128
"""Look-ups or rays of a program."""


@triton.jit
def find_kernel(keys, voxels, offsets, slots, Q, K, C, limit, BLOCK: tl.constexpr):
    """Look up a block of the Q * K voxels of a row; grid (B, blocks)."""
    b = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    live = n < Q * K
    place = voxels + (b * Q + n // K) * 3
    offset = offsets + (n % K) * 3
    x = tl.load(place, mask=live, other=-1) + tl.load(offset, mask=live, other=0)
    y = tl.load(place + 1, mask=live, other=-1) + tl.load(offset + 1, mask=live, other=0)
    z = tl.load(place + 2, mask=live, other=-1) + tl.load(offset + 2, mask=live, other=0)
    inside = live & (x >= 0) & (y >= 0) & (z >= 0) & (x < limit) & (y < limit) & (z < limit)
    code = encode(tl.where(inside, x, 0), tl.where(inside, y, 0), tl.where(inside, z, 0))
    slot = cells_of(keys + b * C, code, inside, C)
    tl.store(slots + b * Q * K + n, slot.to(tl.int64), mask=live)


@triton.jit
def _meets(at, step, start, direction):
    """Return when a ray meets the next border of an axis."""
    border = at + tl.where(step > 0, 1, 0)
    slope = tl.where(direction == 0.0, 1.0, direction)
    # rounded as torch does, so that borders met at the same time stay equal
    return tl.where(direction == 0.0, float("inf"), tl.div_rn(border.to(tl.float32) - start, slope))


@triton.jit
def _sign(x):
    return tl.where(x > 0, 1, tl.where(x < 0, -1, 0)).to(tl.int32)


@triton.jit
def cast_kernel(keys, start, direction, slots, far, Q, C, limit, steps, BLOCK: tl.constexpr):
    """Walk a block of rays of a row; grid (B, blocks of Q)."""
    b = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    live = n < Q
    at = (b * Q + n) * 3
    sx = tl.load(start + at, mask=live, other=-1.0)
    sy = tl.load(start + at + 1, mask=live, other=-1.0)
    sz = tl.load(start + at + 2, mask=live, other=-1.0)
    dx = tl.load(direction + at, mask=live, other=0.0)
    dy = tl.load(direction + at + 1, mask=live, other=0.0)
    dz = tl.load(direction + at + 2, mask=live, other=0.0)
    top = limit.to(tl.float32)
    going = live & (sx >= 0) & (sy >= 0) & (sz >= 0) & (sx < top) & (sy < top) & (sz < top)
    # what is not inside may be NaN or too large for an integer
    x = tl.floor(tl.where(going, sx, 0.0)).to(tl.int32)
    y = tl.floor(tl.where(going, sy, 0.0)).to(tl.int32)
    z = tl.floor(tl.where(going, sz, 0.0)).to(tl.int32)
    reached = tl.zeros((BLOCK,), tl.float32)
    distance = tl.full((BLOCK,), float("inf"), tl.float32)
    found = tl.full((BLOCK,), -1, tl.int32)
    count = 0
    while (tl.max(going.to(tl.int32), 0) > 0) & (count < steps):
        code = encode(x.to(tl.int64), y.to(tl.int64), z.to(tl.int64))
        slot = cells_of(keys + b * C, code, going, C)
        hit = going & (slot >= 0)
        found = tl.where(hit, slot, found)
        distance = tl.where(hit, reached, distance)
        mx = _meets(x, _sign(dx), sx, dx)
        my = _meets(y, _sign(dy), sy, dy)
        mz = _meets(z, _sign(dz), sz, dz)
        first = tl.minimum(mx, tl.minimum(my, mz))
        along_x = mx == first
        along_y = (my == first) & (along_x == 0)
        along_z = (along_x == 0) & (along_y == 0)
        x += tl.where(along_x, _sign(dx), 0)
        y += tl.where(along_y, _sign(dy), 0)
        z += tl.where(along_z, _sign(dz), 0)
        reached = first
        inside = (x >= 0) & (y >= 0) & (z >= 0) & (x < limit) & (y < limit) & (z < limit)
        going = going & (hit == 0) & inside & (first < float("inf"))
        x = tl.where(going, x, 0)
        y = tl.where(going, y, 0)
        z = tl.where(going, z, 0)
        count += 1
    tl.store(slots + b * Q + n, found.to(tl.int64), mask=live)
    tl.store(far + b * Q + n, distance, mask=live)


def find(keys, voxels, offsets, bits: int) -> Tensor:
    """Launch; as `reference.map_query.find`."""
    (B, C), Q, K = keys.shape, voxels.shape[1], len(offsets)
    slots = torch.empty((B, Q, K), dtype=torch.int64, device=keys.device)
    find_kernel[(B, triton.cdiv(Q * K, BLOCK))](
        keys, voxels.contiguous(), offsets.contiguous(), slots, Q, K, C, 2**bits, BLOCK=BLOCK, num_warps=4
    )
    return slots


def cast(keys, start, direction, bits: int, steps: int) -> tuple[Tensor, Tensor]:
    """Launch; as `reference.map_query.cast`."""
    (B, C), Q = keys.shape, start.shape[1]
    slots = torch.empty((B, Q), dtype=torch.int64, device=keys.device)
    far = torch.empty((B, Q), dtype=torch.float32, device=keys.device)
    cast_kernel[(B, triton.cdiv(Q, BLOCK))](
        keys, start.contiguous(), direction.contiguous(), slots, far, Q, C, 2**bits, steps, BLOCK=BLOCK, num_warps=4
    )
    return slots, far
