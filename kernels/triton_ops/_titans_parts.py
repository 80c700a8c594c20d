"""Parts shared by the kernels of `ops.titans_step`, and the two passes of its gradient that take every chunk by itself.

Both passes go through keys and values tile by tile, so matrices may have any size.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def dot(a, b, PRECISION: tl.constexpr):
    return tl.dot(a, b, input_precision=PRECISION)


@triton.jit
def load(pointer, rows, columns, R, X):
    """Load a part of a matrix of R rows of X numbers, 0 outside."""
    mask = (rows < R)[:, None] & (columns < X)[None, :]
    return tl.load(pointer + rows[:, None] * X + columns[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def store(pointer, values, rows, columns, R, X):
    mask = (rows < R)[:, None] & (columns < X)[None, :]
    tl.store(pointer + rows[:, None] * X + columns[None, :], values.to(pointer.dtype.element_ty), mask=mask)


@triton.jit
def vector(pointer, i, n, step):
    return tl.load(pointer + i * step, mask=i < n, other=0.0).to(tl.float32)


@triton.jit
def size(offsets, j, J):
    """Return how many chains have a chunk j, 0 behind the last."""
    return tl.load(offsets + j + 1, mask=j < J, other=0) - tl.load(offsets + j, mask=j < J, other=0)


@triton.jit
def soft(squares, bound, CLIP: tl.constexpr):
    """Return what the clip scales gradients by, from squared lengths of errors (C,)."""
    if CLIP:
        scale = tl.rsqrt(1.0 + squares * bound)
    else:
        scale = tl.full((squares.shape[0],), 1.0, tl.float32)
    return scale


@triton.jit
def _squares(errors, i, V, C, CLIP: tl.constexpr, BC: tl.constexpr, BV: tl.constexpr):
    """Return the squared lengths of the saved errors of a chunk, (C,)."""
    squares = tl.zeros((BC,), tl.float32)
    if CLIP:
        for block in range(0, tl.cdiv(V, BV)):
            error = load(errors, i, block * BV + tl.arange(0, BV), C, V)
            squares += tl.sum(error * error, 1)
    return squares


@triton.jit
def _written(errors, scale, held, u_held, m, i, y, E, H, V, C, HAS_HELD: tl.constexpr):
    """Return columns y of the writes of chunk and head m, (C, BV), from the saved errors and ``scale`` (C,)."""
    writes = load(errors, i, y, C, V) * scale[:, None]
    if HAS_HELD:
        # the first E * H programs are the first chunks
        first = m < E * H
        given = tl.load(held + (m // H) * C + i, mask=(i < C) & first, other=0) != 0
        mask = (given & (i < C))[:, None] & (y < V)[None, :]
        own = tl.load(u_held + m * C * V + i[:, None] * V + y[None, :], mask=mask, other=0.0).to(tl.float32)
        writes = tl.where(given[:, None], own, writes)
    return writes


@triton.jit
def reads_kernel(
    d_o, q, k, theta, kappa, held, u_held, bound, states, d_rows, d_q, d_k, d_kappa, E, H, K, V, C,
    HAS_HELD: tl.constexpr, CLIP: tl.constexpr, PRECISION: tl.constexpr,
    BC: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """First pass of the gradient: through the reads alone, every chunk by itself; grid (M * H,)."""
    m = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, BC)
    d_o += m * C * V
    q += m * C * K
    k += m * C * K
    d_q += m * C * K
    d_k += m * C * K
    row = kappa + m * C * (2 + C)
    d_row = d_kappa + m * C * (2 + C)
    at = states + m * (2 * K + C) * V
    to = d_rows + m * (2 * K + C) * V
    # through the writes
    squares = _squares(at + 2 * K * V, i, V, C, CLIP, BC, BV)
    scale = -2.0 * soft(squares, bound, CLIP) * vector(theta + m * C, i, C, 1)
    inside = (i < C)[:, None] & (i < C)[None, :]
    corner = i[:, None] * (2 + C) + 2 + i[None, :]
    slots = tl.load(row + corner, mask=inside, other=0.0).to(tl.float32)
    scores = tl.zeros((BC, BC), tl.float32)
    for part in range(0, tl.cdiv(K, BK)):
        x = part * BK + tl.arange(0, BK)
        scores += dot(load(q, i, x, C, K), tl.trans(load(k, i, x, C, K)), PRECISION)
    mixed = tl.trans(scores * slots)
    d_mixed = tl.zeros((BC, BC), tl.float32)
    for block in range(0, tl.cdiv(V, BV)):
        y = block * BV + tl.arange(0, BV)
        grad = load(d_o, i, y, C, V)
        writes = _written(at + 2 * K * V, scale, held, u_held, m, i, y, E, H, V, C, HAS_HELD)
        d_mixed += dot(grad, tl.trans(writes), PRECISION)
        store(to + 2 * K * V, dot(mixed, grad, PRECISION), i, y, C, V)
    tl.store(d_row + corner, d_mixed * scores, mask=inside)
    d_mixed *= slots
    # through W and Z
    old = vector(row, i, C, 2 + C)[:, None]
    moving = vector(row + 1, i, C, 2 + C)[:, None]
    d_old = tl.zeros((BC,), tl.float32)
    d_moving = tl.zeros((BC,), tl.float32)
    for part in range(0, tl.cdiv(K, BK)):
        x = part * BK + tl.arange(0, BK)
        ask = load(q, i, x, C, K)
        through_W = tl.zeros((BC, BK), tl.float32)
        through_Z = tl.zeros((BC, BK), tl.float32)
        for block in range(0, tl.cdiv(V, BV)):
            y = block * BV + tl.arange(0, BV)
            grad = load(d_o, i, y, C, V)
            through_W += dot(grad, tl.trans(load(at, x, y, K, V)), PRECISION)
            store(to, dot(tl.trans(ask * old), grad, PRECISION), x, y, K, V)
            through_Z += dot(grad, tl.trans(load(at + K * V, x, y, K, V)), PRECISION)
            store(to + K * V, dot(tl.trans(ask * moving), grad, PRECISION), x, y, K, V)
        d_old += tl.sum(through_W * ask, 1)
        d_moving += tl.sum(through_Z * ask, 1)
        d_ask = through_W * old + through_Z * moving + dot(d_mixed, load(k, i, x, C, K), PRECISION)
        store(d_q, d_ask, i, x, C, K)
        store(d_k, dot(tl.trans(d_mixed), ask, PRECISION), i, x, C, K)
    tl.store(d_row + i * (2 + C), d_old, mask=i < C)
    tl.store(d_row + i * (2 + C) + 1, d_moving, mask=i < C)


@triton.jit
def ends_kernel(
    d_v, k, theta, kappa, mu, held, u_held, bound, states, beyond, d_k, d_kappa, d_mu, E, H, K, V, C,
    HAS_HELD: tl.constexpr, CLIP: tl.constexpr, PRECISION: tl.constexpr,
    BC: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """Third pass: keys and coefficients, through the error and what each chunk formed, every chunk by itself."""
    m = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, BC)
    at = states + m * (2 * K + C) * V
    beyond += m * 2 * K * V
    end = (m * C + C - 1) * (2 + C)
    kept = m * (1 + C)
    squares = _squares(at + 2 * K * V, i, V, C, CLIP, BC, BV)
    scale = -2.0 * soft(squares, bound, CLIP) * vector(theta + m * C, i, C, 1)
    formed = vector(kappa + end + 2, i, C, 1)
    carried = vector(mu + kept + 1, i, C, 1)
    d_formed = vector(d_kappa + end + 2, i, C, 1)
    d_carried = tl.zeros((BC,), tl.float32)
    from_W = tl.zeros((BK,), tl.float32)
    from_Z = tl.zeros((BK,), tl.float32)
    held_Z = tl.zeros((BK,), tl.float32)
    for part in range(0, tl.cdiv(K, BK)):
        x = part * BK + tl.arange(0, BK)
        d_key = load(d_k + m * C * K, i, x, C, K)
        pulled_W = tl.zeros((BC, BK), tl.float32)
        pulled_Z = tl.zeros((BC, BK), tl.float32)
        for block in range(0, tl.cdiv(V, BV)):
            y = block * BV + tl.arange(0, BV)
            W = load(at, x, y, K, V)
            Z = load(at + K * V, x, y, K, V)
            writes = _written(at + 2 * K * V, scale, held, u_held, m, i, y, E, H, V, C, HAS_HELD)
            d_key -= dot(load(d_v + m * C * V, i, y, C, V), tl.trans(W), PRECISION)
            G = load(beyond, x, y, K, V)
            pulled_W += dot(writes, tl.trans(G), PRECISION)
            from_W += tl.sum(G * W, 1)
            from_Z += tl.sum(G * Z, 1)
            G = load(beyond + K * V, x, y, K, V)
            pulled_Z += dot(writes, tl.trans(G), PRECISION)
            held_Z += tl.sum(G * Z, 1)
        key = load(k + m * C * K, i, x, C, K)
        d_formed += tl.sum(pulled_W * key, 1)
        d_carried += tl.sum(pulled_Z * key, 1)
        store(d_k + m * C * K, d_key + pulled_W * formed[:, None] + pulled_Z * carried[:, None], i, x, C, K)
    tl.store(d_kappa + end + 2 + i, d_formed, mask=i < C)
    tl.store(d_kappa + end, tl.load(d_kappa + end) + tl.sum(from_W, 0))
    tl.store(d_kappa + end + 1, tl.load(d_kappa + end + 1) + tl.sum(from_Z, 0))
    tl.store(d_mu + kept + 1 + i, d_carried, mask=i < C)
    tl.store(d_mu + kept, tl.sum(held_Z, 0))
