"""Triton kernels of `ops.reset_linear_attention`: chunk form, one program per row, head and block of value columns.

The state stays in registers while the chunks of a row pass. Everything is float32; products run as tf32 for half inputs
and as three tf32 products, which keep float32 accuracy, for float32. The gradient is in `_linear_attention_backward`.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

import os

import torch
import triton
import triton.language as tl
from torch import Tensor

from embodied_mem.kernels.triton_ops._linear_attention import (
    channel_decays,
    channel_products,
    dot,
    rows,
    scalar_decays,
    store_rows,
    unit_lower_inverse,
)
from embodied_mem.kernels.triton_ops._linear_attention_backward import chain_kernel, chunk_kernel

CHUNK = 16
"""Tokens of a chunk."""


@triton.jit
def forward_kernel(
    q, k, v, g, beta, reset, start, first_state, o, final_state, states, writes, T, H, K, V,
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
    writes += b * T * step_v + h * V
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
        asked = rows(q, t, T, x, K, step_k)
        key = rows(k, t, T, x, K, step_k)
        u = rows(v, t, T, y, V, step_v)
        if CHANNEL:
            segment, visible, total, enter, begin, leave, keep, first = channel_decays(
                g + b * T * step_k + h * K, opens, t, T, x, K, step_k, C, BK
            )
            inner = channel_products(asked, key, total, segment, C)
            keep = keep[:, None]
            first = first[:, None]
        else:
            gates = tl.load(g + (b * T + t) * H + h, mask=t < T, other=0.0)
            segment, visible, weight, enter, begin, leave, keep, first = scalar_decays(gates, opens, C)
            inner = dot(asked, tl.trans(key), PRECISION) * weight
        live = (segment == 0)[:, None]
        if DELTA:
            strength = tl.load(beta + (b * T + t) * H + h, mask=t < T, other=0.0).to(tl.float32)
            below = i[:, None] > i[None, :]
            A = tl.where(below, dot(key, tl.trans(key), PRECISION) * weight * strength[:, None], 0.0)
            solve = unit_lower_inverse(A, C) * strength[None, :]
            u = dot(solve, u, PRECISION)
            u -= tl.where(live, dot(dot(solve, enter * key, PRECISION), S, PRECISION), 0.0)
            if HAS_INIT:
                u -= dot(dot(solve, begin * key, PRECISION), initial, PRECISION)
            if SAVE:
                store_rows(writes, u, t, T, y, V, step_v)
        read = tl.where(live, dot(enter * asked, S, PRECISION), 0.0) + dot(inner, u, PRECISION)
        if HAS_INIT:
            read += dot(begin * asked, initial, PRECISION)
        store_rows(o, read, t, T, y, V, step_v)
        # where, not a product with 0: a NaN of the old episode must not stay
        carried = tl.where(tl.max(segment, 0) == 0, keep * S, 0.0)
        S = carried + dot(tl.trans(key * leave), u, PRECISION)
        if HAS_INIT:
            S += first * initial
    tl.store(final_state + (b * H + h) * K * V + corner, S.to(final_state.dtype.element_ty), mask=square)


def tiles(kernel, K: int, V: int, *, delta: bool, channel: bool, wide: bool) -> tuple[int, int, int, str]:
    """Return the tile of the state, warps and precision of products, chosen so that heads of 64 x 64 spill nothing.

    ``wide`` (float32): three tf32 products hold their operands twice; where that spills, products are exact.
    """
    BK = max(16, triton.next_power_of_2(K))
    if kernel is forward_kernel:
        area, warps = 2048 if wide else 4096, 8 if channel or wide else 4
    elif kernel is chain_kernel:
        area, warps = 1024 if delta else 2048, 8
    else:
        BK = min(BK, 32)
        area, warps = 512 if wide else 1024, 4
    precision = "tf32" if not wide else "tf32x3" if kernel is forward_kernel else "ieee"
    return BK, max(16, min(area // BK, triton.next_power_of_2(V))), warps, precision


def _flags(kernel, q, g, beta, first, V):
    wide, delta, channel = q.dtype == torch.float32, beta is not None, g.dim() == 4
    BK, BV, warps, precision = tiles(kernel, q.shape[-1], V, delta=delta, channel=channel, wide=wide)
    if os.environ.get("TRITON_INTERPRET") == "1":
        precision = "ieee"
    return {"DELTA": delta, "CHANNEL": channel, "HAS_INIT": first is not None, "PRECISION": precision, "C": CHUNK,
            "BK": BK, "BV": BV, "num_warps": warps}  # fmt: skip


def forward(q, k, v, g, beta, reset, S0, S_init, save: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Launch; returns o, the final state and, if ``save``, the states at the starts of chunks (B, H, N, K, V) and, with
    ``beta`` too, what the tokens wrote (B, T, H, V)."""
    (B, T, H, K), V = q.shape, v.shape[-1]
    flags = _flags(forward_kernel, q, g, beta, S_init, V)
    q, k, v, g, S0 = (z.contiguous() for z in (q, k, v, g, S0))
    o, final = torch.empty_like(v), torch.empty_like(S0)
    count = triton.cdiv(T, CHUNK) if save else 0
    wide = {"dtype": torch.float32, "device": q.device}
    states = torch.empty((B, H, count, K, V), **wide)
    writes = torch.empty((B, T if save and beta is not None else 0, H, V), **wide)
    forward_kernel[(B * H, triton.cdiv(V, flags["BV"]))](
        q, k, v, g, g if beta is None else beta.contiguous(), reset.contiguous().view(torch.uint8), S0,
        S0 if S_init is None else S_init.contiguous(), o, final, states, writes, T, H, K, V, SAVE=save, **flags,
    )  # fmt: skip
    return o, final, states, writes


def backward(d_o, d_final, q, k, v, g, beta, reset, S_init, states, writes) -> tuple[Tensor, ...]:
    """Launch; returns dq, dk, dv, dg, d_beta (empty without), dS0 and dS_init summed over rows (empty without)."""
    (B, T, H, K), V = q.shape, v.shape[-1]
    q, k, v, g, d_o, d_final = (z.contiguous() for z in (q, k, v, g, d_o, d_final))
    reset = reset.contiguous().view(torch.uint8)
    strength, first = g if beta is None else beta.contiguous(), d_final if S_init is None else S_init.contiguous()
    wide = {"dtype": torch.float32, "device": q.device}
    dq, dk, dv, dg = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), torch.empty_like(g)
    d_beta = dg if beta is None else torch.empty_like(strength)
    solved = dv if beta is None else torch.empty(v.shape, **wide)
    d_start, beyond = torch.empty((B, H, K, V), **wide), torch.empty_like(states)
    d_first = d_start if S_init is None else torch.empty((B, H, K, V), **wide)
    flags = _flags(chain_kernel, q, g, beta, S_init, V)
    chain_kernel[(B * H, triton.cdiv(V, flags["BV"]))](
        d_o, d_final, q, k, g, strength, reset, solved, dv, beyond, d_start, d_first, T, H, K, V, **flags
    )
    flags = _flags(chunk_kernel, q, g, beta, S_init, V)
    chunk_kernel[(B * H * states.shape[2],)](
        d_o, q, k, v, g, strength, reset, first, states, writes, beyond, solved, dq, dk, dg, d_beta, T, H, K, V,
        **flags,
    )  # fmt: skip
    return (
        dq, dk, dv, dg, q.new_empty(0) if beta is None else d_beta, d_start,
        q.new_empty(0) if S_init is None else d_first.sum(0).to(S_init.dtype),
    )  # fmt: skip
