"""Plain torch form of `ops.reset_linear_attention`: chunks in parallel, the state carried between them.

Inside a chunk the decay between two tokens is ``exp`` of a *masked* difference of gates summed within the episode, so a
reset costs a segment comparison and is exact: nothing is encoded as a large negative gate. The delta rule becomes one
unit lower triangular solve per chunk (WY form), and only the chunk-to-chunk carry is sequential.

With a decay per key channel (GLA) the products of queries and keys are weighted channel by channel, (C, C, K) exact
differences per chunk, so its chunks are at most 16 tokens; the factored form exp(G_t) exp(-G_s) overflows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = ["backward", "forward", "run", "run_at"]

# Tokens per chunk with a decay per channel, where a chunk holds (C, C, K) exponents.
_CHANNEL_CHUNK = 16


def run(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    beta: Tensor | None,
    reset: Tensor,
    S0: Tensor,
    S_init: Tensor | None,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """Differentiable form; shapes as in `ops.reset_linear_attention`."""
    return run_at(q, k, v, log_decay, beta, reset, S0, S_init, chunk, None)[:2]


def run_at(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    beta: Tensor | None,
    reset: Tensor,
    S0: Tensor,
    S_init: Tensor | None,
    chunk: int,
    at: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """As `run`, with the states after tokens ``at`` (B, J) as third, (B, J, H, K, V); a decay per head only."""
    kept, held = v.dtype, S0.dtype
    q, k, v, log_decay, beta, S0, S_init = _widened(q, k, v, log_decay, beta, S0, S_init)
    # looked at where that costs nothing: the products with 0 below would carry a NaN of a state into the next episode
    broken = None
    if S0.device.type == "cpu" and not torch.compiler.is_compiling() and not bool(S0.isfinite().all()):
        broken = ~S0.flatten(1).isfinite().all(1, keepdim=True) & (reset.cumsum(1) == 0)
        S0 = S0.masked_fill(broken.any(1)[:, None, None, None], 0)
    o, S, updates, inside = _parts(q, k, v, log_decay, beta, reset, S0, S_init, chunk)
    if broken is not None:
        o = o.masked_fill(broken[..., None, None], torch.nan)
        S = S.masked_fill(broken[:, -1, None, None, None], torch.nan)
    states = None if at is None or inside is None else _states_at(at, *inside, updates, S_init).to(held)
    return o.to(kept), S.to(held), states


def _parts(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    beta: Tensor | None,
    reset: Tensor,
    S0: Tensor,
    S_init: Tensor | None,
    chunk: int,
) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor] | None]:
    """As `run`, with what tokens wrote (N, B, H, C, V) and what `_states_at` needs (None with a decay per channel)."""
    steps = q.shape[1]
    # a state that the first token hides may be NaN, which the products with 0 below would carry on
    S0 = S0.masked_fill(reset[:, :1, None, None], 0)
    channels = log_decay.dim() == 4
    chunk = min(chunk, steps, _CHANNEL_CHUNK) if channels else min(chunk, steps)
    q, k, v = (_chunked(x, chunk) for x in (q, k, v))
    segment, reset = _segments(reset, chunk)
    if channels:
        log_decay = _chunked(log_decay, chunk)
        inner, enter, begin, leave = _channel_decays(q, k, log_decay, reset, segment, S_init is not None)
        o, S, _, updates = _scan(q, k, v, None, None, inner, enter, begin, leave, S0, S_init, steps)
        return o, S, updates, None
    log_decay = _chunked(log_decay.unsqueeze(-1), chunk).squeeze(-1)
    D, enter, begin, leave = _decays(log_decay, reset, segment, S_init is not None)
    inner = (q @ k.transpose(-1, -2)) * D
    if beta is None:
        U, W, W_init = v, None, None
    else:
        b = _chunked(beta.unsqueeze(-1), chunk)
        solve = UnitLowerInverse.apply(((k @ k.transpose(-1, -2)) * (D * b)).tril(-1)) * b.transpose(-1, -2)
        U, W = solve @ v, solve @ (enter * k)
        W_init = None if begin is None else solve @ (begin * k)
    o, S, states, updates = _scan(q, k, U, W, W_init, inner, enter, begin, leave, S0, S_init, steps)
    return o, S, updates, (k, D, enter, begin, states)


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    beta: Tensor | None,
    reset: Tensor,
    S0: Tensor,
    S_init: Tensor | None,
    save: bool,
    chunk: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `run`, for the registered operator: contiguous o, final state, states at the starts of chunks, and writes."""
    kept, held = v.dtype, S0.dtype
    q, k, v, log_decay, beta, S0, S_init = _widened(q, k, v, log_decay, beta, S0, S_init)
    starts, outputs, written, S = [], [], [], S0
    for first in range(0, q.shape[1], chunk):
        starts.append(S)
        at = slice(first, first + chunk)
        strength = None if beta is None else beta[:, at]
        o, S, u = _parts(q[:, at], k[:, at], v[:, at], log_decay[:, at], strength, reset[:, at], S, S_init, chunk)[:3]
        outputs.append(o)
        written.append(u[0].transpose(1, 2))
    states = torch.stack(starts, 2).float() if save else S0.new_empty(*S0.shape[:2], 0, *S0.shape[2:]).float()
    writes = states.new_empty(len(v), 0, *v.shape[2:])
    if save and beta is not None:
        writes = torch.cat(written, 1).float()
    return torch.cat(outputs, 1).to(kept), S.to(held).clone(), states, writes


def backward(
    d_o: Tensor,
    d_final: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    beta: Tensor | None,
    reset: Tensor,
    S0: Tensor,
    S_init: Tensor | None,
) -> tuple[Tensor, ...]:
    """Gradients by the recurrence itself, backwards; slow, for the registered operator on the CPU.

    Returns:
        dq, dk, dv, d_log_decay, d_beta (empty without), dS0 and dS_init (empty without).
    """
    given = (q, k, v, log_decay, beta, S0, S_init)
    q, k, v, log_decay, beta, S0, S_init = _widened(*given)
    d_o, dS = d_o.to(q.dtype), d_final.to(q.dtype)
    decay = log_decay.exp()
    decay = decay.unsqueeze(-1) if decay.dim() == 4 else decay[..., None, None]
    T, opened = q.shape[1], torch.zeros_like(S0) if S_init is None else S_init.expand_as(S0)
    before, S = [], S0
    for t in range(T):
        open_t = reset[:, t, None, None, None]
        before.append(S)
        S = torch.where(open_t, opened, decay[:, t] * S)
        S = S + k[:, t].unsqueeze(-1) * _written(k, v, beta, S, t).unsqueeze(-2)
    dq, dk, dv, dg = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), torch.empty_like(log_decay)
    d_beta = None if beta is None else torch.empty_like(beta)
    d_opened = torch.zeros_like(S0)
    for t in range(T - 1, -1, -1):
        open_t = reset[:, t, None, None, None]
        faded = torch.where(open_t, opened, decay[:, t] * before[t])
        u = _written(k, v, beta, faded, t)
        after = faded + k[:, t].unsqueeze(-1) * u.unsqueeze(-2)
        dq[:, t] = (after @ d_o[:, t].unsqueeze(-1)).squeeze(-1)
        dS = dS + q[:, t].unsqueeze(-1) * d_o[:, t].unsqueeze(-2)
        du = (k[:, t].unsqueeze(-2) @ dS).squeeze(-2)
        dk[:, t] = (dS @ u.unsqueeze(-1)).squeeze(-1)
        dv[:, t] = du
        if beta is not None and d_beta is not None:
            missing = v[:, t] - (k[:, t].unsqueeze(-2) @ faded).squeeze(-2)
            d_beta[:, t] = (du * missing).sum(-1)
            dv[:, t] = du * beta[:, t].unsqueeze(-1)
            dk[:, t] -= (faded @ dv[:, t].unsqueeze(-1)).squeeze(-1)
            dS = dS - k[:, t].unsqueeze(-1) * dv[:, t].unsqueeze(-2)
        d_opened = d_opened + torch.where(open_t, dS, 0)
        dS = torch.where(open_t, 0, dS)
        change = dS * decay[:, t] * before[t]
        change = torch.where(open_t, 0, change).sum(-1)
        dg[:, t] = change if log_decay.dim() == 4 else change.sum(-1)
        dS = dS * decay[:, t]
    found = [dq, dk, dv, dg, q.new_empty(0) if d_beta is None else d_beta, dS]
    found.append(q.new_empty(0) if S_init is None else d_opened.sum(0))
    return tuple(z.to(g.dtype if g is not None else given[0].dtype).contiguous() for z, g in zip(found, given))


def _widened(*tensors: Tensor | None) -> list[Any]:
    return [z.float() if z is not None and z.dtype in (torch.float16, torch.bfloat16) else z for z in tensors]


def _written(k: Tensor, v: Tensor, beta: Tensor | None, S: Tensor, t: int) -> Tensor:
    """What token t adds along its key, (B, H, V)."""
    if beta is None:
        return v[:, t]
    return beta[:, t].unsqueeze(-1) * (v[:, t] - (k[:, t].unsqueeze(-2) @ S).squeeze(-2))


class UnitLowerInverse(torch.autograd.Function):
    """``(I + A)^-1`` for strictly lower A (..., C, C); the gradient needs two products instead of a second solve."""

    @staticmethod
    def forward(ctx: Any, A: Tensor) -> Tensor:
        """Return the inverse, (..., C, C)."""
        eye = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device).expand_as(A)
        inverse = torch.linalg.solve_triangular(A, eye, upper=False, unitriangular=True)
        ctx.save_for_backward(inverse)
        return inverse

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """Return ``-Y^T grad Y^T`` for the inverse Y."""
        transposed = ctx.saved_tensors[0].transpose(-1, -2)
        return (transposed @ grad @ transposed).neg_()


class PairDecay(torch.autograd.Function):
    """``exp(G_t - G_s)`` where ``visible``, else 0, (..., C, C); the gradient is row sums minus column sums."""

    @staticmethod
    def forward(ctx: Any, G: Tensor, visible: Tensor, dtype: torch.dtype) -> Tensor:
        """G (..., C) float64, visible (..., C, C) -> decays in ``dtype``."""
        D = _masked_exp(G.unsqueeze(-1) - G.unsqueeze(-2), visible, dtype)
        ctx.save_for_backward(D)
        return D

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of G, float64."""
        pull = grad * ctx.saved_tensors[0]
        return pull.sum(-1).sub_(pull.sum(-2)).to(torch.float64), None, None


def _chunked(x: Tensor, chunk: int) -> Tensor:
    """(B, T, H, d) -> contiguous (N, B, H, C, d), the tail padded with zeros (which write, decay and reset nothing)."""
    B, T, H, d = x.shape
    tail = -T % chunk
    if tail:
        x = F.pad(x, (0, 0, 0, 0, 0, tail))
    return x.view(B, -1, chunk, H, d).permute(1, 0, 3, 2, 4).contiguous()


def _segments(reset: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """(B, T) -> number of resets up to each token of its chunk, and the flags, both (N, B, 1, C)."""
    reset = F.pad(reset, (0, -reset.shape[1] % chunk))
    reset = reset.view(reset.shape[0], -1, chunk).transpose(0, 1).unsqueeze(2)
    return reset.cumsum(-1), reset


def _decays(
    log_decay: Tensor, reset: Tensor, segment: Tensor, with_init: bool
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Weights of a chunk, all zero across a reset.

    Returns token s in the read of token t (N, B, H, C, C); and, each (N, B, H, C, 1): the incoming state at t, the
    initial state at t (None without one), token s in the outgoing state.
    """
    dtype, chunk = log_decay.dtype, log_decay.shape[-1]
    causal = torch.ones(chunk, chunk, dtype=torch.bool, device=log_decay.device).tril()
    visible = (segment.unsqueeze(-1) == segment.unsqueeze(-2)) & causal
    # A product, not a cumsum: it starts again at a reset, so no gradient runs back over one. In float64, because a
    # strong gate anywhere in the episode must not cancel the small differences after it.
    gates = log_decay.masked_fill(reset, 0).to(torch.float64)
    G = gates @ visible.squeeze(2).to(torch.float64).transpose(-1, -2)
    D = PairDecay.apply(G, visible, dtype)
    enter = _masked_exp(G, segment == 0, dtype).unsqueeze(-1)
    leave = _masked_exp(G[..., -1:] - G, segment == segment[..., -1:], dtype).unsqueeze(-1)
    begin = _masked_exp(G, segment > 0, dtype).unsqueeze(-1) if with_init else None
    return D, enter, begin, leave


def _channel_decays(
    q: Tensor, k: Tensor, log_decay: Tensor, reset: Tensor, segment: Tensor, with_init: bool
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """As `_decays` with a decay per channel, but the first is the decayed products of queries and keys (N, B, H, C, C).

    The others are (N, B, H, C, K).
    """
    dtype, chunk = log_decay.dtype, log_decay.shape[-2]
    causal = torch.ones(chunk, chunk, dtype=torch.bool, device=log_decay.device).tril()
    visible = (segment.unsqueeze(-1) == segment.unsqueeze(-2)) & causal
    G = visible.to(torch.float64) @ log_decay.masked_fill(reset.unsqueeze(-1), 0).to(torch.float64)
    weight = _masked_exp(G.unsqueeze(-2) - G.unsqueeze(-3), visible.unsqueeze(-1), dtype)
    inner = (q.unsqueeze(-2) * weight * k.unsqueeze(-3)).sum(-1)
    segment = segment.unsqueeze(-1)
    enter = _masked_exp(G, segment == 0, dtype)
    leave = _masked_exp(G[..., -1:, :] - G, segment == segment[..., -1:, :], dtype)
    begin = _masked_exp(G, segment > 0, dtype) if with_init else None
    return inner, enter, begin, leave


def _masked_exp(exponent: Tensor, keep: Tensor, dtype: torch.dtype) -> Tensor:
    """``exp`` where ``keep``, else 0; masked before ``exp`` so that a discarded exponent cannot become inf * 0."""
    return exponent.to(dtype).masked_fill(~keep, -torch.inf).exp()


def _states_at(
    at: Tensor,
    k: Tensor,
    D: Tensor,
    enter: Tensor,
    begin: Tensor | None,
    states: Tensor,
    updates: Tensor,
    S_init: Tensor | None,
) -> Tensor:
    """The state after tokens ``at`` (B, J), from what entered their chunks and what was written since."""
    chunk = D.shape[-1]
    place = (at // chunk, torch.arange(len(at), device=at.device).unsqueeze(1))
    token = (*place, at % chunk)
    weight = D.transpose(2, 3)[token].unsqueeze(-1)
    kept = enter.transpose(2, 3)[token].unsqueeze(-1)
    S = kept * states[place] + (k[place] * weight).transpose(-1, -2) @ updates[place]
    if begin is not None and S_init is not None:
        S = S + begin.transpose(2, 3)[token].unsqueeze(-1) * S_init
    return S


def _scan(
    q: Tensor,
    k: Tensor,
    U: Tensor,
    W: Tensor | None,
    W_init: Tensor | None,
    inner: Tensor,
    enter: Tensor,
    begin: Tensor | None,
    leave: Tensor,
    S0: Tensor,
    S_init: Tensor | None,
    steps: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Carry the state over chunks, then read every chunk at once.

    Returns o, the last state, the states that entered the chunks (N, B, H, K, V) and what tokens wrote (N, B, H, C, V).
    """
    if W_init is not None and S_init is not None:
        U = U - W_init @ S_init
    # unbind, not indexing: the backward of an index fills a whole zero tensor per chunk
    writers = (k * leave).transpose(-1, -2).unbind()
    keep = enter[..., -1, :].unsqueeze(-1).unbind()
    starts = None if begin is None else begin[..., -1, :].unsqueeze(-1).unbind()
    U_n, W_n = U.unbind(), None if W is None else W.unbind()
    S, states, updates = S0, [], []
    for n in range(len(keep)):
        states.append(S)
        u = U_n[n] if W_n is None else U_n[n] - W_n[n] @ S
        updates.append(u)
        S = keep[n] * S + writers[n] @ u
        if starts is not None and S_init is not None:
            S = S + starts[n] * S_init
    entered, written = torch.stack(states), torch.stack(updates)
    o = (enter * q) @ entered + inner @ written
    if S_init is not None and begin is not None:
        o = o + (begin * q) @ S_init
    N, B, H, C, V = o.shape
    return o.permute(1, 0, 3, 2, 4).reshape(B, N * C, H, V)[:, :steps], S, entered, written
