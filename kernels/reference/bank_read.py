"""Plain torch form of `ops.bank_read`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from embodied_mem.kernels.reference._keys import best

__all__ = ["backward", "forward", "read", "read_selected", "top"]


def read(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    length: Tensor,
    ts: Tensor | None,
    pe: Tensor | None,
    valid: Tensor | None,
    scale: float,
    tokens: int,
    *,
    finite: bool = False,
    with_lse: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """Differentiable form; shapes as in `ops.bank_read`."""
    kept = q.dtype
    if kept in (torch.float16, torch.bfloat16):
        q, k, v, pe = q.float(), k.float(), v.float(), None if pe is None else pe.float()
    visible, held = _visible(k.shape[1] // tokens, length, valid)
    # what lies in an empty slot may be anything, also NaN: its score is masked, but its gradient is a product with 0
    empty = None if finite else ~_per_token(held, tokens)
    learns = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad)
    scores = _scores(q, _by_head(k, empty if learns else None), ts, pe, held, scale, tokens)
    # the lowest finite score instead of -inf: a row with nothing visible then has weights, and its result is masked
    lowest = torch.finfo(scores.dtype).min
    scores = scores.masked_fill(~_per_token(visible, tokens).unsqueeze(1), lowest)
    some = visible.any(-1)
    out = _Read.apply(scores.softmax(-1), _by_head(v, empty)).transpose(1, 2)
    out = torch.where(some[..., None, None], out, 0).to(kept)
    if not with_lse:
        return out, None
    lse = torch.where(some.unsqueeze(1), scores.logsumexp(-1), -torch.inf)
    return out, lse.transpose(1, 2)


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    length: Tensor,
    ts: Tensor | None,
    pe: Tensor | None,
    valid: Tensor | None,
    scale: float,
    tokens: int,
) -> tuple[Tensor, Tensor]:
    """As `read`, for the registered operator: contiguous outputs."""
    out, lse = read(q, k, v, length, ts, pe, valid, scale, tokens)
    assert lse is not None
    return out.contiguous(), lse.to(torch.float64 if q.dtype == torch.float64 else torch.float32).contiguous()


def backward(
    d_out: Tensor,
    d_lse: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    length: Tensor,
    ts: Tensor | None,
    pe: Tensor | None,
    valid: Tensor | None,
    scale: float,
    tokens: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dq, dk and dv; with ``pe``, dk is also the gradient of the codes as the keys saw them."""
    kept = q.dtype
    wide = torch.float64 if kept == torch.float64 else torch.float32
    q, k, v, out, d_out, lse, d_lse = (z.to(wide) for z in (q, k, v, out, d_out, lse, d_lse))
    pe = None if pe is None else pe.to(wide)
    visible, held = _visible(k.shape[1] // tokens, length, valid)
    there = _per_token(held, tokens)[..., None, None]
    k, v = torch.where(there, k, 0), torch.where(there, v, 0)
    if pe is not None and ts is not None:
        k = k + pe[torch.where(held, ts, 0).long()].repeat_interleave(tokens, 1)
    seen = _per_token(visible, tokens).unsqueeze(1)
    scores = torch.einsum("bqhd,bmhd->bhqm", q, k) * scale
    by_row = lse.transpose(1, 2).unsqueeze(-1)
    weights = torch.where(seen & (by_row > -torch.inf), (scores - by_row.clamp_min(-3e38)).exp(), 0)
    delta = ((d_out * out).sum(-1) - d_lse).transpose(1, 2).unsqueeze(-1)
    ds = weights * (torch.einsum("bqhd,bmhd->bhqm", d_out, v) - delta) * scale
    dq = torch.einsum("bhqm,bmhd->bqhd", ds, k)
    dk = torch.einsum("bhqm,bqhd->bmhd", ds, q)
    dv = torch.einsum("bhqm,bqhd->bmhd", weights, d_out)
    return dq.to(kept).contiguous(), dk.to(kept if pe is None else wide).contiguous(), dv.to(kept).contiguous()


def top(
    q: Tensor,
    k: Tensor,
    length: Tensor,
    ts: Tensor | None,
    pe: Tensor | None,
    valid: Tensor | None,
    scale: float,
    tokens: int,
    topk: int,
) -> Tensor:
    """Return the best keys of every query and head, (B, Q, H, topk) int64, -1 where fewer are visible."""
    if q.dtype != torch.float64:
        q, k, pe = q.float(), k.float(), None if pe is None else pe.float()
    visible, held = _visible(k.shape[1] // tokens, length, valid)
    # an empty slot may hold NaN, but its score is masked
    scores = _scores(q, _by_head(k, None), ts, pe, held, scale, tokens)
    scores = scores.masked_fill(~_per_token(visible, tokens).unsqueeze(1), -torch.inf)
    return best(scores, topk)[1].transpose(1, 2).contiguous()


def read_selected(
    q: Tensor, k: Tensor, v: Tensor, index: Tensor, ts: Tensor | None, pe: Tensor | None, scale: float, tokens: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Attend to the selected keys alone, differentiably.

    Args:
        index: (B, Q, H, k) int64, -1 for none; the others as in `ops.bank_read`.

    Returns:
        out (B, Q, H, d), log-sum-exp (B, Q, H) and weights (B, Q, H, k).
    """
    kept = q.dtype
    there = index >= 0
    index = index.clamp(min=0)
    keys, values = _rows(k, index), _rows(v, index)
    if kept in (torch.float16, torch.bfloat16):
        q, keys, values, pe = q.float(), keys.float(), values.float(), None if pe is None else pe.float()
    keys, values = (torch.where(there.unsqueeze(-1), z, 0) for z in (keys, values))
    if pe is not None and ts is not None:
        B, Q, H, n = index.shape
        at = torch.where(there, ts.long().gather(1, (index // tokens).flatten(1)).view(B, Q, H, n), 0)
        keys = keys + pe[at, torch.arange(H, device=at.device).view(1, 1, H, 1)]
    scores = (keys @ q.unsqueeze(-1)).squeeze(-1) * scale
    scores = scores.masked_fill(~there, -torch.inf)
    shift = scores.detach().amax(-1, keepdim=True).clamp_min(torch.finfo(scores.dtype).min)
    weights = (scores - shift).exp()
    total = weights.sum(-1, keepdim=True)
    some = total > 0
    total = torch.where(some, total, 1)
    weights = weights / total
    out = (weights.unsqueeze(-2) @ values).squeeze(-2).to(kept)
    return out, torch.where(some, total.log() + shift, -torch.inf).squeeze(-1), weights


def _rows(bank: Tensor, index: Tensor) -> Tensor:
    """(B, K, H, d) at (B, Q, H, k) -> (B, Q, H, k, d)."""
    B, Q, H, n = index.shape
    flat = index.transpose(2, 3).reshape(B, Q * n, H, 1).expand(-1, -1, -1, bank.shape[-1])
    return bank.gather(1, flat).view(B, Q, n, H, -1).transpose(2, 3)


def _visible(slots: int, length: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return which slots a query sees (B, Q or 1, M), and which hold something (B, M)."""
    held = torch.arange(slots, device=length.device) < length.unsqueeze(1)
    visible = held.unsqueeze(1)
    return (visible if valid is None else visible & valid), held


def _per_token(flags: Tensor, tokens: int) -> Tensor:
    return flags if tokens == 1 else flags.unsqueeze(-1).expand(*flags.shape, tokens).flatten(-2)


def _by_head(bank: Tensor, empty: Tensor | None) -> Tensor:
    """(B, K, H, d) -> (B, H, K, d), the layout of a batched product, with 0 where ``empty`` (B, K)."""
    if empty is None:
        return bank.transpose(1, 2).contiguous()
    held: Tensor = _Held.apply(bank, empty)
    return held


class _Held(torch.autograd.Function):
    """Copy a bank by head with 0 in its empty slots; their gradient is a product with a weight of 0 already."""

    @staticmethod
    def forward(ctx: Any, bank: Tensor, empty: Tensor) -> Tensor:
        copy = bank.transpose(1, 2).clone(memory_format=torch.contiguous_format)
        # an "and" of bits takes several numbers at once, where filling by a mask takes one
        kind = {2: torch.int16, 4: torch.int32, 8: torch.int64}[copy.element_size()]
        copy.view(kind).bitwise_and_((empty.to(kind) - 1)[:, None, :, None])
        return copy

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.transpose(1, 2), None


class _Scored(torch.autograd.Function):
    """``q k^T``: (B, H, Q, d) and (B, H, K, d) -> (B, H, Q, K)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor) -> Tensor:
        ctx.save_for_backward(q, k)
        return q @ k.transpose(-1, -2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        q, k = ctx.saved_tensors
        return grad @ k if ctx.needs_input_grad[0] else None, _outer(grad, q) if ctx.needs_input_grad[1] else None


class _Read(torch.autograd.Function):
    """``w v``: (B, H, Q, K) and (B, H, K, d) -> (B, H, Q, d)."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(w, v)
        return w @ v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        w, v = ctx.saved_tensors
        to_w = grad @ v.transpose(-1, -2) if ctx.needs_input_grad[0] else None
        return to_w, _outer(w, grad) if ctx.needs_input_grad[1] else None


def _outer(x: Tensor, y: Tensor) -> Tensor:
    """``x^T y`` over queries, (B, H, Q, K) and (B, H, Q, d) -> (B, H, K, d)."""
    # with one query a product of matrices takes four times as long
    return x.transpose(-1, -2) * y if x.shape[-2] == 1 else x.transpose(-1, -2) @ y


def _scores(
    q: Tensor, k: Tensor, ts: Tensor | None, pe: Tensor | None, held: Tensor, scale: float, tokens: int
) -> Tensor:
    """Scores (B, H, Q, K) before any mask; k (B, H, K, d)."""
    asked = q.transpose(1, 2) * scale
    scores = _Scored.apply(asked, k)
    if pe is None or ts is None:
        return scores
    at = torch.where(held, ts, 0).long()
    if len(pe) <= 4 * at.shape[1]:
        # q . pe of all codes, of which every slot picks its own, instead of a copy of a code per slot
        B, H, Q, d = asked.shape
        by_code = asked.transpose(0, 1).reshape(H, B * Q, d) @ pe.permute(1, 2, 0)
        by_code = by_code.view(H, B, Q, -1).transpose(0, 1)
        codes = by_code.gather(-1, at[:, None, None].expand(B, H, Q, -1))
    else:
        codes = asked @ pe[at].transpose(1, 2).transpose(-1, -2)
    return (scores.unflatten(-1, (-1, tokens)) + codes.unsqueeze(-1)).flatten(-2)
