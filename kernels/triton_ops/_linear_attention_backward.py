"""The gradient of `ops.reset_linear_attention` in two passes, since one spills registers.

The writes u of a chunk solve ``(I + A) u = beta r`` with ``r = v - enter k S - begin k S_init``; without the delta rule
``u = v``. With du the gradient of u and ``w = (I + A)^-T du``, those of r and A are ``beta w`` and ``- w u^T``.

* `chain_kernel` carries the gradient of the state from the last chunk to the first, one program per row, head and block
  of value columns; it needs neither states nor values, and leaves w and the gradient of the state behind every chunk.
* `chunk_kernel` finds the gradients of queries, keys, gates and strengths, every chunk by itself, from these and from
  the states and writes that the forward saved. All are linear in the value columns, which pass block by block, and
  keys pass tile by tile.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import triton
import triton.language as tl

from embodied_mem.kernels.triton_ops._linear_attention import (
    channel_decays,
    channel_products,
    channel_weight,
    dot,
    row,
    rows,
    scalar_decays,
    store_rows,
    unit_lower_inverse,
    visible_pairs,
)


@triton.jit
def chain_kernel(
    d_o, d_final, q, k, g, beta, reset, solved, dv, beyond, d_start, d_first, T, H, K, V,
    DELTA: tl.constexpr, CHANNEL: tl.constexpr, HAS_INIT: tl.constexpr, PRECISION: tl.constexpr, C: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """First pass, chunks from last to first; grid (B * H, blocks of V). All inputs are contiguous."""
    b = (tl.program_id(0) // H).to(tl.int64)
    h = tl.program_id(0) % H
    x = tl.arange(0, BK)
    y = tl.program_id(1) * BV + tl.arange(0, BV)
    square = (x < K)[:, None] & (y < V)[None, :]
    corner = x[:, None] * V + y[None, :]
    step_k = H * K
    step_v = H * V
    row_k = b * T * step_k + h * K
    row_v = b * T * step_v + h * V
    chunks = tl.cdiv(T, C)
    beyond += (b * H + h) * chunks * K * V
    dS = tl.load(d_final + (b * H + h) * K * V + corner, mask=square, other=0.0).to(tl.float32)
    d_initial = tl.zeros((BK, BV), tl.float32)
    i = tl.arange(0, C)
    for back in range(0, chunks):
        n = chunks - 1 - back
        t = n * C + i
        tl.store(beyond + tl.full((), n, tl.int64) * K * V + corner, dS, mask=square)
        opens = tl.load(reset + b * T + t, mask=t < T, other=0).to(tl.int32)
        asked = rows(q + row_k, t, T, x, K, step_k)
        key = rows(k + row_k, t, T, x, K, step_k)
        grad = rows(d_o + row_v, t, T, y, V, step_v)
        if CHANNEL:
            segment, visible, total, enter, begin, leave, keep, first = channel_decays(
                g + row_k, opens, t, T, x, K, step_k, C, BK
            )
            inner = channel_products(asked, key, total, segment, C)
            keep = keep[:, None]
            first = first[:, None]
        else:
            gates = tl.load(g + (b * T + t) * H + h, mask=t < T, other=0.0)
            segment, visible, weight, enter, begin, leave, keep, first = scalar_decays(gates, opens, C)
            inner = dot(asked, tl.trans(key), PRECISION) * weight
        du = dot(tl.trans(inner), grad, PRECISION) + dot(key * leave, dS, PRECISION)
        # where, not a product with 0: a NaN of another episode must not cross
        before = tl.where(tl.max(segment, 0) == 0, keep * dS, 0.0)
        before += dot(tl.trans(enter * asked), grad, PRECISION)
        if HAS_INIT:
            d_initial += first * dS + dot(tl.trans(begin * asked), grad, PRECISION)
        if DELTA:
            strength = tl.load(beta + (b * T + t) * H + h, mask=t < T, other=0.0).to(tl.float32)
            below = i[:, None] > i[None, :]
            A = tl.where(below, dot(key, tl.trans(key), PRECISION) * weight * strength[:, None], 0.0)
            du = dot(tl.trans(unit_lower_inverse(A, C)), du, PRECISION)
            store_rows(solved + row_v, du, t, T, y, V, step_v)
            du *= strength[:, None]
            before -= dot(tl.trans(enter * key), tl.where((segment == 0)[:, None], du, 0.0), PRECISION)
            if HAS_INIT:
                d_initial -= dot(tl.trans(begin * key), du, PRECISION)
        store_rows(dv + row_v, du, t, T, y, V, step_v)
        dS = before
    tl.store(d_start + (b * H + h) * K * V + corner, dS, mask=square)
    if HAS_INIT:
        tl.store(d_first + (b * H + h) * K * V + corner, d_initial, mask=square)


@triton.jit
def chunk_kernel(
    d_o, q, k, v, g, beta, reset, first_state, states, writes, beyond, solved, dq, dk, dg, d_beta, T, H, K, V,
    DELTA: tl.constexpr, CHANNEL: tl.constexpr, HAS_INIT: tl.constexpr, PRECISION: tl.constexpr, C: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """Second pass; grid (B * H * chunks,)."""
    chunks = tl.cdiv(T, C)
    n = tl.program_id(0) % chunks
    b = (tl.program_id(0) // chunks // H).to(tl.int64)
    h = tl.program_id(0) // chunks % H
    step_k = H * K
    step_v = H * V
    row_k = b * T * step_k + h * K
    row_v = b * T * step_v + h * V
    states += ((b * H + h) * chunks + n) * K * V
    beyond += ((b * H + h) * chunks + n) * K * V
    first_state += h * K * V
    i = tl.arange(0, C)
    t = n * C + i
    opens = tl.load(reset + b * T + t, mask=t < T, other=0).to(tl.int32)
    if CHANNEL:
        segment, visible = visible_pairs(opens, C)
    else:
        gates = tl.load(g + (b * T + t) * H + h, mask=t < T, other=0.0)
        segment, visible, weight, enter, begin, leave, keep, first = scalar_decays(gates, opens, C)
    live = (segment == 0)[:, None]
    alive = tl.max(segment, 0) == 0

    # between the tokens of the chunk
    d_inner = tl.zeros((C, C), tl.float32)
    dA = tl.zeros((C, C), tl.float32)
    d_strength = tl.zeros((C,), tl.float32)
    for block in range(0, tl.cdiv(V, BV)):
        y = block * BV + tl.arange(0, BV)
        u = rows(v + row_v, t, T, y, V, step_v)
        if DELTA:
            w = rows(solved + row_v, t, T, y, V, step_v)
            d_strength += tl.sum(w * u, 1)
            u = rows(writes + row_v, t, T, y, V, step_v)
            dA -= dot(w, tl.trans(u), PRECISION)
        d_inner += dot(rows(d_o + row_v, t, T, y, V, step_v), tl.trans(u), PRECISION)
    d_inner = tl.where(visible, d_inner, 0.0)
    d_sum = tl.zeros((C,), tl.float32)
    d_products = d_inner
    if not CHANNEL:
        products = tl.zeros((C, C), tl.float32)
        alike = tl.zeros((C, C), tl.float32)
        for part in range(0, tl.cdiv(K, BK)):
            x = part * BK + tl.arange(0, BK)
            turned = tl.trans(rows(k + row_k, t, T, x, K, step_k))
            products += dot(rows(q + row_k, t, T, x, K, step_k), turned, PRECISION)
            if DELTA:
                alike += dot(rows(k + row_k, t, T, x, K, step_k), turned, PRECISION)
        d_products = d_inner * weight
        moved = d_products * products
        if DELTA:
            strength = tl.load(beta + (b * T + t) * H + h, mask=t < T, other=0.0).to(tl.float32)
            below = i[:, None] > i[None, :]
            alike = tl.where(below, alike * weight, 0.0)
            dA = tl.where(below & visible, dA, 0.0)
            d_strength += tl.sum(dA * alike, 1)
            moved += dA * alike * strength[:, None]
            d_alike = dA * weight * strength[:, None]
            d_alike += tl.trans(d_alike)
        d_sum += tl.sum(moved, 1) - tl.sum(tl.trans(moved), 1)

    # through the keys, a tile of them at a time
    for part in range(0, tl.cdiv(K, BK)):
        x = part * BK + tl.arange(0, BK)
        asked = rows(q + row_k, t, T, x, K, step_k)
        key = rows(k + row_k, t, T, x, K, step_k)
        if CHANNEL:
            own_segment, own_visible, total, enter, begin, leave, keep, first = channel_decays(
                g + row_k, opens, t, T, x, K, step_k, C, BK
            )
            keep = keep[:, None]
            first = first[:, None]
        d_enter = tl.zeros((C, BK), tl.float32)
        d_leave = tl.zeros((C, BK), tl.float32)
        d_begin = tl.zeros((C, BK), tl.float32)
        d_entered = tl.zeros((C, BK), tl.float32)
        d_begun = tl.zeros((C, BK), tl.float32)
        d_through = tl.zeros((BK,), tl.float32)
        for block in range(0, tl.cdiv(V, BV)):
            y = block * BV + tl.arange(0, BV)
            square = (x < K)[:, None] & (y < V)[None, :]
            corner = x[:, None] * V + y[None, :]
            S = tl.load(states + corner, mask=square, other=0.0)
            dS = tl.load(beyond + corner, mask=square, other=0.0)
            grad = rows(d_o + row_v, t, T, y, V, step_v)
            d_through += tl.sum(tl.where(alive, keep * S, 0.0) * dS, 1)
            d_enter += dot(grad, tl.trans(S), PRECISION)
            if HAS_INIT:
                initial = tl.load(first_state + corner, mask=square, other=0.0).to(tl.float32)
                d_through += tl.sum(first * initial * dS, 1)
                d_begin += dot(grad, tl.trans(initial), PRECISION)
            if DELTA:
                w = rows(solved + row_v, t, T, y, V, step_v)
                d_entered -= dot(w, tl.trans(S), PRECISION)
                if HAS_INIT:
                    d_begun -= dot(w, tl.trans(initial), PRECISION)
                u = rows(writes + row_v, t, T, y, V, step_v)
            else:
                u = rows(v + row_v, t, T, y, V, step_v)
            d_leave += dot(u, tl.trans(dS), PRECISION)
        d_asked = tl.where(live, d_enter, 0.0) * enter
        d_key = d_leave * leave
        # gradients of the summed gates, per channel until the end: (C, BK)
        d_total = asked * d_asked - key * d_key
        d_through += tl.sum(key * d_key, 0)
        if HAS_INIT:
            d_begin *= begin
            d_asked += d_begin
            d_total += asked * d_begin
        if DELTA:
            # of r through the incoming state, then through the initial one
            d_entered = tl.where(live, d_entered, 0.0) * enter
            if HAS_INIT:
                d_entered += d_begun * begin
            d_strength += tl.sum(key * d_entered, 1)
            d_entered *= strength[:, None]
            d_key += d_entered
            d_total += key * d_entered
            d_key += dot(d_alike, key, PRECISION)
        if CHANNEL:
            d_asked_inner = tl.zeros((C, BK), tl.float32)
            d_key_inner = tl.zeros((C, BK), tl.float32)
            for j in range(0, C):
                decay = channel_weight(total, segment, j, C)
                column = tl.sum(tl.where((i == j)[None, :], d_inner, 0.0), 1)[:, None]
                d_asked_inner += column * row(key, j, C)[None, :] * decay
                d_row = tl.sum(column * asked * decay, 0)
                d_key_inner = tl.where((i == j)[:, None], d_row[None, :], d_key_inner)
            d_asked += d_asked_inner
            d_key += d_key_inner
            d_total += asked * d_asked_inner - key * d_key_inner
            d_total += tl.where((i == C - 1)[:, None], d_through[None, :], 0.0)
            # a gate enters the sums of its own and all later tokens of its episode; that of a reset enters none
            backwards = tl.trans(tl.where(visible, 1.0, 0.0))
            d_gate = tl.where((opens != 0)[:, None], 0.0, dot(backwards, d_total, PRECISION))
            store_rows(dg + row_k, d_gate, t, T, x, K, step_k)
        else:
            d_asked += dot(d_products, key, PRECISION)
            d_key += dot(tl.trans(d_products), asked, PRECISION)
            d_sum += tl.sum(d_total, 1) + tl.where(i == C - 1, tl.sum(d_through, 0), 0.0)
        store_rows(dq + row_k, d_asked, t, T, x, K, step_k)
        store_rows(dk + row_k, d_key, t, T, x, K, step_k)
    if not CHANNEL:
        spread = tl.sum(tl.where(visible, d_sum[:, None], 0.0), 0)
        d_gate = tl.where(opens != 0, 0.0, spread)
        tl.store(dg + (b * T + t) * H + h, d_gate.to(dg.dtype.element_ty), mask=t < T)
    if DELTA:
        tl.store(d_beta + (b * T + t) * H + h, d_strength.to(d_beta.dtype.element_ty), mask=t < T)
