"""Chunk-parallel linear attention and gated delta rule with episode resets inside the sequence.

Per head, with q, k, v row vectors, log decay ``a_t <= 0`` and write strength ``b_t`` (kernels.md 3.5):

    S'  = where(reset_t, S_init, exp(a_t) S_{t-1})
    S_t = S' + k_t^T v_t                                without ``beta``: decayed linear attention
    S_t = S' + b_t k_t^T (v_t - k_t S')                 with ``beta``: gated delta rule
    o_t = q_t S_t

Inside a chunk the decay between two tokens is ``exp`` of a *masked* difference of gates summed within the episode, so a
reset costs a segment comparison and is exact: nothing is encoded as a large negative gate. The delta rule becomes one
unit lower triangular solve per chunk (WY form), and only the chunk-to-chunk carry is sequential.

With a decay per key channel (GLA) the products of queries and keys are weighted channel by channel, (C, C, K) exact
differences per chunk, so its chunks are at most 16 tokens; the factored form exp(G_t) exp(-G_s) overflows.

Limits: no delta rule with a decay per channel. All products run in the dtype of the inputs, so callers keep them in
float32 (triangular solves in bfloat16 are inaccurate).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = ["reset_linear_attention", "reset_linear_attention_at", "reset_linear_attention_step"]

# Tokens per chunk with a decay per channel, where a chunk holds (C, C, K) exponents.
_CHANNEL_CHUNK = 16


def reset_linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    beta: Tensor | None = None,
    *,
    reset: Tensor,
    S0: Tensor,
    S_init: Tensor | None = None,
    chunk: int = 32,
) -> tuple[Tensor, Tensor]:
    """Run the recurrence of the module docstring over whole sequences, ``chunk`` tokens at a time.

    Args:
        q, k: (B, T, H, K) queries and keys; with ``beta`` the keys must satisfy ``beta |k|^2 <= 2``.
        v: (B, T, H, V) values.
        log_decay: (B, T, H), or (B, T, H, K) without ``beta``; <= 0, any size: it is not applied where ``reset``.
        beta: (B, T, H) write strength of the delta rule, or None.
        reset: (B, T) bool, True where token t opens an episode.
        S0: (B, H, K, V) carried state.
        S_init: (H, K, V) state an episode starts from, None for zeros.
        chunk: tokens per chunk; the result does not depend on it.

    Returns:
        o (B, T, H, V) and the state after the last token (B, H, K, V).

    Raises:
        ValueError: ranks or shared axes disagree.
    """
    return _forward(q, k, v, log_decay, beta, reset, S0, S_init, chunk, None)[:2]


def reset_linear_attention_at(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    beta: Tensor | None = None,
    *,
    at: Tensor,
    reset: Tensor,
    S0: Tensor,
    S_init: Tensor | None = None,
    chunk: int = 32,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `reset_linear_attention` with a decay per head, returning the state after some tokens too.

    Args:
        at: (B, J) int64, 0 .. T - 1, the tokens after which the state is wanted.

    Returns:
        o (B, T, H, V), the state after the last token (B, H, K, V), and those after ``at`` (B, J, H, K, V).
    """
    if log_decay.dim() == 4:
        raise ValueError(
            "expected a decay per head, (B, T, H), to return states inside a sequence, got one per channel"
        )
    o, S, states = _forward(q, k, v, log_decay, beta, reset, S0, S_init, chunk, at)
    assert states is not None
    return o, S, states


def reset_linear_attention_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    beta: Tensor | None,
    S: Tensor,
    *,
    donate: bool = False,
) -> tuple[Tensor, Tensor]:
    """Advance the recurrence by one token; the caller has already replaced ``S`` in the rows that reset.

    Args:
        q, k: (B, H, K). v: (B, H, V). beta: (B, H) or None. S: (B, H, K, V).
        log_decay: (B, H), or (B, H, K) without ``beta``; 0 in the rows that reset.
        donate: write the new state into ``S``, which must be contiguous and need no gradient.

    Returns:
        o (B, H, V) and the new state (B, H, K, V).
    """
    n, H, K, V = S.shape
    decay = log_decay.exp().reshape(n * H, -1, 1)
    S, q, k, v = S.view(n * H, K, V), q.reshape(n * H, 1, K), k.reshape(n * H, 1, K), v.reshape(n * H, 1, V)
    if beta is not None:
        v = torch.addcmul(v, torch.bmm(k, S), decay, value=-1) * beta.reshape(n * H, 1, 1)
    # the product is ours alone, so the write may go into it
    S = (S.mul_(decay) if donate else S * decay).addcmul_(k.transpose(1, 2), v)
    return torch.bmm(q, S).view(n, H, V), S.view(n, H, K, V)


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


def _forward(
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
    _check(q, k, v, log_decay, beta, reset, S0)
    steps = q.shape[1]
    channels = log_decay.dim() == 4
    chunk = min(chunk, steps, _CHANNEL_CHUNK) if channels else min(chunk, steps)
    q, k, v = (_chunked(x, chunk) for x in (q, k, v))
    segment, reset = _segments(reset, chunk)
    if channels:
        log_decay = _chunked(log_decay, chunk)
        inner, enter, begin, leave = _channel_decays(q, k, log_decay, reset, segment, S_init is not None)
        return *_scan(q, k, v, None, None, inner, enter, begin, leave, S0, S_init, steps)[:2], None
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
    return o, S, None if at is None else _states_at(at, k, D, enter, begin, states, updates, S_init)


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


def _check(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor | None, reset: Tensor, S0: Tensor) -> None:
    if q.dim() != 4 or q.shape != k.shape or v.shape[:3] != q.shape[:3]:
        raise ValueError(
            f"expected q, k (B, T, H, K) and v (B, T, H, V), got {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}"
        )
    B, T, H, K = q.shape
    for name, found, want in (
        ("log_decay", log_decay.shape, (B, T, H, K) if log_decay.dim() == 4 and beta is None else (B, T, H)),
        ("beta", (B, T, H) if beta is None else beta.shape, (B, T, H)),
        ("reset", reset.shape, (B, T)),
        ("S0", S0.shape, (B, H, K, v.shape[-1])),
    ):
        if tuple(found) != want:
            raise ValueError(f"expected {name} of shape {want}, got {tuple(found)}")


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
