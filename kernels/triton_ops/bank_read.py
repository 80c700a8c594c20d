"""Triton kernels of `ops.bank_read`: attention over a bank of which only the first ``length`` slots are read.

One program per tile of queries, row and head (and part of the bank, where rows and heads are few). Few queries are
padded to the 16 rows of a tensor-core product: the bank is read once either way, and that decides the time.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from embodied_mem.kernels.triton_ops._common import last_dense, ordered_key, tile, upcast

_PROGRAMS = 256
"""Programs that keep a GPU busy; with fewer the bank is split into parts."""


@triton.jit
def _dot(a, b, UPCAST: tl.constexpr):
    if UPCAST:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="ieee")
    return tl.dot(a, b)


@triton.jit
def _keys(
    k, ts, pe, b, h, m, d, inside, wide, tokens, k_row, k_key, k_head, ts_row, pe_code, pe_head,
    HAS_PE: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Load a tile of keys (BM, BD) with their codes added; 0 outside."""
    mask = inside[:, None] & wide[None, :]
    keys = tl.load(k + b * k_row + m.to(tl.int64)[:, None] * k_key + h * k_head + d[None, :], mask=mask, other=0.0)
    if HAS_PE:
        at = tl.load(ts + b * ts_row + m // tokens, mask=inside, other=0).to(tl.int64)
        code = tl.load(pe + at[:, None] * pe_code + h * pe_head + d[None, :], mask=mask, other=0.0)
        both = keys.to(tl.float32) + code.to(tl.float32)
        keys = both if UPCAST else both.to(keys.dtype)
    elif UPCAST:
        keys = keys.to(tl.float32)
    return keys


@triton.jit
def _seen(valid, b, i, m, inside, Q, tokens, v_row, v_query, v_slot, HAS_VALID: tl.constexpr):
    """Return which keys of a tile the queries see, (BQ, BM)."""
    seen = (i < Q)[:, None] & inside[None, :]
    if HAS_VALID:
        at = valid + b * v_row + i[:, None] * v_query + (m // tokens)[None, :] * v_slot
        seen = seen & (tl.load(at, mask=seen, other=0) != 0)
    return seen


@triton.jit
def forward_kernel(
    q, k, v, length, ts, pe, valid, out, lse, scale, Q, H, D, tokens, rows, parts,
    q_row, q_query, q_head, k_row, k_key, k_head, v_row, v_key, v_head, ts_row, pe_code, pe_head, s_row, s_query,
    s_slot, HAS_PE: tl.constexpr, HAS_VALID: tl.constexpr, UPCAST: tl.constexpr, BQ: tl.constexpr, BM: tl.constexpr,
    BD: tl.constexpr,
):  # fmt: skip
    """Online softmax; grid (tiles of queries, B * H, parts). Writes out and lse of every part."""
    i = tl.program_id(0).to(tl.int64) * BQ + tl.arange(0, BQ)
    b = (tl.program_id(1) // H).to(tl.int64)
    h = (tl.program_id(1) % H).to(tl.int64)
    part = tl.program_id(2)
    d = tl.arange(0, BD)
    wide = d < D
    asked = tl.load(
        q + b * q_row + i[:, None] * q_query + h * q_head + d[None, :], mask=(i < Q)[:, None] & wide[None, :], other=0.0
    )
    held = tl.load(length + b).to(tl.int32) * tokens
    share = tl.cdiv(tl.cdiv(held, BM), parts) * BM
    end = tl.minimum(held, (part + 1) * share)
    top = tl.full((BQ,), float("-inf"), tl.float32)
    total = tl.zeros((BQ,), tl.float32)
    found = tl.zeros((BQ, BD), tl.float32)
    for first in range(part * share, end, BM):
        m = first + tl.arange(0, BM)
        inside = m < end
        keys = _keys(
            k, ts, pe, b, h, m, d, inside, wide, tokens, k_row, k_key, k_head, ts_row, pe_code, pe_head, HAS_PE, UPCAST
        )
        scores = _dot(asked, tl.trans(keys), UPCAST) * scale
        seen = _seen(valid, b, i, m, inside, Q, tokens, s_row, s_query, s_slot, HAS_VALID)
        scores = tl.where(seen, scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        # nothing seen so far: subtracting -inf would give NaN
        shift = tl.where(higher == float("-inf"), 0.0, higher)
        weights = tl.exp(scores - shift[:, None])
        fade = tl.exp(top - shift)
        values = tl.load(
            v + b * v_row + m.to(tl.int64)[:, None] * v_key + h * v_head + d[None, :],
            mask=inside[:, None] & wide[None, :],
            other=0.0,
        )
        total = total * fade + tl.sum(weights, 1)
        found = found * fade[:, None] + _dot(weights.to(values.dtype) if not UPCAST else weights, values, UPCAST)
        top = higher
    some = total > 0.0
    found = found / tl.where(some, total, 1.0)[:, None]
    place = ((part * rows + b) * Q + i) * H + h
    tl.store(
        out + place[:, None] * D + d[None, :],
        found.to(out.dtype.element_ty),
        mask=(i < Q)[:, None] & wide[None, :],
    )
    tl.store(lse + place, tl.where(some, top + tl.log(tl.where(some, total, 1.0)), float("-inf")), mask=i < Q)


@triton.jit
def _weights(asked, keys, seen, log_sum, scale, UPCAST: tl.constexpr):
    scores = _dot(asked, tl.trans(keys), UPCAST) * scale
    known = log_sum > float("-inf")
    weights = tl.exp(scores - tl.where(known, log_sum, 0.0)[:, None])
    return tl.where(seen & known[:, None], weights, 0.0)


@triton.jit
def keys_backward_kernel(
    d_out, delta, q, k, v, lse, length, ts, pe, valid, dk, dv, scale, Q, H, D, K, tokens,
    q_row, q_query, q_head, k_row, k_key, k_head, v_row, v_key, v_head, ts_row, pe_code, pe_head, s_row, s_query,
    s_slot, HAS_PE: tl.constexpr, HAS_VALID: tl.constexpr, UPCAST: tl.constexpr, BQ: tl.constexpr, BM: tl.constexpr,
    BD: tl.constexpr,
):  # fmt: skip
    """Gradients of a tile of keys and values, 0 in empty slots; grid (tiles of keys, B * H)."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    b = (tl.program_id(1) // H).to(tl.int64)
    h = (tl.program_id(1) % H).to(tl.int64)
    d = tl.arange(0, BD)
    wide = d < D
    held = tl.load(length + b).to(tl.int32) * tokens
    inside = m < held
    d_keys = tl.zeros((BM, BD), tl.float32)
    d_values = tl.zeros((BM, BD), tl.float32)
    if tl.program_id(0) * BM < held:
        keys = _keys(
            k, ts, pe, b, h, m, d, inside, wide, tokens, k_row, k_key, k_head, ts_row, pe_code, pe_head, HAS_PE, UPCAST
        )
        values = tl.load(
            v + b * v_row + m.to(tl.int64)[:, None] * v_key + h * v_head + d[None, :],
            mask=inside[:, None] & wide[None, :],
            other=0.0,
        )
        for first in range(0, Q, BQ):
            i = (first + tl.arange(0, BQ)).to(tl.int64)
            mask = (i < Q)[:, None] & wide[None, :]
            asked = tl.load(q + b * q_row + i[:, None] * q_query + h * q_head + d[None, :], mask=mask, other=0.0)
            place = (b * Q + i) * H + h
            grad = tl.load(d_out + place[:, None] * D + d[None, :], mask=mask, other=0.0)
            log_sum = tl.load(lse + place, mask=i < Q, other=float("-inf"))
            change = tl.load(delta + place, mask=i < Q, other=0.0)
            seen = _seen(valid, b, i, m, inside, Q, tokens, s_row, s_query, s_slot, HAS_VALID)
            weights = _weights(asked, keys, seen, log_sum, scale, UPCAST)
            d_values += _dot(tl.trans(weights if UPCAST else weights.to(grad.dtype)), grad, UPCAST)
            ds = weights * (_dot(grad, tl.trans(values), UPCAST) - change[:, None]) * scale
            d_keys += _dot(tl.trans(ds if UPCAST else ds.to(asked.dtype)), asked, UPCAST)
    place = ((b * K + m) * H + h)[:, None] * D + d[None, :]
    mask = (m < K)[:, None] & wide[None, :]
    tl.store(dk + place, d_keys.to(dk.dtype.element_ty), mask=mask)
    tl.store(dv + place, d_values.to(dv.dtype.element_ty), mask=mask)


@triton.jit
def queries_backward_kernel(
    d_out, delta, q, k, v, lse, length, ts, pe, valid, dq, scale, Q, H, D, tokens,
    q_row, q_query, q_head, k_row, k_key, k_head, v_row, v_key, v_head, ts_row, pe_code, pe_head, s_row, s_query,
    s_slot, HAS_PE: tl.constexpr, HAS_VALID: tl.constexpr, UPCAST: tl.constexpr, BQ: tl.constexpr, BM: tl.constexpr,
    BD: tl.constexpr,
):  # fmt: skip
    """Gradient of a tile of queries; grid (tiles of queries, B * H)."""
    i = tl.program_id(0).to(tl.int64) * BQ + tl.arange(0, BQ)
    b = (tl.program_id(1) // H).to(tl.int64)
    h = (tl.program_id(1) % H).to(tl.int64)
    d = tl.arange(0, BD)
    wide = d < D
    mask = (i < Q)[:, None] & wide[None, :]
    asked = tl.load(q + b * q_row + i[:, None] * q_query + h * q_head + d[None, :], mask=mask, other=0.0)
    place = (b * Q + i) * H + h
    grad = tl.load(d_out + place[:, None] * D + d[None, :], mask=mask, other=0.0)
    log_sum = tl.load(lse + place, mask=i < Q, other=float("-inf"))
    change = tl.load(delta + place, mask=i < Q, other=0.0)
    held = tl.load(length + b).to(tl.int32) * tokens
    d_asked = tl.zeros((BQ, BD), tl.float32)
    for first in range(0, held, BM):
        m = first + tl.arange(0, BM)
        inside = m < held
        keys = _keys(
            k, ts, pe, b, h, m, d, inside, wide, tokens, k_row, k_key, k_head, ts_row, pe_code, pe_head, HAS_PE, UPCAST
        )
        values = tl.load(
            v + b * v_row + m.to(tl.int64)[:, None] * v_key + h * v_head + d[None, :],
            mask=inside[:, None] & wide[None, :],
            other=0.0,
        )
        seen = _seen(valid, b, i, m, inside, Q, tokens, s_row, s_query, s_slot, HAS_VALID)
        weights = _weights(asked, keys, seen, log_sum, scale, UPCAST)
        ds = weights * (_dot(grad, tl.trans(values), UPCAST) - change[:, None]) * scale
        d_asked += _dot(ds if UPCAST else ds.to(keys.dtype), keys, UPCAST)
    tl.store(dq + place[:, None] * D + d[None, :], d_asked.to(dq.dtype.element_ty), mask=mask)


@triton.jit
def keys_kernel(
    q, k, length, ts, pe, valid, packed, scale, Q, H, D, K, tokens,
    q_row, q_query, q_head, k_row, k_key, k_head, ts_row, pe_code, pe_head, s_row, s_query, s_slot,
    HAS_PE: tl.constexpr, HAS_VALID: tl.constexpr, UPCAST: tl.constexpr, BQ: tl.constexpr, BM: tl.constexpr,
    BD: tl.constexpr,
):  # fmt: skip
    """Write sortable keys of score and index, (B, Q, H, K) int64; grid (tiles of queries, B * H, tiles of keys)."""
    i = tl.program_id(0).to(tl.int64) * BQ + tl.arange(0, BQ)
    b = (tl.program_id(1) // H).to(tl.int64)
    h = (tl.program_id(1) % H).to(tl.int64)
    m = tl.program_id(2) * BM + tl.arange(0, BM)
    d = tl.arange(0, BD)
    wide = d < D
    held = tl.load(length + b).to(tl.int32) * tokens
    inside = m < held
    asked = tl.load(
        q + b * q_row + i[:, None] * q_query + h * q_head + d[None, :], mask=(i < Q)[:, None] & wide[None, :], other=0.0
    )
    keys = _keys(
        k, ts, pe, b, h, m, d, inside, wide, tokens, k_row, k_key, k_head, ts_row, pe_code, pe_head, HAS_PE, UPCAST
    )
    scores = _dot(asked, tl.trans(keys), UPCAST) * scale
    scores = tl.where(scores == 0.0, 0.0, scores)
    seen = _seen(valid, b, i, m, inside, Q, tokens, s_row, s_query, s_slot, HAS_VALID)
    scores = tl.where(seen, scores, float("-inf"))
    place = ((b * Q + i) * H + h)[:, None] * K + m[None, :]
    tl.store(packed + place, ordered_key(scores, m[None, :]), mask=(i < Q)[:, None] & (m < K)[None, :])


def _arguments(q, k, ts, pe, valid):
    """Arguments that all launches share: tensors with a stand-in for those that are absent, and strides."""
    Q, slots = q.shape[1], 0 if valid is None else valid.shape[2]
    seen = q if valid is None else valid.expand(q.shape[0], Q, slots).view(torch.uint8)
    strides = (
        *q.stride()[:3], *k.stride()[:3],
        0 if ts is None else ts.stride(0), *((0, 0) if pe is None else pe.stride()[:2]),
        *((0, 0, 0) if valid is None else seen.stride()),
    )  # fmt: skip
    tensors = (q if ts is None else ts, q if pe is None else pe, seen)
    flags = {"HAS_PE": pe is not None, "HAS_VALID": valid is not None, "UPCAST": upcast(q.dtype)}
    return tensors, strides, flags


def tiles(Q: int, D: int, itemsize: int) -> tuple[int, int, int, int]:
    """Return tile sizes of queries, keys and width, and warps."""
    BD = tile(D, 256)
    BQ = tile(Q, 64 if itemsize == 2 else 32)
    BM = 64 if BD <= 128 and itemsize == 2 else 32
    return BQ, BM, BD, 8 if BD * BQ >= 64 * 128 else 4


def _prepared(q, k, v, pe):
    return last_dense(q), last_dense(k), last_dense(v), None if pe is None else last_dense(pe)


def forward(q, k, v, length, ts, pe, valid, scale: float, tokens: int) -> tuple[Tensor, Tensor]:
    """Launch; shapes as in `ops.bank_read`."""
    q, k, v, pe = _prepared(q, k, v, pe)
    (B, Q, H, D), K = q.shape, k.shape[1]
    BQ, BM, BD, warps = tiles(Q, D, q.element_size())
    programs = triton.cdiv(Q, BQ) * B * H
    parts = max(1, min(_PROGRAMS // programs, triton.cdiv(K, 4 * BM)))
    out = torch.empty((parts, B, Q, H, D), dtype=q.dtype if parts == 1 else torch.float32, device=q.device)
    lse = torch.empty((parts, B, Q, H), dtype=torch.float32, device=q.device)
    tensors, strides, flags = _arguments(q, k, ts, pe, valid)
    forward_kernel[(triton.cdiv(Q, BQ), B * H, parts)](
        q, k, v, length, *tensors, out, lse, scale, Q, H, D, tokens, B, parts, *strides[:6], *v.stride()[:3],
        *strides[6:], **flags, BQ=BQ, BM=BM, BD=BD, num_warps=warps,
    )  # fmt: skip
    if parts == 1:
        return out[0], lse[0]
    whole = torch.logsumexp(lse, 0)
    share = (lse - torch.where(whole == -torch.inf, 0, whole)).exp()
    return (out * share.unsqueeze(-1)).sum(0).to(q.dtype), whole


def backward(
    d_out, d_lse, q, k, v, out, lse, length, ts, pe, valid, scale: float, tokens: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Launch; returns dq, dk (float32 with codes) and dv."""
    q, k, v, pe = _prepared(q, k, v, pe)
    (B, Q, H, D), K = q.shape, k.shape[1]
    BQ, BM, BD, warps = tiles(Q, D, q.element_size())
    BQ, BM = min(BQ, 32), min(BM, 32)
    d_out, lse = d_out.contiguous(), lse.contiguous()
    delta = (d_out.float() * out.float()).sum(-1) - d_lse
    dq = torch.empty((B, Q, H, D), dtype=q.dtype, device=q.device)
    dk = torch.empty((B, K, H, D), dtype=k.dtype if pe is None else torch.float32, device=q.device)
    dv = torch.empty((B, K, H, D), dtype=v.dtype, device=q.device)
    tensors, strides, flags = _arguments(q, k, ts, pe, valid)
    common = (*strides[:6], *v.stride()[:3], *strides[6:])
    sizes = flags | {"BQ": BQ, "BM": BM, "BD": BD, "num_warps": warps}
    keys_backward_kernel[(triton.cdiv(K, BM), B * H)](
        d_out, delta, q, k, v, lse, length, *tensors, dk, dv, scale, Q, H, D, K, tokens, *common, **sizes
    )
    queries_backward_kernel[(triton.cdiv(Q, BQ), B * H)](
        d_out, delta, q, k, v, lse, length, *tensors, dq, scale, Q, H, D, tokens, *common, **sizes
    )
    return dq, dk, dv


def top(q, k, length, ts, pe, valid, scale: float, tokens: int, topk: int) -> Tensor:
    """Launch, then take the best keys; as `reference.bank_read.top`."""
    q, k, pe = last_dense(q), last_dense(k), None if pe is None else last_dense(pe)
    (B, Q, H, D), K = q.shape, k.shape[1]
    BQ, BM, BD, warps = tiles(Q, D, q.element_size())
    packed = torch.empty((B, Q, H, K), dtype=torch.int64, device=q.device)
    tensors, strides, flags = _arguments(q, k, ts, pe, valid)
    keys_kernel[(triton.cdiv(Q, BQ), B * H, triton.cdiv(K, BM))](
        q, k, length, *tensors, packed, scale, Q, H, D, K, tokens, *strides, **flags, BQ=BQ, BM=BM, BD=BD,
        num_warps=warps,
    )  # fmt: skip
    chosen = packed.topk(min(topk, K), -1).values
    # the bits of -inf, whatever the index
    index = torch.where((chosen >> 32) == -2139095041, -1, 0x7FFFFFFF - (chosen & 0x7FFFFFFF))
    return torch.nn.functional.pad(index, (0, topk - index.shape[-1]), value=-1)
