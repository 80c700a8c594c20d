"""Plain torch form of `ops.titans_step`, with its gradient written out.

Only what depends on the weights of a chunk's start runs chunk by chunk: the errors, the writes and the next start.
Reads and everything that the gradient needs besides run for all chunks at once, as few large batched products: the
read of a chunk is one product, ``[kappa_0 q, kappa_1 q, kappa (q k^T)] [W; Z; u]``, and weights, momenta and writes lie
in one buffer for it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["backward", "forward", "run"]


class _Saved(NamedTuple):
    """What the backward pass needs."""

    held: Tensor
    """(M H, 2 K + C, V): W, Z at the start of every chunk, and its writes u."""
    error: Tensor
    """(M, H, C, V) prediction minus value."""
    bound: Tensor | None
    """(M, H, C, 1) what the clip scales the gradient by; None without."""
    scale: Tensor
    """(M, H, C, 1) the factor of the error in u."""
    asks: Tensor
    """(M H, C, 2 K + C) left factor of the reads."""
    scores: Tensor
    """(M, H, C, C) q k^T."""
    leaves: Tensor
    """(M H, C, 2 K) keys by their weight in the next W and in the next Z."""


def run(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    theta: Tensor,
    kappa: Tensor,
    mu: Tensor,
    start: Tensor,
    offsets: Tensor,
    held: Tensor | None,
    u_held: Tensor | None,
    clip: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Differentiable form; shapes as in `ops.titans_step`."""
    given = _widened(q, k, v, theta, kappa, mu, start, u_held)
    outputs = _Steps.apply(*given[:7], offsets, held, given[7], clip)
    kinds = (v.dtype, v.dtype, start.dtype, start.dtype)
    o, u, last, final = (x.to(kind) for x, kind in zip(outputs, kinds, strict=True))
    return o, u, last, final


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    theta: Tensor,
    kappa: Tensor,
    mu: Tensor,
    start: Tensor,
    offsets: Tensor,
    held: Tensor | None,
    u_held: Tensor | None,
    clip: float,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """As `run`, for the registered operator: contiguous outputs; with ``save`` also W, Z, errors of all chunks."""
    kinds = (v.dtype, v.dtype, start.dtype, start.dtype)
    q, k, v, theta, kappa, mu, start, u_held = _widened(q, k, v, theta, kappa, mu, start, u_held)
    o, u, last, final, kept = _forward(q, k, v, theta, kappa, mu, start, offsets.tolist(), held, u_held, clip)
    K = q.shape[-1]
    held_rows = kept.held.view(*k.shape[:2], -1, v.shape[-1])
    states = held_rows.new_empty((0, *held_rows.shape[1:]), dtype=torch.float32)
    if save:
        states = torch.cat([held_rows[:, :, : 2 * K], kept.error], 2).float()
    o, u, last, final = (x.to(kind).contiguous() for x, kind in zip((o, u, last, final), kinds, strict=True))
    return o, u.clone(), last, final, states


def backward(
    d_o: Tensor,
    d_u: Tensor,
    d_last: Tensor,
    d_final: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    theta: Tensor,
    kappa: Tensor,
    mu: Tensor,
    start: Tensor,
    offsets: Tensor,
    held: Tensor | None,
    u_held: Tensor | None,
    clip: float,
) -> tuple[Tensor, ...]:
    """Gradients of q, k, v, theta, kappa, mu, start and u_held (empty without), for the registered operator."""
    given = (q, k, v, theta, kappa, mu, start, u_held)
    q, k, v, theta, kappa, mu, start, u_held = _widened(*given)
    places = offsets.tolist()
    *_, kept = _forward(q, k, v, theta, kappa, mu, start, places, held, u_held, clip)
    d_o, d_u, d_last, d_final = (x.to(q.dtype) for x in (d_o, d_u, d_last, d_final))
    found = _backward(d_o, d_u, d_last, d_final, q, k, theta, kappa, mu, places, held, clip, kept)
    empty = q.new_empty(0)
    return tuple(empty if g is None or z is None else g.to(z.dtype).contiguous() for g, z in zip(found, given))


class _Steps(torch.autograd.Function):
    """Forward and backward of this file."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        theta: Tensor,
        kappa: Tensor,
        mu: Tensor,
        start: Tensor,
        offsets: Tensor,
        held: Tensor | None,
        u_held: Tensor | None,
        clip: float,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Run the chunks."""
        places = offsets.tolist()
        o, u, last, final, kept = _forward(q, k, v, theta, kappa, mu, start, places, held, u_held, clip)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(q, k, theta, kappa, mu, held, *kept)
            ctx.places, ctx.clip = places, clip
        ctx.set_materialize_grads(False)
        return o, u, last, final

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_o: Tensor | None, d_u: Tensor | None, d_last: Tensor | None, d_final: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Run them backwards."""
        q, k, theta, kappa, mu, held, *kept = ctx.saved_tensors
        saved = _Saved(*kept)
        found = _backward(d_o, d_u, d_last, d_final, q, k, theta, kappa, mu, ctx.places, held, ctx.clip, saved)
        return (*found[:7], None, None, found[7], None)


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    theta: Tensor,
    kappa: Tensor,
    mu: Tensor,
    start: Tensor,
    places: list[int],
    held: Tensor | None,
    u_held: Tensor | None,
    clip: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, _Saved]:
    (M, H, C, K), V = k.shape, v.shape[-1]
    k, v = k.contiguous(), v.contiguous()
    flat_k, flat_v = k.view(M * H, C, K), v.view(M * H, C, V)
    rows = start.new_empty(M * H, 2 * K + C, V)
    by_chunk = rows.view(M, H, 2 * K + C, V)
    leaves = start.new_empty(M * H, C, 2 * K)
    by_kind = leaves.view(M, H, C, 2, K)
    torch.mul(k, kappa[:, :, -1, 2:].unsqueeze(-1), out=by_kind[..., 0, :])
    torch.mul(k, mu[..., 1:].unsqueeze(-1), out=by_kind[..., 1, :])
    keep, stir, carry = _ends(kappa, mu)
    scale = start.new_empty(M, H, C, 1)
    bound = None if clip == torch.inf else torch.empty_like(scale)
    error = torch.empty_like(v)
    last, final = torch.empty_like(start), torch.empty_like(start)
    step = theta.unsqueeze(-1) * -2
    now = start
    for j, (a, b) in enumerate(zip(places, places[1:], strict=False)):
        n, on = b - a, (places[j + 2] - b if j + 2 < len(places) else 0)
        part = slice(a * H, b * H)
        by_chunk[a:b, :, : 2 * K] = now[:n]
        weight, momentum = rows[part, :K], rows[part, K : 2 * K]
        torch.baddbmm(flat_v[part], flat_k[part], weight, beta=-1, out=error.view(M * H, C, V)[part])
        e = error[a:b]
        if bound is None:
            scale[a:b] = step[a:b]
        else:
            square = e.square().sum(-1, keepdim=True)
            torch.rsqrt(square.mul_(4 / clip**2).add_(1), out=bound[a:b])
            torch.mul(step[a:b], bound[a:b], out=scale[a:b])
        u = torch.mul(e, scale[a:b], out=by_chunk[a:b, :, 2 * K :])
        if j == 0 and held is not None and u_held is not None:
            u.copy_(torch.where(held.view(n, 1, C, 1), u_held, u))
        formed = torch.bmm(leaves[part].transpose(1, 2), rows[part, 2 * K :])
        formed[:, :K].addcmul_(weight, keep[part]).addcmul_(momentum, stir[part])
        formed[:, K:].addcmul_(momentum, carry[part])
        now = formed.view(n, H, 2 * K, V)
        if on < n:
            last[on:n] = by_chunk[a + on : b, :, : 2 * K]
            final[on:n] = now[on:]
    asks, scores = _asks(q, k, kappa)
    o = torch.bmm(asks, rows).view(M, H, C, V)
    saved = _Saved(rows, error, bound, scale, asks, scores, leaves)
    return o, by_chunk[:, :, 2 * K :], last, final, saved


def _backward(
    d_o: Tensor | None,
    d_u: Tensor | None,
    d_last: Tensor | None,
    d_final: Tensor | None,
    q: Tensor,
    k: Tensor,
    theta: Tensor,
    kappa: Tensor,
    mu: Tensor,
    places: list[int],
    held: Tensor | None,
    clip: float,
    saved: _Saved,
) -> tuple[Tensor | None, ...]:
    (M, H, C, K), V = k.shape, saved.error.shape[-1]
    rows, error, bound, scale = saved.held, saved.error, saved.bound, saved.scale
    d_asks = d_rows = None
    if d_o is not None:
        flat = d_o.reshape(M * H, C, V)
        d_rows = torch.bmm(saved.asks.transpose(1, 2), flat)
        d_asks = torch.bmm(flat, rows.transpose(1, 2)).view(M, H, C, -1)
    if d_rows is None:
        d_rows = torch.zeros_like(rows)
    by_chunk = d_rows.view(M, H, 2 * K + C, V)
    if d_u is not None:
        by_chunk[:, :, 2 * K :] += d_u
    keep, stir, carry = _ends(kappa, mu)
    flat_k, flat_e = k.reshape(M * H, C, K), error.view(M * H, C, V)
    beyond, d_error = rows.new_empty(M * H, 2 * K, V), torch.empty_like(error)
    along, d_held = torch.empty_like(scale), None
    for j in range(len(places) - 2, -1, -1):
        a, b = places[j], places[j + 1]
        n, on = b - a, (places[j + 2] - b if j + 2 < len(places) else 0)
        part = slice(a * H, b * H)
        # the gradient of what the chunk formed: of the next start, or of the final state
        G = beyond[part]
        if on:
            beyond[a * H : (a + on) * H] = d_rows[b * H : (b + on) * H, : 2 * K]
        if on < n:
            ended = beyond[(a + on) * H : b * H]
            if d_final is None:
                ended.zero_()
            else:
                ended.copy_(d_final[on:n].reshape(-1, 2 * K, V))
            if d_last is not None:
                by_chunk[a + on : b, :, : 2 * K] += d_last[on:n]
        du = torch.baddbmm(d_rows[part, 2 * K :], saved.leaves[part], G)
        if j == 0 and held is not None:
            mask, whole = held.view(n, 1, C, 1), du.view(n, H, C, V)
            d_held = torch.where(mask, whole, 0)
            du = torch.where(mask, 0, whole).view(n * H, C, V)
        dot = (du * flat_e[part]).sum(-1).view(n, H, C, 1)
        along[a:b] = dot
        out = d_error[a:b]
        if bound is None:
            torch.mul(du.view(n, H, C, V), scale[a:b], out=out)
        else:
            dot = dot.mul_(bound[a:b]).mul_(bound[a:b]).mul_(-4 / clip**2)
            torch.addcmul(du.view(n, H, C, V), error[a:b], dot, out=out).mul_(scale[a:b])
        d_weight, d_momentum = d_rows[part, :K], d_rows[part, K : 2 * K]
        # added afterwards: a product into a slice would run matrix by matrix
        moved = torch.bmm(flat_k[part].transpose(1, 2), out.view(n * H, C, V))
        d_weight.addcmul_(G[:, :K], keep[part]).add_(moved)
        d_momentum.addcmul_(G[:, :K], stir[part]).addcmul_(G[:, K:], carry[part])
    d_start = by_chunk[: places[1], :, : 2 * K].clone()
    d_theta = along.mul_(-2) if bound is None else along.mul_(bound).mul_(-2)

    # the rest for all chunks at once
    d_kappa, d_mu = torch.zeros_like(kappa), torch.empty_like(mu)
    pulled = torch.bmm(rows[:, 2 * K :], beyond.transpose(1, 2)).view(M, H, C, 2, K)
    weights = torch.stack([kappa[:, :, -1, 2:], mu[..., 1:]], -1)
    d_weights = (pulled * k.unsqueeze(3)).sum(-1)
    d_k = torch.bmm(d_error.view(M * H, C, V), rows[:, :K].transpose(1, 2)).view(M, H, C, K)
    d_k.add_(pulled.mul_(weights.unsqueeze(-1)).sum(3))
    d_q = None
    if d_asks is not None:
        by_kind = d_asks[..., : 2 * K].unflatten(-1, (2, K))
        d_kappa[..., :2] = (by_kind * q.unsqueeze(3)).sum(-1)
        torch.mul(d_asks[..., 2 * K :], saved.scores, out=d_kappa[..., 2:])
        d_scores = (d_asks[..., 2 * K :] * kappa[..., 2:]).view(M * H, C, C)
        d_q = torch.bmm(d_scores, flat_k).view(M, H, C, K)
        d_q.addcmul_(by_kind[..., 0, :], kappa[..., :1]).addcmul_(by_kind[..., 1, :], kappa[..., 1:2])
        d_k.view(M * H, C, K).baddbmm_(d_scores.transpose(1, 2), q.reshape(M * H, C, K))
    d_kappa[:, :, -1, 2:] += d_weights[..., 0]
    d_mu[..., 1:] = d_weights[..., 1]
    # inner products of weights with the gradients of what was formed
    d_kappa[:, :, -1, 0] += _inner(beyond[:, :K], rows[:, :K]).view(M, H)
    d_kappa[:, :, -1, 1] += _inner(beyond[:, :K], rows[:, K : 2 * K]).view(M, H)
    d_mu[..., 0] = _inner(beyond[:, K:], rows[:, K : 2 * K]).view(M, H)
    return d_q, d_k, d_error.neg_(), d_theta.squeeze(-1), d_kappa, d_mu, d_start, d_held


def _asks(q: Tensor, k: Tensor, kappa: Tensor) -> tuple[Tensor, Tensor]:
    """Return the left factor of the reads (M H, C, 2 K + C), and q k^T (M, H, C, C)."""
    M, H, C, K = k.shape
    asks = q.new_empty(M, H, C, 2 * K + C)
    scores = torch.bmm(q.reshape(M * H, C, K), k.view(M * H, C, K).transpose(1, 2)).view(M, H, C, C)
    torch.mul(q, kappa[..., :1], out=asks[..., :K])
    torch.mul(q, kappa[..., 1:2], out=asks[..., K : 2 * K])
    torch.mul(scores, kappa[..., 2:], out=asks[..., 2 * K :])
    return asks.view(M * H, C, 2 * K + C), scores


def _ends(kappa: Tensor, mu: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (M H, 1, 1) of W in the next W, of Z in it, and of Z in the next Z."""
    return tuple(x.reshape(-1, 1, 1) for x in (kappa[:, :, -1, 0], kappa[:, :, -1, 1], mu[..., 0]))  # type: ignore[return-value]


def _inner(x: Tensor, y: Tensor) -> Tensor:
    """Inner products of matrices (N, K, V) twice -> (N,)."""
    return (x * y).sum((1, 2))


def _widened(*tensors: Tensor | None) -> list[Any]:
    return [z.float() if z is not None and z.dtype in (torch.float16, torch.bfloat16) else z for z in tensors]
