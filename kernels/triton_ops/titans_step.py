"""Triton kernels of `ops.titans_step`: one program per chain and head, W and Z in registers while its chunks pass.

Everything is float32; products run as tf32 for half inputs and exactly for float32. The clip bounds a gradient over all
its columns, so a program holds whole matrices: up to 64 x 64, in float32 32 x 32. Larger ones pass through memory, tile
by tile (`_titans_tiled`).

The forward saves starts and errors. The backward runs in three passes, since one spills registers: through the reads,
every chunk by itself (`_titans_parts`); along the chains from the last chunk to the first; then keys and coefficients,
by chunk again.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

import math
import os

import torch
import triton
import triton.language as tl
from torch import Tensor

from embodied_mem.kernels.triton_ops._titans_parts import (
    dot,
    ends_kernel,
    load,
    reads_kernel,
    size,
    soft,
    store,
    vector,
)
from embodied_mem.kernels.triton_ops._titans_tiled import tiled_chain_kernel, tiled_forward_kernel


@triton.jit
def forward_kernel(
    q, k, v, theta, kappa, mu, start, offsets, held, u_held, bound, o, u, last, final, states, E, H, J, K, V, C,
    HAS_HELD: tl.constexpr, CLIP: tl.constexpr, SAVE: tl.constexpr, PRECISION: tl.constexpr,
    BC: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """Run the chunks of a chain; grid (E * H,). All inputs are contiguous; ``bound`` is 4 / clip^2."""
    e = (tl.program_id(0) // H).to(tl.int64)
    h = tl.program_id(0) % H
    i = tl.arange(0, BC)
    x = tl.arange(0, BK)
    y = tl.arange(0, BV)
    chain = (e * H + h) * 2 * K * V
    W = load(start + chain, x, y, K, V)
    Z = load(start + chain + K * V, x, y, K, V)
    before_W = W
    before_Z = Z
    j = 0
    while e < size(offsets, j, J):
        m = (tl.load(offsets + j) + e) * H + h
        key = load(k + m * C * K, i, x, C, K)
        ask = load(q + m * C * K, i, x, C, K)
        value = load(v + m * C * V, i, y, C, V)
        error = dot(key, W, PRECISION) - value
        if SAVE:
            at = states + m * (2 * K + C) * V
            store(at, W, x, y, K, V)
            store(at + K * V, Z, x, y, K, V)
            store(at + 2 * K * V, error, i, y, C, V)
        writes = error * (-2.0 * soft(tl.sum(error * error, 1), bound, CLIP) * vector(theta + m * C, i, C, 1))[:, None]
        if HAS_HELD:
            given = (tl.load(held + e * C + i, mask=(i < C) & (j == 0), other=0) != 0)[:, None]
            writes = tl.where(given, load(u_held + (e * H + h) * C * V, i, y, C, V), writes)
        store(u + m * C * V, writes, i, y, C, V)
        row = kappa + m * C * (2 + C)
        inside = (i < C)[:, None] & (i < C)[None, :]
        slots = tl.load(row + i[:, None] * (2 + C) + 2 + i[None, :], mask=inside, other=0.0).to(tl.float32)
        scores = dot(ask, tl.trans(key), PRECISION) * slots
        read = dot(ask * vector(row, i, C, 2 + C)[:, None], W, PRECISION)
        read += dot(ask * vector(row + 1, i, C, 2 + C)[:, None], Z, PRECISION)
        read += dot(scores, writes, PRECISION)
        store(o + m * C * V, read, i, y, C, V)
        end = row + (C - 1) * (2 + C)
        before_W = W
        before_Z = Z
        moved = dot(tl.trans(key * vector(end + 2, i, C, 1)[:, None]), writes, PRECISION)
        W = tl.load(end).to(tl.float32) * before_W + tl.load(end + 1).to(tl.float32) * before_Z + moved
        kept = mu + m * (1 + C)
        moved = dot(tl.trans(key * vector(kept + 1, i, C, 1)[:, None]), writes, PRECISION)
        Z = tl.load(kept).to(tl.float32) * before_Z + moved
        j += 1
    store(last + chain, before_W, x, y, K, V)
    store(last + chain + K * V, before_Z, x, y, K, V)
    store(final + chain, W, x, y, K, V)
    store(final + chain + K * V, Z, x, y, K, V)


@triton.jit
def chain_kernel(
    d_rows, d_u, d_last, d_final, k, theta, kappa, mu, offsets, held, bound, states, beyond, d_v, d_theta, d_start,
    d_held, E, H, J, K, V, C,
    HAS_HELD: tl.constexpr, CLIP: tl.constexpr, PRECISION: tl.constexpr,
    BC: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """Second pass: what must go from chunk to chunk, last to first; grid (E * H,)."""
    e = (tl.program_id(0) // H).to(tl.int64)
    h = tl.program_id(0) % H
    i = tl.arange(0, BC)
    x = tl.arange(0, BK)
    y = tl.arange(0, BV)
    chain = (e * H + h) * 2 * K * V
    count = 0
    while e < size(offsets, count, J):
        count += 1
    dW = load(d_final + chain, x, y, K, V)
    dZ = load(d_final + chain + K * V, x, y, K, V)
    for back in range(0, count):
        j = count - 1 - back
        m = (tl.load(offsets + j) + e) * H + h
        at = m * (2 * K + C) * V
        store(beyond + m * 2 * K * V, dW, x, y, K, V)
        store(beyond + m * 2 * K * V + K * V, dZ, x, y, K, V)
        key = load(k + m * C * K, i, x, C, K)
        end = kappa + (m * C + C - 1) * (2 + C)
        kept = mu + m * (1 + C)
        d_writes = load(d_u + m * C * V, i, y, C, V) + load(d_rows + at + 2 * K * V, i, y, C, V)
        d_writes += dot(key * vector(end + 2, i, C, 1)[:, None], dW, PRECISION)
        d_writes += dot(key * vector(kept + 1, i, C, 1)[:, None], dZ, PRECISION)
        if HAS_HELD:
            given = (tl.load(held + e * C + i, mask=(i < C) & (j == 0), other=0) != 0)[:, None]
            if j == 0:
                store(d_held + (e * H + h) * C * V, tl.where(given, d_writes, 0.0), i, y, C, V)
            d_writes = tl.where(given, 0.0, d_writes)
        error = load(states + at + 2 * K * V, i, y, C, V)
        scale = soft(tl.sum(error * error, 1), bound, CLIP)
        along = tl.sum(d_writes * error, 1)
        tl.store(d_theta + m * C + i, -2.0 * scale * along, mask=i < C)
        if CLIP:
            d_writes -= error * (scale * scale * bound * along)[:, None]
        d_error = d_writes * (-2.0 * scale * vector(theta + m * C, i, C, 1))[:, None]
        store(d_v + m * C * V, -d_error, i, y, C, V)
        moved = tl.load(end + 1).to(tl.float32) * dW + tl.load(kept).to(tl.float32) * dZ
        dZ = moved + load(d_rows + at + K * V, x, y, K, V)
        moved = tl.load(end).to(tl.float32) * dW + dot(tl.trans(key), d_error, PRECISION)
        dW = moved + load(d_rows + at, x, y, K, V)
        if back == 0:
            dW += load(d_last + chain, x, y, K, V)
            dZ += load(d_last + chain + K * V, x, y, K, V)
    store(d_start + chain, dW, x, y, K, V)
    store(d_start + chain + K * V, dZ, x, y, K, V)


WARPS = 8
"""Warps of a program that runs a chain."""


def tiles(C: int, K: int, V: int, *, wide: bool) -> tuple[int, int, int, bool]:
    """Return the tile of tokens, keys and values, and whether it holds whole matrices; ``wide``: float32."""
    largest = 32 if wide else 64
    BC, BK, BV = (max(16, triton.next_power_of_2(n)) for n in (C, K, V))
    whole = max(BK, BV) <= largest
    return BC, min(BK, largest), min(BV, largest if whole else 32), whole


def chunk_tiles(BK: int, BV: int, *, wide: bool) -> dict[str, int]:
    """Return the tile and warps of the passes that take every chunk by itself, from the tile of the chain."""
    return {"BK": BK, "BV": min(BV, 32), "num_warps": 4 if wide else 8}


def _flags(q, v, clip: float, held):
    wide = q.dtype == torch.float32
    # three tf32 products for float32 spill registers
    precision = "ieee" if wide or os.environ.get("TRITON_INTERPRET") == "1" else "tf32"
    BC, BK, BV, whole = tiles(q.shape[-2], q.shape[-1], v.shape[-1], wide=wide)
    return {"HAS_HELD": held is not None, "CLIP": not math.isinf(clip), "PRECISION": precision,
            "BC": BC, "BK": BK, "BV": BV, "num_warps": WARPS}, whole  # fmt: skip


def _bound(clip: float) -> float:
    return 0.0 if math.isinf(clip) else 4.0 / clip**2


def forward(q, k, v, theta, kappa, mu, start, offsets, held, u_held, clip: float, save: bool) -> tuple[Tensor, ...]:
    """Launch; returns o, u, last, final and, if ``save``, the starts of all chunks."""
    (M, H, C, K), V, E, J = q.shape, v.shape[-1], len(start), len(offsets) - 1
    q, k, v, theta, kappa, mu, start = (z.contiguous() for z in (q, k, v, theta, kappa, mu, start))
    o, u, last, final = torch.empty_like(v), torch.empty_like(v), torch.empty_like(start), torch.empty_like(start)
    flags, whole = _flags(q, v, clip, held)
    places = M if save else 0 if whole else 2 * E
    states = torch.empty((places, H, 2 * K + C, V), dtype=torch.float32, device=q.device)
    given = start if held is None else held.contiguous().view(torch.uint8)
    kernel = forward_kernel if whole else tiled_forward_kernel
    kernel[(E * H,)](
        q, k, v, theta, kappa, mu, start, offsets, given, start if held is None else u_held.contiguous(), _bound(clip),
        o, u, last, final, states, E, H, J, K, V, C, SAVE=save, **flags,
    )  # fmt: skip
    return o, u, last, final, states if save else states.new_empty((0, H, 2 * K + C, V))


def backward(
    d_o, d_u, d_last, d_final, q, k, v, theta, kappa, mu, start, offsets, held, u_held, clip: float, states
) -> tuple[Tensor, ...]:
    """Launch; returns the gradients of q, k, v, theta, kappa, mu, start and u_held (empty without)."""
    (M, H, C, K), V, E, J = q.shape, v.shape[-1], len(start), len(offsets) - 1
    d_o, d_u, d_last, d_final = (z.contiguous() for z in (d_o, d_u, d_last, d_final))
    inputs = [z.contiguous() for z in (q, k, v, theta, kappa, mu)]
    wide = {"dtype": torch.float32, "device": q.device}
    found = [torch.empty(z.shape, **wide) for z in (*inputs, start)]
    d_q, d_k, d_v, d_theta, d_kappa, d_mu, d_start = found
    d_held = torch.empty(u_held.shape, **wide) if held is not None else d_start
    given = start if held is None else held.contiguous().view(torch.uint8)
    own = start if held is None else u_held.contiguous()
    q, k, v, theta, kappa, mu = inputs
    bound, (flags, whole) = _bound(clip), _flags(q, v, clip, held)
    d_rows, beyond = torch.empty_like(states), torch.empty((M, H, 2 * K, V), **wide)
    apart = flags | chunk_tiles(flags["BK"], flags["BV"], wide=q.dtype == torch.float32)
    reads_kernel[(M * H,)](
        d_o, q, k, theta, kappa, given, own, bound, states, d_rows, d_q, d_k, d_kappa, E, H, K, V, C, **apart
    )
    along = (d_rows, d_u, d_last, d_final, k, theta, kappa, mu, offsets, given, bound, states, beyond)
    into = (d_v, d_theta, d_start, d_held, E, H, J, K, V, C)
    if whole:
        chain_kernel[(E * H,)](*along, *into, **flags)
    else:
        tiled_chain_kernel[(E * H,)](*along, torch.empty((E, H, C, V), **wide), *into, **flags)
    ends_kernel[(M * H,)](
        d_v, k, theta, kappa, mu, given, own, bound, states, beyond, d_k, d_kappa, d_mu, E, H, K, V, C, **apart
    )
    grads = [z.to(x.dtype) for z, x in zip(found, (*inputs, start))]
    return (*grads, q.new_empty(0) if held is None else d_held.to(u_held.dtype))
