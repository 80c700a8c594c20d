"""Triton kernels of `ops.hcam_read`: one program per query reads the rows of its chunks in place, without a copy.

The gradient of the contents is added by atomics, since several queries may have chosen a chunk: it is the one result
whose last bits may differ between runs.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

import os

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _chunk(contents, code, b, at, c, d, N, C, D):
    """Load a chunk with its code added, (BC, BD) float32."""
    mask = (c < C)[:, None] & (d < D)[None, :]
    place = c[:, None] * D + d[None, :]
    items = tl.load(contents + (b * N + at) * C * D + place, mask=mask, other=0.0).to(tl.float32)
    return items + tl.load(code + place, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _shares(asked, items, c, C, TF32: tl.constexpr):
    """Softmax over the items of a chunk, (BH, BC)."""
    scores = tl.dot(asked, tl.trans(items), input_precision="tf32" if TF32 else "ieee")
    scores = tl.where((c < C)[None, :], scores, float("-inf"))
    weights = tl.exp(scores - tl.max(scores, 1)[:, None])
    return weights / tl.sum(weights, 1)[:, None]


@triton.jit
def forward_kernel(
    detail, contents, code, index, weight, found, Q, H, N, C, D, K,
    TF32: tl.constexpr, BH: tl.constexpr, BC: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Grid (B * Q, blocks of heads)."""
    row = tl.program_id(0).to(tl.int64)
    b = row // Q
    h = tl.program_id(1) * BH + tl.arange(0, BH)
    c = tl.arange(0, BC)
    d = tl.arange(0, BD)
    mask = (h < H)[:, None] & (d < D)[None, :]
    place = (row * H + h)[:, None] * D + d[None, :]
    asked = tl.load(detail + place, mask=mask, other=0.0).to(tl.float32)
    read = tl.zeros((BH, BD), tl.float32)
    for j in range(0, K):
        share = tl.load(weight + row * K + j).to(tl.float32)
        # a chunk that is not visible has weight 0 and is not read at all
        if share > 0.0:
            items = _chunk(contents, code, b, tl.load(index + row * K + j), c, d, N, C, D)
            weights = _shares(asked, items, c, C, TF32)
            read += share * tl.dot(weights, items, input_precision="tf32" if TF32 else "ieee")
    tl.store(found + place, read.to(found.dtype.element_ty), mask=mask)


@triton.jit
def backward_kernel(
    grad, detail, contents, code, index, weight, d_detail, d_weight, d_contents, Q, H, N, C, D, K,
    WANT: tl.constexpr, TF32: tl.constexpr, BH: tl.constexpr, BC: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Grid (B * Q, blocks of heads); ``d_weight`` (blocks, B, Q, K)."""
    row = tl.program_id(0).to(tl.int64)
    b = row // Q
    h = tl.program_id(1) * BH + tl.arange(0, BH)
    c = tl.arange(0, BC)
    d = tl.arange(0, BD)
    mask = (h < H)[:, None] & (d < D)[None, :]
    place = (row * H + h)[:, None] * D + d[None, :]
    asked = tl.load(detail + place, mask=mask, other=0.0).to(tl.float32)
    given = tl.load(grad + place, mask=mask, other=0.0).to(tl.float32)
    d_asked = tl.zeros((BH, BD), tl.float32)
    d_weight += tl.program_id(1).to(tl.int64) * tl.num_programs(0) * K
    for j in range(0, K):
        share = tl.load(weight + row * K + j).to(tl.float32)
        at = tl.load(index + row * K + j)
        if share > 0.0:
            items = _chunk(contents, code, b, at, c, d, N, C, D)
            weights = _shares(asked, items, c, C, TF32)
            d_shares = tl.dot(given, tl.trans(items), input_precision="tf32" if TF32 else "ieee")
            mean = tl.sum(d_shares * weights, 1)
            tl.store(d_weight + row * K + j, tl.sum(mean, 0))
            d_scores = share * weights * (d_shares - mean[:, None])
            d_asked += tl.dot(d_scores, items, input_precision="tf32" if TF32 else "ieee")
            if WANT:
                d_items = tl.dot(tl.trans(d_scores), asked, input_precision="tf32" if TF32 else "ieee")
                d_items += tl.dot(tl.trans(share * weights), given, input_precision="tf32" if TF32 else "ieee")
                cell = d_contents + (b * N + at) * C * D + c[:, None] * D + d[None, :]
                tl.atomic_add(cell, d_items, mask=(c < C)[:, None] & (d < D)[None, :])
    tl.store(d_detail + place, d_asked.to(d_detail.dtype.element_ty), mask=mask)


def tiles(C: int, D: int) -> tuple[int, int, int]:
    """Return tiles of items and width, and warps."""
    BC, BD = max(16, triton.next_power_of_2(C)), max(16, triton.next_power_of_2(D))
    return BC, BD, 4 if BC * BD <= 4096 else 8


def _launch(detail, contents):
    BC, BD, warps = tiles(*contents.shape[2:])
    tf32 = detail.dtype != torch.float32 and os.environ.get("TRITON_INTERPRET") != "1"
    return {"TF32": tf32, "BH": 16, "BC": BC, "BD": BD, "num_warps": warps}


def forward(detail, contents, code, index, weight) -> Tensor:
    """Launch; shapes as in `ops.hcam_read`."""
    (B, Q, H, D), (N, C), K = detail.shape, contents.shape[1:3], index.shape[-1]
    detail, contents, code, index, weight = (z.contiguous() for z in (detail, contents, code, index, weight))
    found = torch.empty_like(detail)
    forward_kernel[(B * Q, triton.cdiv(H, 16))](
        detail, contents, code, index, weight, found, Q, H, N, C, D, K, **_launch(detail, contents)
    )
    return found


def backward(grad, detail, contents, code, index, weight, want_contents: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Launch; as `reference.hcam_read.backward`."""
    (B, Q, H, D), (N, C), K = detail.shape, contents.shape[1:3], index.shape[-1]
    grad, detail, contents, code, index, weight = (
        z.contiguous() for z in (grad, detail, contents, code, index, weight)
    )
    blocks = triton.cdiv(H, 16)
    d_detail = torch.empty_like(detail)
    # chunks of weight 0 are not read; their gradient is multiplied by that weight
    d_weight = torch.zeros((blocks, B, Q, K), dtype=torch.float32, device=detail.device)
    d_contents = torch.zeros((B, N, C, D) if want_contents else 0, dtype=torch.float32, device=detail.device)
    backward_kernel[(B * Q, blocks)](
        grad, detail, contents, code, index, weight, d_detail, d_weight, d_contents, Q, H, N, C, D, K,
        WANT=want_contents, **_launch(detail, contents),
    )  # fmt: skip
    return d_detail, d_weight.sum(0).to(weight.dtype), d_contents
