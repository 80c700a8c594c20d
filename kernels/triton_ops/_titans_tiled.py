"""Kernels of `ops.titans_step` for matrices too large for registers: W, Z and errors lie in memory, tile by tile.

The clip bounds a gradient over all value columns, so a chunk takes two passes over them: one for the errors and their
lengths, one for the writes and the next W and Z. One program runs a whole chain, and a barrier parts the passes, since
threads read what others wrote. No tile is written where it is read: the gradient of every chunk has a place of its own,
and without saved states two places take turns.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import triton
import triton.language as tl

from embodied_mem.kernels.triton_ops._titans_parts import dot, load, size, soft, store, vector


@triton.jit
def _copy(source, target, rows, V, BK: tl.constexpr, BV: tl.constexpr):
    """Copy a matrix of so many rows of V numbers."""
    for part in range(0, tl.cdiv(rows, BK)):
        x = part * BK + tl.arange(0, BK)
        for block in range(0, tl.cdiv(V, BV)):
            y = block * BV + tl.arange(0, BV)
            store(target, load(source, x, y, rows, V), x, y, rows, V)


@triton.jit
def tiled_forward_kernel(
    q, k, v, theta, kappa, mu, start, offsets, held, u_held, bound, o, u, last, final, states, E, H, J, K, V, C,
    HAS_HELD: tl.constexpr, CLIP: tl.constexpr, SAVE: tl.constexpr, PRECISION: tl.constexpr,
    BC: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """Run the chunks of a chain; grid (E * H,). ``states``: of every chunk if ``SAVE``, else two per chain and head."""
    e = (tl.program_id(0) // H).to(tl.int64)
    h = tl.program_id(0) % H
    i = tl.arange(0, BC)
    chain = (e * H + h) * 2 * K * V
    taken = (2 * K + C) * V
    _copy(start + chain, states + (e * H + h) * taken, 2 * K, V, BK, BV)
    tl.debug_barrier()
    j = 0
    while e < size(offsets, j, J):
        m = (tl.load(offsets + j) + e) * H + h
        goes_on = e < size(offsets, j + 1, J)
        if SAVE:
            at = states + m * taken
            to = states + ((tl.load(offsets + j + 1) + e) * H + h) * taken
        else:
            at = states + (((j % 2) * E + e) * H + h) * taken
            to = states + ((((j + 1) % 2) * E + e) * H + h) * taken
        key = k + m * C * K
        ask = q + m * C * K
        squares = tl.zeros((BC,), tl.float32)
        for block in range(0, tl.cdiv(V, BV)):
            y = block * BV + tl.arange(0, BV)
            error = -load(v + m * C * V, i, y, C, V)
            for part in range(0, tl.cdiv(K, BK)):
                x = part * BK + tl.arange(0, BK)
                error += dot(load(key, i, x, C, K), load(at, x, y, K, V), PRECISION)
            store(at + 2 * K * V, error, i, y, C, V)
            squares += tl.sum(error * error, 1)
        scale = -2.0 * soft(squares, bound, CLIP) * vector(theta + m * C, i, C, 1)
        scores = tl.zeros((BC, BC), tl.float32)
        for part in range(0, tl.cdiv(K, BK)):
            x = part * BK + tl.arange(0, BK)
            scores += dot(load(ask, i, x, C, K), tl.trans(load(key, i, x, C, K)), PRECISION)
        row = kappa + m * C * (2 + C)
        inside = (i < C)[:, None] & (i < C)[None, :]
        scores *= tl.load(row + i[:, None] * (2 + C) + 2 + i[None, :], mask=inside, other=0.0).to(tl.float32)
        end = row + (C - 1) * (2 + C)
        kept = mu + m * (1 + C)
        tl.debug_barrier()
        for block in range(0, tl.cdiv(V, BV)):
            y = block * BV + tl.arange(0, BV)
            writes = load(at + 2 * K * V, i, y, C, V) * scale[:, None]
            if HAS_HELD:
                given = (tl.load(held + e * C + i, mask=(i < C) & (j == 0), other=0) != 0)[:, None]
                writes = tl.where(given, load(u_held + (e * H + h) * C * V, i, y, C, V), writes)
            store(u + m * C * V, writes, i, y, C, V)
            read = dot(scores, writes, PRECISION)
            for part in range(0, tl.cdiv(K, BK)):
                x = part * BK + tl.arange(0, BK)
                W = load(at, x, y, K, V)
                Z = load(at + K * V, x, y, K, V)
                asked = load(ask, i, x, C, K)
                read += dot(asked * vector(row, i, C, 2 + C)[:, None], W, PRECISION)
                read += dot(asked * vector(row + 1, i, C, 2 + C)[:, None], Z, PRECISION)
                turned = tl.trans(load(key, i, x, C, K))
                next_W = tl.load(end).to(tl.float32) * W + tl.load(end + 1).to(tl.float32) * Z
                next_W += dot(turned, writes * vector(end + 2, i, C, 1)[:, None], PRECISION)
                next_Z = tl.load(kept).to(tl.float32) * Z
                next_Z += dot(turned, writes * vector(kept + 1, i, C, 1)[:, None], PRECISION)
                if goes_on:
                    store(to, next_W, x, y, K, V)
                    store(to + K * V, next_Z, x, y, K, V)
                else:
                    store(last + chain, W, x, y, K, V)
                    store(last + chain + K * V, Z, x, y, K, V)
                    store(final + chain, next_W, x, y, K, V)
                    store(final + chain + K * V, next_Z, x, y, K, V)
            store(o + m * C * V, read, i, y, C, V)
        tl.debug_barrier()
        j += 1


@triton.jit
def tiled_chain_kernel(
    d_rows, d_u, d_last, d_final, k, theta, kappa, mu, offsets, held, bound, states, beyond, waiting, d_v, d_theta,
    d_start, d_held, E, H, J, K, V, C,
    HAS_HELD: tl.constexpr, CLIP: tl.constexpr, PRECISION: tl.constexpr,
    BC: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """Second pass of the gradient: chunks from last to first; grid (E * H,). ``waiting``: (E, H, C, V) scratch."""
    e = (tl.program_id(0) // H).to(tl.int64)
    h = tl.program_id(0) % H
    i = tl.arange(0, BC)
    chain = (e * H + h) * 2 * K * V
    waiting += (e * H + h) * C * V
    count = 0
    while e < size(offsets, count, J):
        count += 1
    m = (tl.load(offsets + count - 1) + e) * H + h
    _copy(d_final + chain, beyond + m * 2 * K * V, 2 * K, V, BK, BV)
    tl.debug_barrier()
    for back in range(0, count):
        j = count - 1 - back
        m = (tl.load(offsets + j) + e) * H + h
        at = m * (2 * K + C) * V
        here = beyond + m * 2 * K * V
        key = k + m * C * K
        end = kappa + (m * C + C - 1) * (2 + C)
        kept = mu + m * (1 + C)
        along = tl.zeros((BC,), tl.float32)
        squares = tl.zeros((BC,), tl.float32)
        for block in range(0, tl.cdiv(V, BV)):
            y = block * BV + tl.arange(0, BV)
            d_writes = load(d_u + m * C * V, i, y, C, V) + load(d_rows + at + 2 * K * V, i, y, C, V)
            for part in range(0, tl.cdiv(K, BK)):
                x = part * BK + tl.arange(0, BK)
                own = load(key, i, x, C, K)
                d_writes += dot(own * vector(end + 2, i, C, 1)[:, None], load(here, x, y, K, V), PRECISION)
                d_writes += dot(own * vector(kept + 1, i, C, 1)[:, None], load(here + K * V, x, y, K, V), PRECISION)
            if HAS_HELD:
                given = (tl.load(held + e * C + i, mask=(i < C) & (j == 0), other=0) != 0)[:, None]
                if j == 0:
                    store(d_held + (e * H + h) * C * V, tl.where(given, d_writes, 0.0), i, y, C, V)
                d_writes = tl.where(given, 0.0, d_writes)
            error = load(states + at + 2 * K * V, i, y, C, V)
            along += tl.sum(d_writes * error, 1)
            squares += tl.sum(error * error, 1)
            store(waiting, d_writes, i, y, C, V)
        scale = soft(squares, bound, CLIP)
        tl.store(d_theta + m * C + i, -2.0 * scale * along, mask=i < C)
        step = -2.0 * scale * vector(theta + m * C, i, C, 1)
        tl.debug_barrier()
        for block in range(0, tl.cdiv(V, BV)):
            y = block * BV + tl.arange(0, BV)
            d_error = load(waiting, i, y, C, V)
            if CLIP:
                error = load(states + at + 2 * K * V, i, y, C, V)
                d_error -= error * (scale * scale * bound * along)[:, None]
            d_error *= step[:, None]
            store(d_v + m * C * V, -d_error, i, y, C, V)
            for part in range(0, tl.cdiv(K, BK)):
                x = part * BK + tl.arange(0, BK)
                dW = load(here, x, y, K, V)
                dZ = tl.load(kept).to(tl.float32) * load(here + K * V, x, y, K, V)
                dZ += tl.load(end + 1).to(tl.float32) * dW + load(d_rows + at + K * V, x, y, K, V)
                dW = tl.load(end).to(tl.float32) * dW + load(d_rows + at, x, y, K, V)
                dW += dot(tl.trans(load(key, i, x, C, K)), d_error, PRECISION)
                if back == 0:
                    dW += load(d_last + chain, x, y, K, V)
                    dZ += load(d_last + chain + K * V, x, y, K, V)
                if j > 0:
                    to = beyond + ((tl.load(offsets + j - 1) + e) * H + h) * 2 * K * V
                    store(to, dW, x, y, K, V)
                    store(to + K * V, dZ, x, y, K, V)
                else:
                    store(d_start + chain, dW, x, y, K, V)
                    store(d_start + chain + K * V, dZ, x, y, K, V)
        tl.debug_barrier()
