"""Triton kernels of `ops.pkm_lookup`: weighted sums of gathered rows, and their gradients without atomics."""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from embodied_mem.kernels.triton_ops._common import tile

ENTRIES = 16


@triton.jit
def gather_kernel(values, index, weight, out, J, V, BJ: tl.constexpr, BV: tl.constexpr):
    """Weighted sum of the rows of an input; grid (R, blocks of V)."""
    r = tl.program_id(0).to(tl.int64)
    v = tl.program_id(1) * BV + tl.arange(0, BV)
    total = tl.zeros((BV,), tl.float32)
    for first in range(0, J, BJ):
        j = first + tl.arange(0, BJ)
        row = tl.load(index + r * J + j, mask=j < J, other=0)
        share = tl.load(weight + r * J + j, mask=j < J, other=0.0).to(tl.float32)
        mask = (j < J)[:, None] & (v < V)[None, :]
        items = tl.load(values + row[:, None] * V + v[None, :], mask=mask, other=0.0).to(tl.float32)
        total += tl.sum(share[:, None] * items, 0)
    tl.store(out + r * V + v, total.to(out.dtype.element_ty), mask=v < V)


@triton.jit
def weights_kernel(grad, values, index, d_weight, J, V, BJ: tl.constexpr, BV: tl.constexpr):
    """Products of the gradient with the rows; grid (R, blocks of J)."""
    r = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BJ + tl.arange(0, BJ)
    row = tl.load(index + r * J + j, mask=j < J, other=0)
    total = tl.zeros((BJ,), tl.float32)
    for first in range(0, V, BV):
        v = first + tl.arange(0, BV)
        given = tl.load(grad + r * V + v, mask=v < V, other=0.0).to(tl.float32)
        mask = (j < J)[:, None] & (v < V)[None, :]
        items = tl.load(values + row[:, None] * V + v[None, :], mask=mask, other=0.0).to(tl.float32)
        total += tl.sum(items * given[None, :], 1)
    tl.store(d_weight + r * J + j, total.to(d_weight.dtype.element_ty), mask=j < J)


@triton.jit
def values_kernel(grad, weight, order, starts, d_values, J, V, BV: tl.constexpr):
    """Add up the entries of one row of values, in a fixed order; grid (N, blocks of V)."""
    n = tl.program_id(0).to(tl.int64)
    v = tl.program_id(1) * BV + tl.arange(0, BV)
    total = tl.zeros((BV,), tl.float32)
    for e in range(tl.load(starts + n), tl.load(starts + n + 1)):
        entry = tl.load(order + e)
        share = tl.load(weight + entry).to(tl.float32)
        total += share * tl.load(grad + (entry // J) * V + v, mask=v < V, other=0.0).to(tl.float32)
    tl.store(d_values + n * V + v, total.to(d_values.dtype.element_ty), mask=v < V)


def gather(values, index, weight) -> Tensor:
    """Launch; as `reference.pkm_lookup.gather`."""
    values, index, weight = values.contiguous(), index.contiguous(), weight.contiguous()
    (R, J), V = index.shape, values.shape[1]
    out = torch.empty((R, V), dtype=values.dtype, device=values.device)
    BV = tile(V, 256)
    gather_kernel[(R, triton.cdiv(V, BV))](values, index, weight, out, J, V, BJ=ENTRIES, BV=BV, num_warps=4)
    return out


def backward(grad, values, index, weight, want_values: bool) -> tuple[Tensor, Tensor]:
    """Launch; as `reference.pkm_lookup.backward`."""
    grad, values, index, weight = (z.contiguous() for z in (grad, values, index, weight))
    (R, J), (N, V) = index.shape, values.shape
    d_weight, BV = torch.empty_like(weight), tile(V, 256)
    weights_kernel[(R, triton.cdiv(J, ENTRIES))](grad, values, index, d_weight, J, V, BJ=ENTRIES, BV=BV, num_warps=4)
    if not want_values:
        return values.new_empty(0), d_weight
    rows, order = index.flatten().sort(stable=True)
    starts = torch.searchsorted(rows, torch.arange(N + 1, device=rows.device))
    d_values = torch.empty_like(values)
    values_kernel[(N, triton.cdiv(V, BV))](grad, weight, order, starts, d_values, J, V, BV=BV, num_warps=2)
    return d_values, d_weight
