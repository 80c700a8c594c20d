"""Triton kernels of `ops.unproject_insert`: a block of pixels per program, cells taken by compare-and-swap."""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

import torch
import triton
import triton.language as tl

from embodied_mem.kernels.triton_ops._voxels import encode, take_cells

BLOCK = 128
"""Pixels of a program."""


@triton.jit
def _sum_features(features, total, n, slot, F, BF: tl.constexpr):
    """Add rows of features (their numbers side by side) to the sums of their cells."""
    f = tl.arange(0, BF)
    for first in range(0, F, BF):
        mask = (slot >= 0)[:, None] & (first + f < F)[None, :]
        values = tl.load(features + n[:, None].to(tl.int64) * F + first + f[None, :], mask=mask, other=0.0)
        place = total + slot[:, None].to(tl.int64) * F + first + f[None, :]
        tl.atomic_add(place, values.to(tl.float32), mask=mask, sem="relaxed")


@triton.jit
def insert_kernel(
    depth, camera, intr, features, keys, count, total, dropped, lost, origin, P, W, C, F, limit, scale, max_depth,
    HAS_FEATURES: tl.constexpr, BLOCK: tl.constexpr, BF: tl.constexpr,
):  # fmt: skip
    """Insert a block of pixels; grid (B, blocks of P). ``limit`` voxels per axis, ``scale`` voxels per metre."""
    b = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    z = tl.load(depth + b * P + n, mask=n < P, other=0.0).to(tl.float32)
    camera += b * 12
    intr += b * 4
    origin += b * 3
    u = ((n % W).to(tl.float32) + 0.5 - tl.load(intr + 2).to(tl.float32)) / tl.load(intr).to(tl.float32)
    v = ((n // W).to(tl.float32) + 0.5 - tl.load(intr + 3).to(tl.float32)) / tl.load(intr + 1).to(tl.float32)
    valid = (n < P) & (z > 0) & (z <= max_depth)
    # what is not valid may be NaN or too large for an integer
    z = tl.where(valid, z, 0.0)
    x_at = tl.load(camera) * u + tl.load(camera + 1) * v + tl.load(camera + 2)
    y_at = tl.load(camera + 4) * u + tl.load(camera + 5) * v + tl.load(camera + 6)
    z_at = tl.load(camera + 8) * u + tl.load(camera + 9) * v + tl.load(camera + 10)
    x_at = tl.floor((x_at * z + (tl.load(camera + 3) - tl.load(origin))) * scale)
    y_at = tl.floor((y_at * z + (tl.load(camera + 7) - tl.load(origin + 1))) * scale)
    z_at = tl.floor((z_at * z + (tl.load(camera + 11) - tl.load(origin + 2))) * scale)
    valid = valid & (x_at >= 0) & (y_at >= 0) & (z_at >= 0) & (x_at < limit) & (y_at < limit) & (z_at < limit)
    x_at = tl.where(valid, x_at, 0.0).to(tl.int64)
    y_at = tl.where(valid, y_at, 0.0).to(tl.int64)
    z_at = tl.where(valid, z_at, 0.0).to(tl.int64)
    slot = take_cells(keys + b * C, encode(x_at, y_at, z_at), valid, C)
    held = slot >= 0
    tl.atomic_add(count + b * C + tl.maximum(slot, 0), 1, mask=held, sem="relaxed")
    if HAS_FEATURES:
        _sum_features(features + b * P * F, total + b * C * F, n, slot, F, BF)
    missing = tl.sum(((n < P) & (valid == 0)).to(tl.int32), 0)
    tl.atomic_add(dropped + b, missing, sem="relaxed")
    tl.atomic_add(lost + b, tl.sum((valid & (held == 0)).to(tl.int32), 0), sem="relaxed")


@triton.jit
def add_kernel(
    code, weight, features, keys, count, total, lost, N, C, F,
    HAS_FEATURES: tl.constexpr, BLOCK: tl.constexpr, BF: tl.constexpr,
):  # fmt: skip
    """Insert entries of given codes, points and sums; grid (B, blocks of N)."""
    b = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    key = tl.load(code + b * N + n, mask=n < N, other=-1)
    points = tl.load(weight + b * N + n, mask=n < N, other=0)
    valid = key >= 0
    slot = take_cells(keys + b * C, tl.where(valid, key, 0), valid, C)
    held = slot >= 0
    tl.atomic_add(count + b * C + tl.maximum(slot, 0), points, mask=held, sem="relaxed")
    if HAS_FEATURES:
        _sum_features(features + b * N * F, total + b * C * F, n, slot, F, BF)
    tl.atomic_add(lost + b, tl.sum(tl.where(valid & (held == 0), points, 0), 0), sem="relaxed")


def feature_tile(F: int) -> int:
    """Return features of a tile."""
    return max(1, min(32, triton.next_power_of_2(F)))


def insert(
    depth, camera, intr, features, keys, count, total, dropped, lost, origin, size: float, bits: int, max_depth: float
) -> None:
    """Launch; shapes as in `ops.unproject_insert`."""
    B, H, W = depth.shape
    C, F = keys.shape[1], total.shape[2]
    depth, camera, intr, origin = (z.contiguous() for z in (depth, camera, intr, origin))
    rows = depth if features is None else features.contiguous()
    insert_kernel[(B, triton.cdiv(H * W, BLOCK))](
        depth, camera, intr, rows, keys, count, total if F else origin, dropped, lost, origin, H * W, W, C, F,
        float(2**bits), 1.0 / size, max_depth, HAS_FEATURES=F > 0, BLOCK=BLOCK, BF=feature_tile(F), num_warps=4,
    )  # fmt: skip


def add(code, weight, features, keys, count, total, lost) -> None:
    """Launch; shapes as in `reference.unproject_insert.add`."""
    (B, N), C, F = code.shape, keys.shape[1], total.shape[2]
    rows = features.contiguous() if F else torch.empty(1, device=keys.device)
    add_kernel[(B, triton.cdiv(N, BLOCK))](
        code.contiguous(), weight.contiguous(), rows, keys, count, total if F else rows, lost, N, C, F,
        HAS_FEATURES=F > 0, BLOCK=BLOCK, BF=feature_tile(F), num_warps=4,
    )  # fmt: skip
