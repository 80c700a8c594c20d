"""First-order linear recurrence over time with resets inside the sequence.

    h_t = where(reset_t, h_init, a_t * h_{t-1}) + x_t

The gate of a reset step is not applied, forward or backward: a step that opens an episode takes nothing from before,
not even a NaN. With ``paired`` the last axis holds real and imaginary part (LRU, S5, FFM); ``h_init`` None means zeros.
A gate that is constant over rows or time may be an expanded view: the kernel then reads it from cache.

The gradient is the same recurrence backwards: with g_t = dh_t + where(reset_{t+1}, 0, a_{t+1} g_{t+1}),
dx = g, da_t = where(reset_t, 0, g_t h_{t-1}), dh0 = where(reset_0, 0, a_0 g_0), dh_init = sum of g over reset steps.
It has no second derivative.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from embodied_mem.kernels._dispatch import inline, run_triton, unsupported_dtype
from embodied_mem.kernels.reference import reset_scan as reference

__all__ = ["reset_scan"]


def reset_scan(
    a: Tensor,
    x: Tensor,
    reset: Tensor | None,
    h0: Tensor,
    h_init: Tensor | None = None,
    *,
    paired: bool = False,
) -> Tensor:
    """Run the recurrence of the module docstring.

    Args:
        a, x: (B, T, ...) float. With ``paired`` the last axis is 2: real and imaginary part.
        reset: (B, T) bool, True where a step opens an episode; None for no reset.
        h0: (B, ...) state before step 0.
        h_init: (...) state an episode starts from, None for zeros.
        paired: whether a, x, h0 and h_init hold complex numbers as pairs.

    Returns:
        h (B, T, ...), dtype of ``x``; the state after the last step is ``h[:, -1]``.

    Raises:
        ValueError: shapes disagree.

    >>> reset = torch.tensor([[False, False, True]])
    >>> a, x = torch.full((1, 3, 1), 0.5), torch.ones(1, 3, 1)
    >>> reset_scan(a, x, reset, torch.zeros(1, 1)).flatten().tolist()
    [1.0, 1.5, 1.0]
    """
    _check(a, x, reset, h0, h_init, paired)
    if inline("reset_scan", x, traceable=False):
        return reference.reset_scan(a, x, reset, h0, h_init, paired)
    keep = (-1, 2) if paired else (-1,)
    B, T = x.shape[:2]
    start = None if h_init is None else h_init.reshape(keep)
    flat = (z.reshape(B, T, *keep) for z in (a, x))
    h = torch.ops.embodied_mem.reset_scan(*flat, reset, h0.reshape(B, *keep), start, paired)
    return h.view(x.shape)


def _check(a: Tensor, x: Tensor, reset: Tensor | None, h0: Tensor, h_init: Tensor | None, paired: bool) -> None:
    if a.shape != x.shape or h0.shape != (a.shape[0], *a.shape[2:]) or (paired and a.shape[-1] != 2):
        raise ValueError(
            f"expected a, x (B, T, ...){' with a last axis of 2' if paired else ''} and h0 (B, ...), "
            f"got {tuple(a.shape)}, {tuple(x.shape)}, {tuple(h0.shape)}"
        )
    if reset is not None and reset.shape != a.shape[:2]:
        raise ValueError(f"expected reset of shape {tuple(a.shape[:2])}, got {tuple(reset.shape)}")
    if h_init is not None and h_init.shape != a.shape[2:]:
        raise ValueError(f"expected h_init of shape {tuple(a.shape[2:])}, got {tuple(h_init.shape)}")


@torch.library.custom_op(
    "embodied_mem::reset_scan",
    mutates_args=(),
    schema="(Tensor a, Tensor x, Tensor? reset, Tensor h0, Tensor? h_init, bool paired) -> Tensor",
)
def _op(a: Tensor, x: Tensor, reset: Tensor | None, h0: Tensor, h_init: Tensor | None, paired: bool) -> Tensor:
    _check(a, x, reset, h0, h_init, paired)
    if run_triton("reset_scan", x, unsupported_dtype(a, x, h0, h_init)):
        from embodied_mem.kernels.triton_ops import reset_scan as kernel

        return kernel.forward(a, x, reset, h0, h_init, paired)
    return reference.forward(a, x, reset, h0, h_init, paired)


@_op.register_fake
def _(a: Tensor, x: Tensor, reset: Tensor | None, h0: Tensor, h_init: Tensor | None, paired: bool) -> Tensor:
    _check(a, x, reset, h0, h_init, paired)
    return x.new_empty(x.shape)


@torch.library.custom_op(
    "embodied_mem::reset_scan_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor a, Tensor h, Tensor? reset, Tensor h0, bool paired, bool want_a) "
    "-> (Tensor, Tensor, Tensor)",
)
def _backward_op(
    grad: Tensor, a: Tensor, h: Tensor, reset: Tensor | None, h0: Tensor, paired: bool, want_a: bool
) -> tuple[Tensor, Tensor, Tensor]:
    if run_triton("reset_scan_backward", grad, unsupported_dtype(grad, a, h, h0)):
        from embodied_mem.kernels.triton_ops import reset_scan as kernel

        return kernel.backward(grad, a, h, reset, h0, paired, want_a)
    return reference.backward(grad, a, h, reset, h0, paired, want_a)


@_backward_op.register_fake
def _(
    grad: Tensor, a: Tensor, h: Tensor, reset: Tensor | None, h0: Tensor, paired: bool, want_a: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return grad.new_empty(grad.shape), grad.new_empty(a.shape if want_a else 0), grad.new_empty(h0.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    a, _, reset, h0, h_init, paired = inputs
    ctx.save_for_backward(a, output, reset, h0)
    ctx.paired, ctx.has_init = paired, h_init is not None


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    a, h, reset, h0 = ctx.saved_tensors
    dx, da, dh0 = torch.ops.embodied_mem.reset_scan_backward(grad, a, h, reset, h0, ctx.paired, ctx.needs_input_grad[0])
    dh_init = None
    if ctx.has_init and ctx.needs_input_grad[4]:
        none = torch.zeros_like(dx)
        dh_init = (none if reset is None else torch.where(reset[(..., *[None] * (dx.dim() - 2))], dx, none)).sum((0, 1))
    return da if ctx.needs_input_grad[0] else None, dx, None, dh0, dh_init, None


_op.register_autograd(_gradients, setup_context=_save)
