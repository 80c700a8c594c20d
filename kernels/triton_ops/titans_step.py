"""Triton kernels of `ops.titans_step`: one program per chain and head, W and Z in registers while its chunks pass.

Everything is float32; products run as tf32 for half inputs and exactly for float32. The clip bounds a gradient over all
its columns, so a program holds whole matrices: up to 64 x 64, in float32 32 x 32.

The forward saves starts and errors. The backward runs in three passes, since one spills registers: through the reads,
every chunk by itself; along the chains from the last chunk to the first; then keys and coefficients, by chunk again.
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


@triton.jit
def _dot(a, b, PRECISION: tl.constexpr):
    return tl.dot(a, b, input_precision=PRECISION)


@triton.jit
def _load(pointer, rows, columns, R, X):
    """Load a matrix of R rows of X numbers, 0 outside."""
    mask = (rows < R)[:, None] & (columns < X)[None, :]
    return tl.load(pointer + rows[:, None] * X + columns[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _store(pointer, values, rows, columns, R, X):
    mask = (rows < R)[:, None] & (columns < X)[None, :]
    tl.store(pointer + rows[:, None] * X + columns[None, :], values.to(pointer.dtype.element_ty), mask=mask)


@triton.jit
def _vector(pointer, i, n, step):
    return tl.load(pointer + i * step, mask=i < n, other=0.0).to(tl.float32)


@triton.jit
def _size(offsets, j, J):
    """Return how many chains have a chunk j, 0 behind the last."""
    return tl.load(offsets + j + 1, mask=j < J, other=0) - tl.load(offsets + j, mask=j < J, other=0)


@triton.jit
def _soft(error, bound, CLIP: tl.constexpr):
    """Return what the clip scales gradients by, from errors (C, V)."""
    if CLIP:
        soft = tl.rsqrt(1.0 + tl.sum(error * error, 1) * bound)
    else:
        soft = tl.full((error.shape[0],), 1.0, tl.float32)
    return soft


@triton.jit
def _written(
    theta, held, u_held, at, bound, m, i, y, E, H, K, V, C, HAS_HELD: tl.constexpr, CLIP: tl.constexpr
):  # fmt: skip
    """Return the writes (C, V) of chunk and head m from the saved errors."""
    error = _load(at + 2 * K * V, i, y, C, V)
    writes = error * (-2.0 * _soft(error, bound, CLIP) * _vector(theta + m * C, i, C, 1))[:, None]
    if HAS_HELD:
        # the first E * H programs are the first chunks
        first = m < E * H
        given = tl.load(held + (m // H) * C + i, mask=(i < C) & first, other=0) != 0
        mask = (given & (i < C))[:, None] & (y < V)[None, :]
        own = tl.load(u_held + m * C * V + i[:, None] * V + y[None, :], mask=mask, other=0.0).to(tl.float32)
        writes = tl.where(given[:, None], own, writes)
    return writes


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
    W = _load(start + chain, x, y, K, V)
    Z = _load(start + chain + K * V, x, y, K, V)
    before_W = W
    before_Z = Z
    j = 0
    while e < _size(offsets, j, J):
        m = (tl.load(offsets + j) + e) * H + h
        key = _load(k + m * C * K, i, x, C, K)
        ask = _load(q + m * C * K, i, x, C, K)
        value = _load(v + m * C * V, i, y, C, V)
        error = _dot(key, W, PRECISION) - value
        if SAVE:
            at = states + m * (2 * K + C) * V
            _store(at, W, x, y, K, V)
            _store(at + K * V, Z, x, y, K, V)
            _store(at + 2 * K * V, error, i, y, C, V)
        writes = error * (-2.0 * _soft(error, bound, CLIP) * _vector(theta + m * C, i, C, 1))[:, None]
        if HAS_HELD:
            given = (tl.load(held + e * C + i, mask=(i < C) & (j == 0), other=0) != 0)[:, None]
            writes = tl.where(given, _load(u_held + (e * H + h) * C * V, i, y, C, V), writes)
        _store(u + m * C * V, writes, i, y, C, V)
        row = kappa + m * C * (2 + C)
        inside = (i < C)[:, None] & (i < C)[None, :]
        slots = tl.load(row + i[:, None] * (2 + C) + 2 + i[None, :], mask=inside, other=0.0).to(tl.float32)
        scores = _dot(ask, tl.trans(key), PRECISION) * slots
        read = _dot(ask * _vector(row, i, C, 2 + C)[:, None], W, PRECISION)
        read += _dot(ask * _vector(row + 1, i, C, 2 + C)[:, None], Z, PRECISION)
        read += _dot(scores, writes, PRECISION)
        _store(o + m * C * V, read, i, y, C, V)
        end = row + (C - 1) * (2 + C)
        before_W = W
        before_Z = Z
        moved = _dot(tl.trans(key * _vector(end + 2, i, C, 1)[:, None]), writes, PRECISION)
        W = tl.load(end).to(tl.float32) * before_W + tl.load(end + 1).to(tl.float32) * before_Z + moved
        kept = mu + m * (1 + C)
        moved = _dot(tl.trans(key * _vector(kept + 1, i, C, 1)[:, None]), writes, PRECISION)
        Z = tl.load(kept).to(tl.float32) * before_Z + moved
        j += 1
    _store(last + chain, before_W, x, y, K, V)
    _store(last + chain + K * V, before_Z, x, y, K, V)
    _store(final + chain, W, x, y, K, V)
    _store(final + chain + K * V, Z, x, y, K, V)


@triton.jit
def reads_kernel(
    d_o, q, k, theta, kappa, held, u_held, bound, states, d_rows, d_q, d_k, d_kappa, E, H, K, V, C,
    HAS_HELD: tl.constexpr, CLIP: tl.constexpr, PRECISION: tl.constexpr,
    BC: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """First pass of the gradient: through the reads alone, every chunk by itself; grid (M * H,)."""
    m = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, BC)
    x = tl.arange(0, BK)
    y = tl.arange(0, BV)
    grad = _load(d_o + m * C * V, i, y, C, V)
    ask = _load(q + m * C * K, i, x, C, K)
    row = kappa + m * C * (2 + C)
    d_row = d_kappa + m * C * (2 + C)
    at = states + m * (2 * K + C) * V
    to = d_rows + m * (2 * K + C) * V
    # through W, then through Z
    weight = _vector(row, i, C, 2 + C)[:, None]
    back = _dot(grad, tl.trans(_load(at, x, y, K, V)), PRECISION)
    tl.store(d_row + i * (2 + C), tl.sum(back * ask, 1), mask=i < C)
    d_ask = back * weight
    _store(to, _dot(tl.trans(ask * weight), grad, PRECISION), x, y, K, V)
    weight = _vector(row + 1, i, C, 2 + C)[:, None]
    back = _dot(grad, tl.trans(_load(at + K * V, x, y, K, V)), PRECISION)
    tl.store(d_row + i * (2 + C) + 1, tl.sum(back * ask, 1), mask=i < C)
    d_ask += back * weight
    _store(to + K * V, _dot(tl.trans(ask * weight), grad, PRECISION), x, y, K, V)
    # through the writes
    writes = _written(theta, held, u_held, at, bound, m, i, y, E, H, K, V, C, HAS_HELD, CLIP)
    key = _load(k + m * C * K, i, x, C, K)
    inside = (i < C)[:, None] & (i < C)[None, :]
    corner = i[:, None] * (2 + C) + 2 + i[None, :]
    slots = tl.load(row + corner, mask=inside, other=0.0).to(tl.float32)
    scores = _dot(ask, tl.trans(key), PRECISION)
    d_mixed = _dot(grad, tl.trans(writes), PRECISION)
    tl.store(d_row + corner, d_mixed * scores, mask=inside)
    _store(to + 2 * K * V, _dot(tl.trans(scores * slots), grad, PRECISION), i, y, C, V)
    d_mixed *= slots
    d_ask += _dot(d_mixed, key, PRECISION)
    _store(d_q + m * C * K, d_ask, i, x, C, K)
    _store(d_k + m * C * K, _dot(tl.trans(d_mixed), ask, PRECISION), i, x, C, K)


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
    while e < _size(offsets, count, J):
        count += 1
    dW = _load(d_final + chain, x, y, K, V)
    dZ = _load(d_final + chain + K * V, x, y, K, V)
    for back in range(0, count):
        j = count - 1 - back
        m = (tl.load(offsets + j) + e) * H + h
        at = m * (2 * K + C) * V
        _store(beyond + m * 2 * K * V, dW, x, y, K, V)
        _store(beyond + m * 2 * K * V + K * V, dZ, x, y, K, V)
        key = _load(k + m * C * K, i, x, C, K)
        end = kappa + (m * C + C - 1) * (2 + C)
        kept = mu + m * (1 + C)
        d_writes = _load(d_u + m * C * V, i, y, C, V) + _load(d_rows + at + 2 * K * V, i, y, C, V)
        d_writes += _dot(key * _vector(end + 2, i, C, 1)[:, None], dW, PRECISION)
        d_writes += _dot(key * _vector(kept + 1, i, C, 1)[:, None], dZ, PRECISION)
        if HAS_HELD:
            given = (tl.load(held + e * C + i, mask=(i < C) & (j == 0), other=0) != 0)[:, None]
            if j == 0:
                _store(d_held + (e * H + h) * C * V, tl.where(given, d_writes, 0.0), i, y, C, V)
            d_writes = tl.where(given, 0.0, d_writes)
        error = _load(states + at + 2 * K * V, i, y, C, V)
        soft = _soft(error, bound, CLIP)
        along = tl.sum(d_writes * error, 1)
        tl.store(d_theta + m * C + i, -2.0 * soft * along, mask=i < C)
        if CLIP:
            d_writes -= error * (soft * soft * bound * along)[:, None]
        d_error = d_writes * (-2.0 * soft * _vector(theta + m * C, i, C, 1))[:, None]
        _store(d_v + m * C * V, -d_error, i, y, C, V)
        moved = tl.load(end + 1).to(tl.float32) * dW + tl.load(kept).to(tl.float32) * dZ
        dZ = moved + _load(d_rows + at + K * V, x, y, K, V)
        moved = tl.load(end).to(tl.float32) * dW + _dot(tl.trans(key), d_error, PRECISION)
        dW = moved + _load(d_rows + at, x, y, K, V)
        if back == 0:
            dW += _load(d_last + chain, x, y, K, V)
            dZ += _load(d_last + chain + K * V, x, y, K, V)
    _store(d_start + chain, dW, x, y, K, V)
    _store(d_start + chain + K * V, dZ, x, y, K, V)


@triton.jit
def ends_kernel(
    d_v, k, theta, kappa, mu, held, u_held, bound, states, beyond, d_k, d_kappa, d_mu, E, H, K, V, C,
    HAS_HELD: tl.constexpr, CLIP: tl.constexpr, PRECISION: tl.constexpr,
    BC: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """Third pass: keys and coefficients, through the error and what each chunk formed, every chunk by itself."""
    m = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, BC)
    x = tl.arange(0, BK)
    y = tl.arange(0, BV)
    at = states + m * (2 * K + C) * V
    end = (m * C + C - 1) * (2 + C)
    W = _load(at, x, y, K, V)
    d_key = _load(d_k + m * C * K, i, x, C, K)
    d_key -= _dot(_load(d_v + m * C * V, i, y, C, V), tl.trans(W), PRECISION)
    key = _load(k + m * C * K, i, x, C, K)
    writes = _written(theta, held, u_held, at, bound, m, i, y, E, H, K, V, C, HAS_HELD, CLIP)
    G = _load(beyond + m * 2 * K * V, x, y, K, V)
    Z = _load(at + K * V, x, y, K, V)
    pulled = _dot(writes, tl.trans(G), PRECISION)
    d_key += pulled * _vector(kappa + end + 2, i, C, 1)[:, None]
    before = _vector(d_kappa + end + 2, i, C, 1)
    tl.store(d_kappa + end + 2 + i, before + tl.sum(pulled * key, 1), mask=i < C)
    tl.store(d_kappa + end, tl.load(d_kappa + end) + tl.sum(tl.sum(G * W, 1), 0))
    tl.store(d_kappa + end + 1, tl.load(d_kappa + end + 1) + tl.sum(tl.sum(G * Z, 1), 0))
    G = _load(beyond + m * 2 * K * V + K * V, x, y, K, V)
    pulled = _dot(writes, tl.trans(G), PRECISION)
    d_key += pulled * _vector(mu + m * (1 + C) + 1, i, C, 1)[:, None]
    tl.store(d_mu + m * (1 + C) + 1 + i, tl.sum(pulled * key, 1), mask=i < C)
    tl.store(d_mu + m * (1 + C), tl.sum(tl.sum(G * Z, 1), 0))
    _store(d_k + m * C * K, d_key, i, x, C, K)


WARPS, ENDS_WARPS = 8, 4
"""Warps of a program, and of the third pass of the gradient."""


def _flags(q, v, clip: float, held):
    C, K, V = q.shape[-2], q.shape[-1], v.shape[-1]
    # three tf32 products for float32 spill registers
    precision = "ieee" if q.dtype == torch.float32 or os.environ.get("TRITON_INTERPRET") == "1" else "tf32"
    BC, BK, BV = (max(16, triton.next_power_of_2(n)) for n in (C, K, V))
    return {"HAS_HELD": held is not None, "CLIP": not math.isinf(clip), "PRECISION": precision,
            "BC": BC, "BK": BK, "BV": BV, "num_warps": WARPS}  # fmt: skip


def _bound(clip: float) -> float:
    return 0.0 if math.isinf(clip) else 4.0 / clip**2


def forward(q, k, v, theta, kappa, mu, start, offsets, held, u_held, clip: float, save: bool) -> tuple[Tensor, ...]:
    """Launch; returns o, u, last, final and, if ``save``, the starts of all chunks."""
    (M, H, C, K), V, E, J = q.shape, v.shape[-1], len(start), len(offsets) - 1
    q, k, v, theta, kappa, mu, start = (z.contiguous() for z in (q, k, v, theta, kappa, mu, start))
    o, u, last, final = torch.empty_like(v), torch.empty_like(v), torch.empty_like(start), torch.empty_like(start)
    states = torch.empty((M if save else 0, H, 2 * K + C, V), dtype=torch.float32, device=q.device)
    given = start if held is None else held.contiguous().view(torch.uint8)
    forward_kernel[(E * H,)](
        q, k, v, theta, kappa, mu, start, offsets, given, start if held is None else u_held.contiguous(), _bound(clip),
        o, u, last, final, states, E, H, J, K, V, C, SAVE=save, **_flags(q, v, clip, held),
    )  # fmt: skip
    return o, u, last, final, states


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
    bound, flags = _bound(clip), _flags(q, v, clip, held)
    d_rows, beyond = torch.empty_like(states), torch.empty((M, H, 2 * K, V), **wide)
    reads_kernel[(M * H,)](
        d_o, q, k, theta, kappa, given, own, bound, states, d_rows, d_q, d_k, d_kappa, E, H, K, V, C, **flags
    )
    chain_kernel[(E * H,)](
        d_rows, d_u, d_last, d_final, k, theta, kappa, mu, offsets, given, bound, states, beyond, d_v, d_theta,
        d_start, d_held, E, H, J, K, V, C, **flags,
    )  # fmt: skip
    ends_kernel[(M * H,)](
        d_v, k, theta, kappa, mu, given, own, bound, states, beyond, d_k, d_kappa, d_mu, E, H, K, V, C,
        **(flags | {"num_warps": ENDS_WARPS}),
    )  # fmt: skip
    grads = [z.to(x.dtype) for z, x in zip(found, (*inputs, start))]
    return (*grads, q.new_empty(0) if held is None else d_held.to(u_held.dtype))
