"""Triton kernels of `ops.reset_linear_attention`: chunk form, one program per row, head and block of value columns.

The state stays in registers while the chunks of a row pass. Decays are exponentials of differences of gates that were
summed within the episode in float64, so a reset is exact and a strong gate does not cancel what follows it; the
triangular inverse of the delta rule is a forward substitution, which stays accurate where doubling of powers does not.
Everything is float32; products run as tf32 for half inputs and as three tf32 products, which keep float32
accuracy, for float32.

The backward recomputes a chunk from the state at its start, which the forward saved, and gradients of value blocks
are added up by torch: every gradient is linear in them.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

import os

import torch
import triton
import triton.language as tl
from torch import Tensor

CHUNK = 16
"""Tokens of a chunk: with 32 the backward of 64 x 64 heads spills registers."""


@triton.jit
def _dot(a, b, PRECISION: tl.constexpr):
    return tl.dot(a, b, input_precision=PRECISION)


@triton.jit
def _rows(pointer, t, T, x, X, step):
    """Load (C, X) of a head: rows are tokens, 0 outside."""
    mask = (t < T)[:, None] & (x < X)[None, :]
    return tl.load(pointer + t[:, None].to(tl.int64) * step + x[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _store_rows(pointer, values, t, T, x, X, step):
    mask = (t < T)[:, None] & (x < X)[None, :]
    place = pointer + t[:, None].to(tl.int64) * step + x[None, :]
    tl.store(place, values.to(pointer.dtype.element_ty), mask=mask)


@triton.jit
def _exp_where(exponent, keep):
    # masked before exp: a discarded exponent must not become inf
    return tl.exp(tl.where(keep, exponent.to(tl.float32), float("-inf")))


@triton.jit
def _visible(opens, C: tl.constexpr):
    """Return the episode of every token of the chunk, and which tokens share one causally (C, C)."""
    i = tl.arange(0, C)
    segment = tl.sum(tl.where(i[:, None] >= i[None, :], opens[None, :], 0), 1)
    other = tl.sum(tl.where(i[:, None] <= i[None, :], opens[:, None], 0), 0)
    return segment, (segment[:, None] == other[None, :]) & (i[:, None] >= i[None, :])


@triton.jit
def _scalar_decays(gates, opens, C: tl.constexpr):
    """Return episodes, visibility, weights (C, C); and those of the incoming, initial and outgoing state."""
    i = tl.arange(0, C)
    segment, visible = _visible(opens, C)
    total = tl.sum(tl.where(visible, tl.where(opens != 0, 0.0, gates).to(tl.float64)[None, :], 0.0), 1)
    final = tl.sum(tl.where(i == C - 1, total, 0.0), 0)
    # the same sums along the other axis, which saves a layout conversion of float64
    by_column = tl.sum(tl.where(i[:, None] == i[None, :], total[:, None], 0.0), 0)
    weight = _exp_where(total[:, None] - by_column[None, :], visible)
    latest = tl.max(segment, 0)
    enter = _exp_where(total, segment == 0)[:, None]
    begin = _exp_where(total, segment > 0)[:, None]
    leave = _exp_where(final - total, segment == latest)[:, None]
    through = tl.exp(final.to(tl.float32))
    keep = tl.where(latest == 0, through, 0.0)
    first = tl.where(latest > 0, through, 0.0)
    return segment, visible, weight, enter, begin, leave, keep, first


@triton.jit
def _channel_decays(g, opens, t, T, x, X, step, C: tl.constexpr, BK: tl.constexpr):
    """As `_scalar_decays` for a decay per channel: the sums (C, BK) float64 instead of weights, the others (C, BK)."""
    i = tl.arange(0, C)
    segment, visible = _visible(opens, C)
    total = tl.zeros((C, BK), tl.float64)
    for j in range(0, C):
        inside = (x < X) & (tl.min(t, 0) + j < T)
        gate = tl.load(g + (tl.min(t, 0) + j).to(tl.int64) * step + x, mask=inside, other=0.0).to(tl.float64)
        own = tl.sum(tl.where(i == j, segment, 0), 0)
        shut = tl.sum(tl.where(i == j, opens, 0), 0)
        seen = (segment == own) & (i >= j) & (shut == 0)
        total += tl.where(seen[:, None], gate[None, :], 0.0)
    final = tl.sum(tl.where((i == C - 1)[:, None], total, 0.0), 0)
    latest = tl.max(segment, 0)
    enter = _exp_where(total, (segment == 0)[:, None])
    begin = _exp_where(total, (segment > 0)[:, None])
    leave = _exp_where(final[None, :] - total, (segment == latest)[:, None])
    through = tl.exp(final.to(tl.float32))
    keep = tl.where(latest == 0, through, 0.0)
    first = tl.where(latest > 0, through, 0.0)
    return segment, visible, total, enter, begin, leave, keep, first


@triton.jit
def _channel_weight(total, segment, j, C: tl.constexpr):
    """Return the decay from token j to every token (C, BK), 0 where j is not visible."""
    i = tl.arange(0, C)
    own = tl.sum(tl.where((i == j)[:, None], total, 0.0), 0)
    seen = (segment == tl.sum(tl.where(i == j, segment, 0), 0)) & (i >= j)
    return _exp_where(total - own[None, :], seen[:, None])


@triton.jit
def _row(values, j, C: tl.constexpr):
    i = tl.arange(0, C)
    return tl.sum(tl.where((i == j)[:, None], values, 0.0), 0)


@triton.jit
def _channel_products(q, k, total, segment, C: tl.constexpr):
    """Decayed products of queries and keys, (C, C)."""
    i = tl.arange(0, C)
    inner = tl.zeros((C, C), tl.float32)
    for j in range(0, C):
        column = tl.sum(q * _row(k, j, C)[None, :] * _channel_weight(total, segment, j, C), 1)
        inner = tl.where((i == j)[None, :], column[:, None], inner)
    return inner


@triton.jit
def _unit_lower_inverse(A, C: tl.constexpr):
    """``(I + A)^-1`` of a strictly lower A by forward substitution."""
    i = tl.arange(0, C)
    inverse = tl.where(i[:, None] == i[None, :], 1.0, 0.0)
    for r in range(1, C):
        coefficients = tl.sum(tl.where((i == r)[:, None], A, 0.0), 0)
        mixed = tl.sum(tl.where(i[:, None] == i[None, :], coefficients[:, None], 0.0), 1)
        row = tl.sum(mixed[:, None] * inverse, 0)
        inverse = tl.where((i == r)[:, None], inverse - row[None, :], inverse)
    return inverse


@triton.jit
def forward_kernel(
    q, k, v, g, beta, reset, start, first_state, o, final_state, states, T, H, K, V,
    DELTA: tl.constexpr, CHANNEL: tl.constexpr, HAS_INIT: tl.constexpr, SAVE: tl.constexpr, PRECISION: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """Outputs and the final state; grid (B * H, blocks of V). All inputs are contiguous."""
    b = (tl.program_id(0) // H).to(tl.int64)
    h = tl.program_id(0) % H
    x = tl.arange(0, BK)
    y = tl.program_id(1) * BV + tl.arange(0, BV)
    square = (x < K)[:, None] & (y < V)[None, :]
    corner = x[:, None] * V + y[None, :]
    step_k = H * K
    step_v = H * V
    q += b * T * step_k + h * K
    k += b * T * step_k + h * K
    v += b * T * step_v + h * V
    o += b * T * step_v + h * V
    chunks = tl.cdiv(T, C)
    states += (b * H + h) * chunks * K * V
    S = tl.load(start + (b * H + h) * K * V + corner, mask=square, other=0.0).to(tl.float32)
    initial = tl.zeros((BK, BV), tl.float32)
    if HAS_INIT:
        initial = tl.load(first_state + h * K * V + corner, mask=square, other=0.0).to(tl.float32)
    i = tl.arange(0, C)
    for n in range(0, chunks):
        t = n * C + i
        if SAVE:
            tl.store(states + tl.full((), n, tl.int64) * K * V + corner, S, mask=square)
        opens = tl.load(reset + b * T + t, mask=t < T, other=0).to(tl.int32)
        asked = _rows(q, t, T, x, K, step_k)
        key = _rows(k, t, T, x, K, step_k)
        u = _rows(v, t, T, y, V, step_v)
        if CHANNEL:
            segment, visible, total, enter, begin, leave, keep, first = _channel_decays(
                g + b * T * step_k + h * K, opens, t, T, x, K, step_k, C, BK
            )
            inner = _channel_products(asked, key, total, segment, C)
            keep = keep[:, None]
            first = first[:, None]
        else:
            gates = tl.load(g + (b * T + t) * H + h, mask=t < T, other=0.0)
            segment, visible, weight, enter, begin, leave, keep, first = _scalar_decays(gates, opens, C)
            inner = _dot(asked, tl.trans(key), PRECISION) * weight
        live = (segment == 0)[:, None]
        if DELTA:
            strength = tl.load(beta + (b * T + t) * H + h, mask=t < T, other=0.0).to(tl.float32)
            below = i[:, None] > i[None, :]
            A = tl.where(below, _dot(key, tl.trans(key), PRECISION) * weight * strength[:, None], 0.0)
            solve = _unit_lower_inverse(A, C) * strength[None, :]
            u = _dot(solve, u, PRECISION)
            u -= tl.where(live, _dot(_dot(solve, enter * key, PRECISION), S, PRECISION), 0.0)
            if HAS_INIT:
                u -= _dot(_dot(solve, begin * key, PRECISION), initial, PRECISION)
        read = tl.where(live, _dot(enter * asked, S, PRECISION), 0.0) + _dot(inner, u, PRECISION)
        if HAS_INIT:
            read += _dot(begin * asked, initial, PRECISION)
        _store_rows(o, read, t, T, y, V, step_v)
        # where, not a product with 0: a NaN of the old episode must not stay
        carried = tl.where(tl.max(segment, 0) == 0, keep * S, 0.0)
        S = carried + _dot(tl.trans(key * leave), u, PRECISION)
        if HAS_INIT:
            S += first * initial
    tl.store(final_state + (b * H + h) * K * V + corner, S.to(final_state.dtype.element_ty), mask=square)


@triton.jit
def backward_kernel(
    d_o, d_final, q, k, v, g, beta, reset, first_state, states, dq, dk, dv, dg, d_beta, d_start, d_first,
    T, H, K, V, part_k, part_g,
    DELTA: tl.constexpr, CHANNEL: tl.constexpr, HAS_INIT: tl.constexpr, PRECISION: tl.constexpr, C: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """Gradients, chunks from last to first; grid as the forward. ``part_k``, ``part_g``: strides between parts."""
    b = (tl.program_id(0) // H).to(tl.int64)
    h = tl.program_id(0) % H
    part = tl.program_id(1).to(tl.int64)
    x = tl.arange(0, BK)
    y = tl.program_id(1) * BV + tl.arange(0, BV)
    square = (x < K)[:, None] & (y < V)[None, :]
    corner = x[:, None] * V + y[None, :]
    step_k = H * K
    step_v = H * V
    row_k = b * T * step_k + h * K
    row_v = b * T * step_v + h * V
    dq += part * part_k
    dk += part * part_k
    dg += part * part_g
    d_beta += part * part_g
    chunks = tl.cdiv(T, C)
    states += (b * H + h) * chunks * K * V
    dS = tl.load(d_final + (b * H + h) * K * V + corner, mask=square, other=0.0).to(tl.float32)
    initial = tl.zeros((BK, BV), tl.float32)
    d_initial = tl.zeros((BK, BV), tl.float32)
    if HAS_INIT:
        initial = tl.load(first_state + h * K * V + corner, mask=square, other=0.0).to(tl.float32)
    i = tl.arange(0, C)
    for back in range(0, chunks):
        n = chunks - 1 - back
        t = n * C + i
        S = tl.load(states + tl.full((), n, tl.int64) * K * V + corner, mask=square, other=0.0)
        opens = tl.load(reset + b * T + t, mask=t < T, other=0).to(tl.int32)
        asked = _rows(q + row_k, t, T, x, K, step_k)
        key = _rows(k + row_k, t, T, x, K, step_k)
        value = _rows(v + row_v, t, T, y, V, step_v)
        grad = _rows(d_o + row_v, t, T, y, V, step_v)
        if CHANNEL:
            segment, visible, total, enter, begin, leave, keep, first = _channel_decays(
                g + row_k, opens, t, T, x, K, step_k, C, BK
            )
            inner = _channel_products(asked, key, total, segment, C)
            keep = keep[:, None]
            first = first[:, None]
        else:
            gates = tl.load(g + (b * T + t) * H + h, mask=t < T, other=0.0)
            segment, visible, weight, enter, begin, leave, keep, first = _scalar_decays(gates, opens, C)
            inner = _dot(asked, tl.trans(key), PRECISION) * weight
        live = (segment == 0)[:, None]
        alive = tl.max(segment, 0) == 0
        u = value
        if DELTA:
            strength = tl.load(beta + (b * T + t) * H + h, mask=t < T, other=0.0).to(tl.float32)
            below = i[:, None] > i[None, :]
            alike = tl.where(below, _dot(key, tl.trans(key), PRECISION) * weight, 0.0)
            inverse = _unit_lower_inverse(alike * strength[:, None], C)
            solve = inverse * strength[None, :]
            W = _dot(solve, enter * key, PRECISION)
            u = _dot(solve, value, PRECISION) - tl.where(live, _dot(W, S, PRECISION), 0.0)
            if HAS_INIT:
                W_first = _dot(solve, begin * key, PRECISION)
                u -= _dot(W_first, initial, PRECISION)

        du = _dot(tl.trans(inner), grad, PRECISION) + _dot(key * leave, dS, PRECISION)
        d_inner = tl.where(visible, _dot(grad, tl.trans(u), PRECISION), 0.0)
        d_enter = tl.where(live, _dot(grad, tl.trans(S), PRECISION), 0.0)
        d_leave = _dot(u, tl.trans(dS), PRECISION)
        d_asked = d_enter * enter
        d_key = d_leave * leave
        # gradients of the summed gates, per channel until the end: (C, BK)
        d_total = asked * d_asked - key * d_key
        d_final_gate = tl.sum(key * d_key, 0) + tl.sum(tl.where(alive, keep * S, 0.0) * dS, 1)
        dS_before = tl.where(alive, keep * dS, 0.0) + _dot(tl.trans(enter * asked), grad, PRECISION)
        if HAS_INIT:
            d_begin = _dot(grad, tl.trans(initial), PRECISION) * begin
            d_asked += d_begin
            d_total += asked * d_begin
            d_final_gate += tl.sum(first * initial * dS, 1)
            d_initial += first * dS + _dot(tl.trans(begin * asked), grad, PRECISION)
        d_sum = tl.zeros((C,), tl.float32)
        if CHANNEL:
            d_asked_inner = tl.zeros((C, BK), tl.float32)
            d_key_inner = tl.zeros((C, BK), tl.float32)
            for j in range(0, C):
                decay = _channel_weight(total, segment, j, C)
                column = tl.sum(tl.where((i == j)[None, :], d_inner, 0.0), 1)[:, None]
                d_asked_inner += column * _row(key, j, C)[None, :] * decay
                d_row = tl.sum(column * asked * decay, 0)
                d_key_inner = tl.where((i == j)[:, None], d_row[None, :], d_key_inner)
            d_asked += d_asked_inner
            d_key += d_key_inner
            d_total += asked * d_asked_inner - key * d_key_inner
        else:
            moved = d_inner * inner
            d_sum += tl.sum(moved, 1) - tl.sum(tl.trans(moved), 1)
            d_products = d_inner * weight
            d_asked += _dot(d_products, key, PRECISION)
            d_key += _dot(tl.trans(d_products), asked, PRECISION)
        if DELTA:
            dS_before -= _dot(tl.trans(W), tl.where(live, du, 0.0), PRECISION)
            dW = tl.where(live, -_dot(du, tl.trans(S), PRECISION), 0.0)
            d_solve = _dot(du, tl.trans(value), PRECISION) + _dot(dW, tl.trans(enter * key), PRECISION)
            turned = tl.trans(solve)
            d_value = _dot(turned, du, PRECISION)
            d_entered = _dot(turned, dW, PRECISION) * enter
            d_key += d_entered
            d_total += key * d_entered
            if HAS_INIT:
                dW_first = -_dot(du, tl.trans(initial), PRECISION)
                d_solve += _dot(dW_first, tl.trans(begin * key), PRECISION)
                d_begun = _dot(turned, dW_first, PRECISION) * begin
                d_key += d_begun
                d_total += key * d_begun
                d_initial -= _dot(tl.trans(W_first), du, PRECISION)
            d_strength = tl.sum(tl.trans(d_solve * inverse), 1)
            turned = tl.trans(inverse)
            dA = -_dot(turned, _dot(d_solve * strength[None, :], turned, PRECISION), PRECISION)
            dA = tl.where(below & visible, dA, 0.0)
            d_strength += tl.sum(dA * alike, 1)
            moved = dA * alike * strength[:, None]
            d_sum += tl.sum(moved, 1) - tl.sum(tl.trans(moved), 1)
            d_alike = dA * weight * strength[:, None]
            d_key += _dot(d_alike, key, PRECISION) + _dot(tl.trans(d_alike), key, PRECISION)
            tl.store(d_beta + (b * T + t) * H + h, d_strength, mask=t < T)
        else:
            d_value = du
        _store_rows(dq + row_k, d_asked, t, T, x, K, step_k)
        _store_rows(dk + row_k, d_key, t, T, x, K, step_k)
        _store_rows(dv + row_v, d_value, t, T, y, V, step_v)
        # a gate enters the sums of its own and all later tokens of its episode; that of a reset enters none
        backwards = tl.trans(tl.where(visible, 1.0, 0.0))
        if CHANNEL:
            d_total += tl.where((i == C - 1)[:, None], d_final_gate[None, :], 0.0)
            d_gate = tl.where((opens != 0)[:, None], 0.0, _dot(backwards, d_total, PRECISION))
            _store_rows(dg + row_k, d_gate, t, T, x, K, step_k)
        else:
            d_sum += tl.sum(d_total, 1) + tl.where(i == C - 1, tl.sum(d_final_gate, 0), 0.0)
            spread = tl.sum(tl.where(visible, d_sum[:, None], 0.0), 0)
            d_gate = tl.where(opens != 0, 0.0, spread)
            tl.store(dg + (b * T + t) * H + h, d_gate, mask=t < T)
        dS = dS_before
    tl.store(d_start + (b * H + h) * K * V + corner, dS, mask=square)
    if HAS_INIT:
        tl.store(d_first + (b * H + h) * K * V + corner, d_initial, mask=square)


def tiles(K: int, V: int, *, backward: bool, delta: bool, channel: bool, wide: bool) -> tuple[int, int, int]:
    """Return the tile of the state and the warps, chosen so that heads of 64 x 64 spill nothing, or little.

    The backward holds the state and its gradient, the delta rule more products, and ``wide`` (float32) operands twice.
    """
    BK = max(16, triton.next_power_of_2(K))
    area = (1024 if delta else 2048) if backward else 2048 if wide else 4096
    BV = max(16, min(area // BK, triton.next_power_of_2(V)))
    return BK, BV, 8 if backward or channel or wide else 4


def _flags(q, g, beta, first, V, backward):
    wide, delta, channel = q.dtype == torch.float32, beta is not None, g.dim() == 4
    BK, BV, warps = tiles(q.shape[-1], V, backward=backward, delta=delta, channel=channel, wide=wide)
    precision = "tf32x3" if wide else "tf32"
    if os.environ.get("TRITON_INTERPRET") == "1":
        precision = "ieee"
    return {"DELTA": delta, "CHANNEL": channel, "HAS_INIT": first is not None, "PRECISION": precision, "C": CHUNK,
            "BK": BK, "BV": BV, "num_warps": warps}  # fmt: skip


def forward(q, k, v, g, beta, reset, S0, S_init, save: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Launch; returns o, the final state and, if ``save``, the states at the starts of chunks (B, H, N, K, V)."""
    (B, T, H, K), V = q.shape, v.shape[-1]
    flags = _flags(q, g, beta, S_init, V, False)
    q, k, v, g, S0 = (z.contiguous() for z in (q, k, v, g, S0))
    o, final = torch.empty_like(v), torch.empty_like(S0)
    count = triton.cdiv(T, flags["C"]) if save else 0
    states = torch.empty((B, H, count, K, V), dtype=torch.float32, device=q.device)
    forward_kernel[(B * H, triton.cdiv(V, flags["BV"]))](
        q, k, v, g, g if beta is None else beta.contiguous(), reset.contiguous().view(torch.uint8), S0,
        S0 if S_init is None else S_init.contiguous(), o, final, states, T, H, K, V, SAVE=save, **flags,
    )  # fmt: skip
    return o, final, states


def backward(d_o, d_final, q, k, v, g, beta, reset, S_init, states) -> tuple[Tensor, ...]:
    """Launch; returns dq, dk, dv, dg, d_beta (empty without), dS0 and dS_init summed over rows (empty without)."""
    (B, T, H, K), V = q.shape, v.shape[-1]
    flags = _flags(q, g, beta, S_init, V, True)
    q, k, v, g, d_o, d_final = (z.contiguous() for z in (q, k, v, g, d_o, d_final))
    parts = triton.cdiv(V, flags["BV"])
    wide = {"dtype": torch.float32, "device": q.device}
    dq, dk = (torch.empty((parts, *q.shape), **wide) for _ in range(2))
    dg, dv = torch.empty((parts, *g.shape), **wide), torch.empty_like(v)
    d_beta = torch.empty((parts, B, T, H), **wide) if beta is not None else dg
    d_start = torch.empty((B, H, K, V), **wide)
    d_first = torch.empty((B, H, K, V), **wide) if S_init is not None else d_start
    backward_kernel[(B * H, parts)](
        d_o, d_final, q, k, v, g, g if beta is None else beta.contiguous(), reset.contiguous().view(torch.uint8),
        d_final if S_init is None else S_init.contiguous(), states, dq, dk, dv, dg, d_beta, d_start, d_first,
        T, H, K, V, dq[0].numel(), dg[0].numel(), **flags,
    )  # fmt: skip
    return (
        dq.sum(0).to(q.dtype), dk.sum(0).to(k.dtype), dv, dg.sum(0).to(g.dtype),
        q.new_empty(0) if beta is None else d_beta.sum(0).to(beta.dtype), d_start,
        q.new_empty(0) if S_init is None else d_first.sum(0).to(S_init.dtype),
    )  # fmt: skip
