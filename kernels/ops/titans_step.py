"""Titans over chunks: a matrix per head that learns by gradient descent with momentum and forgetting.

At the weights W of a chunk's start, for its tokens s (row vectors; the gradient g is softly bounded by ``clip``):

    g_s = 2 (k_s W - v_s),   u_s = - theta_s g_s / sqrt(1 + |g_s|^2 / clip^2)
    Z_t = eta_t Z_{t-1} + k_t^T u_t,   W_t = (1 - alpha_t) W_{t-1} + Z_t,   o_t = q_t W_t

Both recurrences are linear in what the chunk starts with, so no W_t is formed (Behrouz, Zhong, Mirrokni 2024):

    o_t = kappa_t0 q_t W + kappa_t1 q_t Z + sum_{s <= t} kappa_ts (q_t k_s^T) u_s
    next W = the same with k^T u for t = C,   next Z = mu_0 Z + sum_s mu_s k_s^T u_s

The coefficients follow from the gates: with ``a_ts`` the product of (1 - alpha) and ``m_ts`` that of eta over
s < r <= t, ``kappa_t0 = a_t0``, ``kappa_ts = sum_r a_tr m_rs``, ``mu_s = m_Cs``. They are inputs, so that a caller may
start inside a chunk.

Chunks of one episode form a chain and chains run in parallel, longest first: chunk j of all chains that have one lies
at ``offsets[j] .. offsets[j + 1]``, and chain e is its row e. A reset is a new chain, so no reset is left to look at.

Limits: products run in the dtype of the inputs, half types in float32. The kernel takes chunks of up to 64 tokens, in
float32 of up to 32; matrices of more than 64 x 64 (float32: 32 x 32) do not fit its registers and pass through memory.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from embodied_mem.kernels._dispatch import backend_for, inline, run_triton, unsupported_dtype
from embodied_mem.kernels.reference import titans_step as reference

__all__ = ["TitansSteps", "titans_step"]


class TitansSteps(NamedTuple):
    """What `titans_step` returns."""

    o: Tensor
    """(M, H, C, V) what was read, dtype of v."""
    u: Tensor
    """(M, H, C, V) right factor of every write, ``k^T u``."""
    last: Tensor
    """(E, H, 2 K, V) W over Z at the start of the last chunk of every chain."""
    final: Tensor
    """(E, H, 2 K, V) the same after that chunk."""


def titans_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    theta: Tensor,
    kappa: Tensor,
    mu: Tensor,
    start: Tensor,
    *,
    offsets: Tensor,
    held: Tensor | None = None,
    u_held: Tensor | None = None,
    clip: float = math.inf,
) -> TitansSteps:
    """Run M chunks of E chains.

    Args:
        q, k: (M, H, C, K) queries and keys, 0 where a slot has no token.
        v: (M, H, C, V) values.
        theta: (M, H, C) step sizes, 0 where a slot has no token.
        kappa: (M, H, C, 2 + C) coefficients of W, Z and the writes in the weights of every token; 0 above the diagonal.
        mu: (M, H, 1 + C) coefficients of Z and the writes in the momentum after the chunk.
        start: (E, H, 2 K, V) W over Z that the chains start with.
        offsets: (J + 1,) int64, where chunk j of all chains begins; from 0 to M, the first step is E.
        held: (E, C) bool, slots of the first chunks whose write is given, not computed; None for none.
        u_held: (E, H, C, V) these writes; with ``held`` or not at all.
        clip: length at which a gradient saturates softly; inf for none.

    Raises:
        ValueError: ranks or shared axes disagree.
    """
    _check(q, k, v, theta, kappa, mu, start, offsets, held, u_held, clip)
    inputs = (q, k, v, theta, kappa, mu, start, offsets, held, u_held, clip)
    if inline("titans_step", q, traceable=False) or _falls_back(q, k, v, theta, kappa, mu, start, u_held):
        return TitansSteps(*reference.run(*inputs))
    save = torch.is_grad_enabled() and any(isinstance(z, Tensor) and z.requires_grad for z in inputs)
    return TitansSteps(*torch.ops.embodied_mem.titans_step(*inputs, save)[:4])


def _unsupported(q: Tensor, k: Tensor, v: Tensor, *others: Tensor | None) -> str:
    tokens, limit = k.shape[-2], 32 if k.dtype == torch.float32 else 64
    return unsupported_dtype(q, k, v, *others) or (f"chunks of {tokens} > {limit} tokens" if tokens > limit else "")


def _falls_back(q: Tensor, *others: Any) -> bool:
    """Whether a GPU cannot run the kernel on these: the reference then runs in place, for its faster gradient."""
    unsupported = "" if torch.compiler.is_compiling() else _unsupported(q, *others)
    return bool(unsupported) and backend_for("titans_step", q, unsupported).backend == "reference"


def _check(
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
) -> None:
    if q.dim() != 4 or q.shape != k.shape or v.shape[:3] != q.shape[:3] or start.dim() != 4:
        raise ValueError(
            "expected q, k (M, H, C, K), v (M, H, C, V) and start (E, H, 2 K, V), "
            f"got {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)} and {tuple(start.shape)}"
        )
    (M, H, C, K), V, E = q.shape, v.shape[3], len(start)
    if (held is None) != (u_held is None):
        raise ValueError("expected held and u_held together, got one of them")
    for name, found, want in (
        ("theta", theta, (M, H, C)),
        ("kappa", kappa, (M, H, C, 2 + C)),
        ("mu", mu, (M, H, 1 + C)),
        ("start", start, (E, H, 2 * K, V)),
        ("held", held, (E, C)),
        ("u_held", u_held, (E, H, C, V)),
    ):
        if found is not None and tuple(found.shape) != want:
            raise ValueError(f"expected {name} of shape {want}, got {tuple(found.shape)}")
    if offsets.dim() != 1 or offsets.dtype != torch.int64 or not clip > 0:
        raise ValueError(
            f"expected offsets (J + 1,) int64 and clip > 0, got {tuple(offsets.shape)} {offsets.dtype} and {clip}"
        )


_INPUTS = (
    "Tensor q, Tensor k, Tensor v, Tensor theta, Tensor kappa, Tensor mu, Tensor start, Tensor offsets, Tensor? held, "
    "Tensor? u_held, float clip"
)


@torch.library.custom_op(
    "embodied_mem::titans_step",
    mutates_args=(),
    schema=f"({_INPUTS}, bool save) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _op(
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
    inputs = (q, k, v, theta, kappa, mu, start, offsets, held, u_held, clip)
    _check(*inputs)
    if run_triton("titans_step", q, _unsupported(q, k, v, theta, kappa, mu, start, u_held)):
        from embodied_mem.kernels.triton_ops import titans_step as kernel

        o, u, last, final, states = kernel.forward(*inputs, save)
        return o, u, last, final, states
    return reference.forward(*inputs, save)


@_op.register_fake
def _(
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
    _check(q, k, v, theta, kappa, mu, start, offsets, held, u_held, clip)
    (M, H, C, K), V = q.shape, v.shape[3]
    states = start.new_empty((M if save else 0, H, 2 * K + C, V), dtype=torch.float32)
    return (
        v.new_empty(v.shape),
        v.new_empty(v.shape),
        start.new_empty(start.shape),
        start.new_empty(start.shape),
        states,
    )


@torch.library.custom_op(
    "embodied_mem::titans_step_backward",
    mutates_args=(),
    schema=f"(Tensor d_o, Tensor d_u, Tensor d_last, Tensor d_final, {_INPUTS}, Tensor states) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _backward_op(
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
    states: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    inputs = (q, k, v, theta, kappa, mu, start, offsets, held, u_held, clip)
    if run_triton("titans_step_backward", q, _unsupported(q, k, v, theta, kappa, mu, start, u_held)):
        from embodied_mem.kernels.triton_ops import titans_step as kernel

        found = kernel.backward(d_o, d_u, d_last, d_final, *inputs, states)
    else:
        found = reference.backward(d_o, d_u, d_last, d_final, *inputs)
    return found  # type: ignore[return-value]


@_backward_op.register_fake
def _(
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
    states: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    z = [q.new_empty(0) if z is None else z.new_empty(z.shape) for z in (q, k, v, theta, kappa, mu, start, u_held)]
    return z[0], z[1], z[2], z[3], z[4], z[5], z[6], z[7]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:10], output[4])
    ctx.clip = inputs[10]
    ctx.mark_non_differentiable(output[4])


def _gradients(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    *inputs, states = ctx.saved_tensors
    found = torch.ops.embodied_mem.titans_step_backward(*grads[:4], *inputs, ctx.clip, states)
    return (*found[:7], None, None, None if inputs[9] is None else found[7], None, None)


_op.register_autograd(_gradients, setup_context=_save)
