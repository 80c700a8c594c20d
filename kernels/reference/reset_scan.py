"""Plain torch form of `ops.reset_scan`: a loop over time on the CPU, doubling on a GPU.

On the CPU every step is one fused multiply-add on whole rows: (B, C) is enough work to hide the dispatch, and the loop
does T passes where doubling does T log T. On a GPU every step would be a kernel launch. The gradient of the recurrence
is the same recurrence backwards.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["backward", "forward", "reset_scan"]


def reset_scan(a: Tensor, x: Tensor, reset: Tensor | None, h0: Tensor, h_init: Tensor | None, paired: bool) -> Tensor:
    """Differentiable form; shapes as in `ops.reset_scan`, any trailing axes."""
    if reset is not None and h_init is not None:
        x = torch.where(_over(reset, x), h_init + x, x)
    kept = x.dtype
    if kept in (torch.float16, torch.bfloat16):
        a, x, h0 = a.float(), x.float(), h0.float()
    if paired:
        a, x, h0 = (torch.view_as_complex(z.contiguous()) for z in (a, x, h0))
    h = LinearScan.apply(a, x, reset, h0)
    return (torch.view_as_real(h) if paired else h).to(kept)


def forward(a: Tensor, x: Tensor, reset: Tensor | None, h0: Tensor, h_init: Tensor | None, paired: bool) -> Tensor:
    """As `reset_scan`, for the registered operator."""
    return reset_scan(a, x, reset, h0, h_init, paired)


def backward(
    grad: Tensor, a: Tensor, h: Tensor, reset: Tensor | None, h0: Tensor, paired: bool, want_a: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dx, da (empty unless wanted) and dh0."""
    kept = grad.dtype
    parts = [z.float() if kept in (torch.float16, torch.bfloat16) else z for z in (grad, a, h, h0)]
    if paired:
        parts = [torch.view_as_complex(z.contiguous()) for z in parts]
    grad, a, h, h0 = parts
    dx, da, dh0 = _gradients(grad, a, h, h0, reset, want_a, True)
    assert dh0 is not None
    found = [z if z is None or not paired else torch.view_as_real(z) for z in (dx, da, dh0)]
    empty = grad.new_empty(0)
    dx, da, dh0 = (empty if z is None else z.to(kept).contiguous() for z in found)
    return dx, da, dh0


class LinearScan(torch.autograd.Function):
    """The recurrence with its reverse as gradient."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, resets: Tensor | None, h0: Tensor) -> Tensor:
        """Return h, (B, T, ...)."""
        h = _run(a, b, resets, h0, reverse=False)
        ctx.save_for_backward(a, h, resets, h0)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of a, b and h0."""
        a, h, resets, h0 = ctx.saved_tensors
        db, da, dh0 = _gradients(grad, a, h, h0, resets, ctx.needs_input_grad[0], ctx.needs_input_grad[3])
        return da, db, None, dh0


def _gradients(
    grad: Tensor, a: Tensor, h: Tensor, h0: Tensor, resets: Tensor | None, want_a: bool, want_h0: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    if a.is_complex():
        a, h, h0 = a.conj(), h.conj(), h0.conj()
    # dh_t = grad_t + a_{t+1} dh_{t+1}, stopped where token t+1 is a reset
    ahead = torch.cat([a[:, 1:], torch.zeros_like(a[:, :1])], 1)
    stop = None if resets is None else torch.cat([resets[:, 1:], torch.zeros_like(resets[:, :1])], 1)
    db = _run(ahead, grad, stop, torch.zeros_like(h0), reverse=True)
    da = dh0 = None
    if want_a:
        da = torch.empty_like(db)
        torch.mul(db[:, 1:], h[:, :-1], out=da[:, 1:])
        torch.mul(db[:, 0], h0, out=da[:, 0])
        if resets is not None:
            da.masked_fill_(_over(resets, da), 0)
    if want_h0:
        dh0 = a[:, 0] * db[:, 0]
        if resets is not None:
            dh0 = dh0.masked_fill(_over(resets[:, 0], dh0), 0)
    return db, da, dh0


def _over(mask: Tensor, x: Tensor) -> Tensor:
    """View a mask over the leading axes of ``x`` so that it broadcasts."""
    return mask.view(*mask.shape, *[1] * (x.dim() - mask.dim()))


def _run(a: Tensor, b: Tensor, resets: Tensor | None, h0: Tensor, *, reverse: bool) -> Tensor:
    if a.device.type == "cpu":
        return _by_loop(a, b, resets, h0, reverse)
    if not reverse:
        return _by_doubling(a, b, resets, h0)
    flipped = None if resets is None else resets.flip(1)
    return _by_doubling(a.flip(1), b.flip(1), flipped, h0).flip(1)


def _by_loop(a: Tensor, b: Tensor, resets: Tensor | None, h0: Tensor, reverse: bool) -> Tensor:
    """One fused multiply-add per step; rows that reset are masked only at the steps that have one."""
    h = torch.empty_like(b)
    gates, inputs, outputs = a.unbind(1), b.unbind(1), h.unbind(1)
    masks: list[Tensor | None] = [None] * len(gates)
    if resets is not None:
        wide = _over(resets, a).unbind(1)
        for t in resets.any(0).nonzero()[:, 0].tolist():
            masks[t] = wide[t]
    last = h0
    for t in range(len(gates) - 1, -1, -1) if reverse else range(len(gates)):
        gate, mask = gates[t], masks[t]
        if mask is not None:
            gate, last = gate.masked_fill(mask, 0), last.masked_fill(mask, 0)
        last = torch.addcmul(inputs[t], gate, last, out=outputs[t])
    return h


def _by_doubling(a: Tensor, b: Tensor, resets: Tensor | None, h0: Tensor) -> Tensor:
    """log2 T passes; element t stands for the composition of the last ``reach`` tokens up to t."""
    flag = torch.zeros(a.shape[:2], dtype=torch.bool, device=a.device) if resets is None else resets
    first = _over(flag[:, 0], h0)
    b = torch.cat([(b[:, 0] + a[:, 0].masked_fill(first, 0) * h0.masked_fill(first, 0)).unsqueeze(1), b[:, 1:]], 1)
    reach = 1
    while reach < a.shape[1]:
        # masked before the product: 0 * NaN of the old episode would cross
        stop = _over(flag[:, reach:], a)
        left_a, left_b = a[:, :-reach].masked_fill(stop, 1), b[:, :-reach].masked_fill(stop, 0)
        right = a[:, reach:].masked_fill(stop, 0)
        b = torch.cat([b[:, :reach], b[:, reach:] + right * left_b], 1)
        a = torch.cat([a[:, :reach], right * left_a], 1)
        flag = torch.cat([flag[:, :reach], flag[:, reach:] | flag[:, :-reach]], 1)
        reach *= 2
    return b
