"""Parts shared by the kernels of `ops.reset_linear_attention`: loads, decays inside a chunk, the triangular inverse.

Decays are exponentials of differences of gates that were summed within the episode in float64, so a reset is exact and
a strong gate does not cancel what follows it; the triangular inverse of the delta rule is a forward substitution, which
stays accurate where doubling of powers does not.
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
def rows(pointer, t, T, x, X, step):
    """Load (C, X) of a head: rows are tokens, 0 outside."""
    mask = (t < T)[:, None] & (x < X)[None, :]
    return tl.load(pointer + t[:, None].to(tl.int64) * step + x[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def store_rows(pointer, values, t, T, x, X, step):
    mask = (t < T)[:, None] & (x < X)[None, :]
    place = pointer + t[:, None].to(tl.int64) * step + x[None, :]
    tl.store(place, values.to(pointer.dtype.element_ty), mask=mask)


@triton.jit
def _exp_where(exponent, keep):
    # masked before exp: a discarded exponent must not become inf
    return tl.exp(tl.where(keep, exponent.to(tl.float32), float("-inf")))


@triton.jit
def visible_pairs(opens, C: tl.constexpr):
    """Return the episode of every token of the chunk, and which tokens share one causally (C, C)."""
    i = tl.arange(0, C)
    segment = tl.sum(tl.where(i[:, None] >= i[None, :], opens[None, :], 0), 1)
    other = tl.sum(tl.where(i[:, None] <= i[None, :], opens[:, None], 0), 0)
    return segment, (segment[:, None] == other[None, :]) & (i[:, None] >= i[None, :])


@triton.jit
def scalar_decays(gates, opens, C: tl.constexpr):
    """Return episodes, visibility, weights (C, C); and those of the incoming, initial and outgoing state."""
    i = tl.arange(0, C)
    segment, visible = visible_pairs(opens, C)
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
def channel_decays(g, opens, t, T, x, X, step, C: tl.constexpr, BK: tl.constexpr):
    """As `scalar_decays` for a decay per channel: the sums (C, BK) float64 instead of weights, the others (C, BK)."""
    i = tl.arange(0, C)
    segment, visible = visible_pairs(opens, C)
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
def channel_weight(total, segment, j, C: tl.constexpr):
    """Return the decay from token j to every token (C, BK), 0 where j is not visible."""
    i = tl.arange(0, C)
    own = tl.sum(tl.where((i == j)[:, None], total, 0.0), 0)
    seen = (segment == tl.sum(tl.where(i == j, segment, 0), 0)) & (i >= j)
    return _exp_where(total - own[None, :], seen[:, None])


@triton.jit
def row(values, j, C: tl.constexpr):
    i = tl.arange(0, C)
    return tl.sum(tl.where((i == j)[:, None], values, 0.0), 0)


@triton.jit
def channel_products(q, k, total, segment, C: tl.constexpr):
    """Decayed products of queries and keys, (C, C)."""
    i = tl.arange(0, C)
    inner = tl.zeros((C, C), tl.float32)
    for j in range(0, C):
        column = tl.sum(q * row(k, j, C)[None, :] * channel_weight(total, segment, j, C), 1)
        inner = tl.where((i == j)[None, :], column[:, None], inner)
    return inner


@triton.jit
def unit_lower_inverse(A, C: tl.constexpr):
    """``(I + A)^-1`` of a strictly lower A by forward substitution."""
    i = tl.arange(0, C)
    inverse = tl.where(i[:, None] == i[None, :], 1.0, 0.0)
    for r in range(1, C):
        coefficients = tl.sum(tl.where((i == r)[:, None], A, 0.0), 0)
        mixed = tl.sum(tl.where(i[:, None] == i[None, :], coefficients[:, None], 0.0), 1)
        line = tl.sum(mixed[:, None] * inverse, 0)
        inverse = tl.where((i == r)[:, None], inverse - line[None, :], inverse)
    return inverse
