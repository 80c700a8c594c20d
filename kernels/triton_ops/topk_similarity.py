"""Triton kernels of `ops.topk_similarity`: maxima of groups, then the scores of the best groups alone.

Every one of the k best entries lies in one of the k groups with the largest maxima, so the first pass writes one number
per group of 32 entries instead of all scores, and the second computes the scores of k groups per query.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from embodied_mem.kernels.triton_ops._common import ordered_key, tile, upcast

GROUP = 32


@triton.jit
def _pass(
    group, q_group, time, span, now, i, n, i_live, n_live, apart,
    IDS: tl.constexpr, HAS_SPAN: tl.constexpr, HAS_NOW: tl.constexpr,
):  # fmt: skip
    """Return which pairs pass the filters; queries i and entries n broadcast against each other."""
    keep = i_live & n_live
    for g in tl.static_range(IDS):
        own = tl.load(q_group + i * IDS + g, mask=i_live, other=0)
        keep = keep & (own == tl.load(group + n.to(tl.int64) * IDS + g, mask=n_live, other=0))
    if HAS_SPAN:
        at = tl.load(time + n, mask=n_live, other=0)
        keep = keep & (at >= tl.load(span + i * 2, mask=i_live, other=0))
        keep = keep & (at <= tl.load(span + i * 2 + 1, mask=i_live, other=0))
    if HAS_NOW:
        at = tl.load(time + n, mask=n_live, other=0).to(tl.int64)
        keep = keep & (tl.abs(at - tl.load(now + i, mask=i_live, other=0).to(tl.int64)) > apart)
    return keep


@triton.jit
def groups_kernel(
    q, bank, group, q_group, time, span, now, packed, Q, N, D, groups, apart,
    IDS: tl.constexpr, HAS_SPAN: tl.constexpr, HAS_NOW: tl.constexpr, UPCAST: tl.constexpr, BQ: tl.constexpr,
    BN: tl.constexpr, BD: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """Write sortable keys of group maxima (Q, groups); grid (tiles of entries, tiles of queries)."""
    i = tl.program_id(1) * BQ + tl.arange(0, BQ)
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    d = tl.arange(0, BD)
    scores = tl.zeros((BQ, BN), tl.float32)
    asked = q + i[:, None].to(tl.int64) * D + d[None, :]
    rows = bank + n[None, :].to(tl.int64) * D + d[:, None]
    for first in range(0, D, BD):
        inside = first + d < D
        a = tl.load(asked + first, mask=(i < Q)[:, None] & inside[None, :], other=0.0)
        b = tl.load(rows + first, mask=(n < N)[None, :] & inside[:, None], other=0.0)
        if UPCAST:
            scores += tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="ieee")
        else:
            scores += tl.dot(a, b)
    keep = _pass(
        group, q_group, time, span, now, i[:, None], n[None, :], (i < Q)[:, None], (n < N)[None, :], apart,
        IDS, HAS_SPAN, HAS_NOW,
    )  # fmt: skip
    scores = tl.where(keep, scores, float("-inf"))
    largest = tl.max(tl.reshape(scores, (BQ, BN // GROUP, GROUP)), 2)
    at = tl.program_id(0) * (BN // GROUP) + tl.arange(0, BN // GROUP)
    place = packed + i[:, None].to(tl.int64) * groups + at[None, :]
    tl.store(place, ordered_key(largest, at[None, :]), mask=(i < Q)[:, None] & (at < groups)[None, :])


@triton.jit
def scores_kernel(
    q, bank, group, q_group, time, span, now, chosen, packed, Q, N, D, K, apart,
    IDS: tl.constexpr, HAS_SPAN: tl.constexpr, HAS_NOW: tl.constexpr, BD: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """Write sortable keys of the entries of the chosen groups (Q, K, GROUP); grid (Q, K)."""
    i = tl.program_id(0)
    j = tl.program_id(1)
    at = (0x7FFFFFFF - (tl.load(chosen + i.to(tl.int64) * K + j) & 0x7FFFFFFF)).to(tl.int32)
    n = at * GROUP + tl.arange(0, GROUP)
    d = tl.arange(0, BD)
    scores = tl.zeros((GROUP,), tl.float32)
    for first in range(0, D, BD):
        inside = first + d < D
        a = tl.load(q + i.to(tl.int64) * D + first + d, mask=inside, other=0.0).to(tl.float32)
        rows = bank + n[:, None].to(tl.int64) * D + first + d[None, :]
        b = tl.load(rows, mask=(n < N)[:, None] & inside[None, :], other=0.0).to(tl.float32)
        scores += tl.sum(a[None, :] * b, 1)
    keep = _pass(group, q_group, time, span, now, i, n, i < Q, n < N, apart, IDS, HAS_SPAN, HAS_NOW)
    scores = tl.where(keep, tl.where(scores == 0.0, 0.0, scores), float("-inf"))
    tl.store(packed + (i.to(tl.int64) * K + j) * GROUP + tl.arange(0, GROUP), ordered_key(scores, n))


def tiles(Q: int, D: int, itemsize: int) -> tuple[int, int, int, int]:
    """Return tiles of queries, entries and width, and warps."""
    BQ = tile(Q, 128 if itemsize == 2 else 32)
    return BQ, 128 if itemsize == 2 else 64, tile(D, 64 if itemsize == 2 else 32), 8 if BQ >= 64 else 4


def search(q, bank, k: int, group, q_group, time, span, now, apart: int) -> tuple[Tensor, Tensor]:
    """Launch; as `reference.topk_similarity.search`."""
    q, bank = q.contiguous(), bank.contiguous()
    (Q, D), N = q.shape, len(bank)
    BQ, BN, BD, warps = tiles(Q, D, q.element_size())
    groups = triton.cdiv(N, GROUP)
    filters = [q if z is None else z.contiguous() for z in (group, q_group, time, span, now)]
    flags = {"IDS": 0 if group is None else group.shape[1], "HAS_SPAN": span is not None, "HAS_NOW": now is not None,
             "GROUP": GROUP}  # fmt: skip
    maxima = torch.empty((Q, groups), dtype=torch.int64, device=q.device)
    groups_kernel[(triton.cdiv(N, BN), triton.cdiv(Q, BQ))](
        q, bank, *filters, maxima, Q, N, D, groups, apart, UPCAST=upcast(q.dtype), BQ=BQ, BN=BN, BD=BD,
        num_warps=warps, num_stages=3, **flags,
    )  # fmt: skip
    K = min(k, groups)
    chosen = maxima.topk(K, -1).values.contiguous()
    packed = torch.empty((Q, K, GROUP), dtype=torch.int64, device=q.device)
    scores_kernel[(Q, K)](q, bank, *filters, chosen, packed, Q, N, D, K, apart, BD=tile(D, 128), num_warps=4, **flags)
    found = packed.flatten(1).topk(min(k, K * GROUP), -1).values
    bits = (found >> 32).to(torch.int32)
    score = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(torch.float32)
    index = torch.where(score == -torch.inf, -1, 0x7FFFFFFF - (found & 0x7FFFFFFF))
    short = k - score.shape[1]
    return torch.nn.functional.pad(score, (0, short), value=-torch.inf), torch.nn.functional.pad(
        index, (0, short), value=-1
    )
