"""Decayed linear attention and gated delta rule over sequences, with episode resets inside.

Per head, with q, k, v row vectors, log decay ``a_t <= 0`` and write strength ``b_t``:

    S'  = where(reset_t, S_init, exp(a_t) S_{t-1})
    S_t = S' + k_t^T v_t                                without ``beta``: decayed linear attention
    S_t = S' + b_t k_t^T (v_t - k_t S')                 with ``beta``: gated delta rule
    o_t = q_t S_t

The decay is a scalar per head (SSD, RetNet, gated delta) or one per key channel (GLA). Both the reference and the
kernel work in chunks of tokens whose result does not depend on the chunk.

Limits: no delta rule with a decay per channel. Products run in the dtype of the inputs, half types in float32 (tf32 on
a GPU). The kernel takes keys of up to 128. States inside a sequence (`reset_linear_attention_at`) have no kernel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from embodied_mem.kernels._dispatch import backend_for, inline, run_triton, unsupported_dtype
from embodied_mem.kernels.reference import reset_linear_attention as reference

__all__ = ["reset_linear_attention", "reset_linear_attention_at"]

_CHUNK = 16
"""Tokens per chunk of the kernel: how often it saves the state for the gradient."""


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
        chunk: tokens per chunk of the reference; the result does not depend on it.

    Returns:
        o (B, T, H, V) and the state after the last token (B, H, K, V).

    Raises:
        ValueError: ranks or shared axes disagree.
    """
    _check(q, k, v, log_decay, beta, reset, S0)
    if inline("reset_linear_attention", q) or _falls_back(q, k, v, log_decay, beta, S0, S_init):
        return reference.run(q, k, v, log_decay, beta, reset, S0, S_init, chunk)
    inputs = (q, k, v, log_decay, beta, S0, S_init)
    save = torch.is_grad_enabled() and any(z is not None and z.requires_grad for z in inputs)
    arguments = (q, k, v, log_decay, beta, reset, S0, S_init, save)
    o, S = torch.ops.embodied_mem.reset_linear_attention(*arguments)[:2]
    return o, S


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

    There is no kernel of it: a GPU runs the plain form, which is parallel over chunks, and says so once.

    Args:
        at: (B, J) int64, 0 .. T - 1, the tokens after which the state is wanted.

    Returns:
        o (B, T, H, V), the state after the last token (B, H, K, V), and those after ``at`` (B, J, H, K, V).

    Raises:
        ValueError: ranks or shared axes disagree, or the decay is per channel.
        UsageError: the backend is ``triton``, which has no such kernel.
    """
    _check(q, k, v, log_decay, beta, reset, S0)
    if log_decay.dim() == 4 or at.dim() != 2 or len(at) != len(q):
        raise ValueError(
            f"expected a decay per head (B, T, H) and at (B, J), got {tuple(log_decay.shape)} and {tuple(at.shape)}"
        )
    if not inline("reset_linear_attention", q) and not torch.compiler.is_compiling() and q.is_cuda:
        run_triton("reset_linear_attention", q, "states inside a sequence")
    o, S, states = reference.run_at(q, k, v, log_decay, beta, reset, S0, S_init, chunk, at)
    assert states is not None
    return o, S, states


def _unsupported(q: Tensor, *others: Tensor | None) -> str:
    return unsupported_dtype(q, *others) or (f"key dim {q.shape[-1]} > 128" if q.shape[-1] > 128 else "")


def _falls_back(q: Tensor, *others: Tensor | None) -> bool:
    """Whether a GPU cannot run the kernel on these: the reference then runs in place, for its faster gradient."""
    unsupported = "" if torch.compiler.is_compiling() else _unsupported(q, *others)
    return bool(unsupported) and backend_for("reset_linear_attention", q, unsupported).backend == "reference"


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


_INPUTS = "Tensor q, Tensor k, Tensor v, Tensor log_decay, Tensor? beta, Tensor reset, Tensor S0, Tensor? S_init"


@torch.library.custom_op(
    "embodied_mem::reset_linear_attention",
    mutates_args=(),
    schema=f"({_INPUTS}, bool save) -> (Tensor, Tensor, Tensor, Tensor)",
)
def _op(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    beta: Tensor | None,
    reset: Tensor,
    S0: Tensor,
    S_init: Tensor | None,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _check(q, k, v, log_decay, beta, reset, S0)
    if run_triton("reset_linear_attention", q, _unsupported(q, k, v, log_decay, beta, S0, S_init)):
        from embodied_mem.kernels.triton_ops import reset_linear_attention as kernel

        return kernel.forward(q, k, v, log_decay, beta, reset, S0, S_init, save)
    return reference.forward(q, k, v, log_decay, beta, reset, S0, S_init, save, _CHUNK)


@_op.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    beta: Tensor | None,
    reset: Tensor,
    S0: Tensor,
    S_init: Tensor | None,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _check(q, k, v, log_decay, beta, reset, S0)
    B, H, K, V = S0.shape
    count = (q.shape[1] + _CHUNK - 1) // _CHUNK if save else 0
    states = q.new_empty((B, H, count, K, V), dtype=torch.float32)
    writes = q.new_empty((B, q.shape[1] if save and beta is not None else 0, H, V), dtype=torch.float32)
    return v.new_empty(v.shape), S0.new_empty(S0.shape), states, writes


@torch.library.custom_op(
    "embodied_mem::reset_linear_attention_backward",
    mutates_args=(),
    schema=f"(Tensor d_o, Tensor d_final, {_INPUTS}, Tensor states, Tensor writes) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _backward_op(
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
    states: Tensor,
    writes: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    if run_triton("reset_linear_attention_backward", q, _unsupported(q, k, v, log_decay, beta, S0, S_init)):
        from embodied_mem.kernels.triton_ops import reset_linear_attention as kernel

        found = kernel.backward(d_o, d_final, q, k, v, log_decay, beta, reset, S_init, states, writes)
    else:
        found = reference.backward(d_o, d_final, q, k, v, log_decay, beta, reset, S0, S_init)
    dq, dk, dv, dg, d_beta, dS0, d_init = found
    return dq, dk, dv, dg, d_beta, dS0.to(S0.dtype), d_init


@_backward_op.register_fake
def _(
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
    states: Tensor,
    writes: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    some = [q.new_empty(0) if z is None else z.new_empty(z.shape) for z in (q, k, v, log_decay, beta, S0, S_init)]
    return some[0], some[1], some[2], some[3], some[4], some[5], some[6]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:8], *output[2:])
    ctx.mark_non_differentiable(*output[2:])


def _gradients(ctx: Any, d_o: Tensor, d_final: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    beta, S_init = ctx.saved_tensors[4], ctx.saved_tensors[7]
    dq, dk, dv, dg, d_beta, dS0, d_init = torch.ops.embodied_mem.reset_linear_attention_backward(
        d_o, d_final, *ctx.saved_tensors
    )
    return dq, dk, dv, dg, None if beta is None else d_beta, None, dS0, None if S_init is None else d_init, None


_op.register_autograd(_gradients, setup_context=_save)
