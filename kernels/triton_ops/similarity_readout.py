"""Triton kernels of `ops.similarity_readout`: maxima of groups of entries, then the similarities of the best groups.

Every one of the k best entries lies in one of the k groups with the largest maxima, as in `topk_similarity`. The first
pass multiplies the square out into two products, the second computes it as it stands.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

import os

import torch
import triton
import triton.language as tl
from torch import Tensor

from embodied_mem.kernels.triton_ops._common import ordered_key, tile

GROUP = 32


@triton.jit
def groups_kernel(
    key, shrink, query, selection, length, packed, Q, N, C, groups, scale,
    HAS_SHRINK: tl.constexpr, HAS_SELECTION: tl.constexpr, PRECISION: tl.constexpr, BQ: tl.constexpr,
    BN: tl.constexpr, BC: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """Write sortable keys of group maxima (B, Q, groups); grid (tiles of entries, tiles of queries, B)."""
    b = tl.program_id(2).to(tl.int64)
    i = tl.program_id(1) * BQ + tl.arange(0, BQ)
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    c = tl.arange(0, BC)
    held = n < tl.load(length + b)
    away = tl.zeros((BQ, BN), tl.float32)
    own = tl.zeros((BQ,), tl.float32)
    asked = (b * Q + i[:, None]) * C + c[None, :]
    rows = (b * N + n[None, :]) * C + c[:, None]
    for first in range(0, C, BC):
        inside = first + c < C
        mask = (i < Q)[:, None] & inside[None, :]
        q = tl.load(query + asked + first, mask=mask, other=0.0).to(tl.float32)
        s = mask.to(tl.float32)
        if HAS_SELECTION:
            s = tl.load(selection + asked + first, mask=mask, other=0.0).to(tl.float32)
        k = tl.load(key + rows + first, mask=held[None, :] & inside[:, None], other=0.0).to(tl.float32)
        away += tl.dot(s, k * k, input_precision=PRECISION) - 2.0 * tl.dot(q * s, k, input_precision=PRECISION)
        own += tl.sum(q * q * s, 1)
    scores = -(away + own[:, None]) * scale
    if HAS_SHRINK:
        scores = scores * tl.load(shrink + b * N + n, mask=held, other=0.0).to(tl.float32)[None, :]
    scores = tl.where((i < Q)[:, None] & held[None, :], scores, float("-inf"))
    largest = tl.max(tl.reshape(scores, (BQ, BN // GROUP, GROUP)), 2)
    at = tl.program_id(0) * (BN // GROUP) + tl.arange(0, BN // GROUP)
    place = packed + (b * Q + i[:, None]) * groups + at[None, :]
    tl.store(place, ordered_key(largest, at[None, :]), mask=(i < Q)[:, None] & (at < groups)[None, :])


@triton.jit
def scores_kernel(
    key, shrink, query, selection, length, chosen, packed, Q, N, C, K, scale,
    HAS_SHRINK: tl.constexpr, HAS_SELECTION: tl.constexpr, BC: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """Write sortable keys of the entries of the chosen groups (B * Q, K, GROUP); grid (B * Q, K)."""
    i = tl.program_id(0).to(tl.int64)
    b = i // Q
    at = (0x7FFFFFFF - (tl.load(chosen + i * K + tl.program_id(1)) & 0x7FFFFFFF)).to(tl.int32)
    n = at * GROUP + tl.arange(0, GROUP)
    held = n < tl.load(length + b)
    c = tl.arange(0, BC)
    away = tl.zeros((GROUP,), tl.float32)
    for first in range(0, C, BC):
        inside = first + c < C
        q = tl.load(query + i * C + first + c, mask=inside, other=0.0).to(tl.float32)
        rows = key + (b * N + n[:, None]) * C + first + c[None, :]
        apart = tl.load(rows, mask=held[:, None] & inside[None, :], other=0.0).to(tl.float32) - q[None, :]
        square = apart * apart
        if HAS_SELECTION:
            s = tl.load(selection + i * C + first + c, mask=inside, other=0.0).to(tl.float32)
            square = square * s[None, :]
        away += tl.sum(square, 1)
    scores = -away * scale
    if HAS_SHRINK:
        scores = scores * tl.load(shrink + b * N + n, mask=held, other=0.0).to(tl.float32)
    # -0 equals 0
    scores = tl.where(held, tl.where(scores == 0.0, 0.0, scores), float("-inf"))
    place = packed + (i * K + tl.program_id(1)) * GROUP + tl.arange(0, GROUP)
    tl.store(place, ordered_key(scores, n))


def tiles(Q: int, C: int) -> tuple[int, int, int]:
    """Return tiles of queries, entries and channels."""
    return tile(Q, 64), 64, tile(C, 32)


def top(key, shrink, query, selection, length, k: int) -> tuple[Tensor, Tensor]:
    """Launch; as `reference.similarity_readout.top`, without gradient."""
    (B, N, C), Q = key.shape, query.shape[1]
    key, query, length = (z.detach().contiguous() for z in (key, query, length))
    flags = {"HAS_SHRINK": shrink is not None, "HAS_SELECTION": selection is not None, "GROUP": GROUP}
    shrink, selection = (key if z is None else z.detach().contiguous() for z in (shrink, selection))
    BQ, BN, BC = tiles(Q, C)
    # three tf32 products: the square cancels, and one would decide wrongly between near keys
    precision = "ieee" if os.environ.get("TRITON_INTERPRET") == "1" else "tf32x3"
    groups = triton.cdiv(N, GROUP)
    maxima = torch.empty((B, Q, groups), dtype=torch.int64, device=key.device)
    groups_kernel[(triton.cdiv(N, BN), triton.cdiv(Q, BQ), B)](
        key, shrink, query, selection, length, maxima, Q, N, C, groups, C**-0.5, PRECISION=precision,
        BQ=BQ, BN=BN, BC=BC, num_warps=4, num_stages=2, **flags,
    )  # fmt: skip
    K = min(k, groups)
    chosen = maxima.topk(K, -1).values.contiguous()
    packed = torch.empty((B, Q, K * GROUP), dtype=torch.int64, device=key.device)
    scores_kernel[(B * Q, K)](
        key,
        shrink,
        query,
        selection,
        length,
        chosen,
        packed,
        Q,
        N,
        C,
        K,
        C**-0.5,
        BC=tile(C, 128),
        num_warps=4,
        **flags,
    )
    found = packed.topk(min(k, K * GROUP), -1).values
    bits = (found >> 32).to(torch.int32)
    score = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(torch.float32)
    index = torch.where(score == -torch.inf, -1, 0x7FFFFFFF - (found & 0x7FFFFFFF))
    short = k - score.shape[-1]
    return torch.nn.functional.pad(score, (0, short), value=-torch.inf), torch.nn.functional.pad(
        index, (0, short), value=-1
    )
