"""First-order linear recurrence over time with resets inside the sequence.

    h_t = a_t * h_{t-1} + b_t,      h_t = b_t where reset_t      (gated_recurrent.md, the flagged operator)

A caller whose episodes start from an initial state adds it to ``b`` at the resets. On the CPU the recurrence runs as
a plain loop over time on whole rows: (B, D) per step is enough work to hide the dispatch, and the loop does T passes
where doubling does T log T. On a GPU it runs by doubling, since there every step would be a kernel launch. Both
directions share the code: the gradient of the recurrence is the same recurrence backwards.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["linear_scan"]


def linear_scan(a: Tensor, b: Tensor, resets: Tensor | None, h0: Tensor, *, paired: bool = False) -> Tensor:
    """Run the recurrence of the module docstring.

    Args:
        a, b: (B, T, ...) float or complex. With ``paired`` the last axis is 2: real and imaginary part.
        resets: (B, T) bool, or None for no reset.
        h0: (B, ...) state before token 0.
        paired: whether a, b and h0 hold complex numbers as pairs, which every compiler and exporter can store.

    Returns:
        h (B, T, ...). Nothing crosses a reset: not a NaN, not a gradient.

    Raises:
        ValueError: shapes disagree.
    """
    if a.shape != b.shape or h0.shape != (a.shape[0], *a.shape[2:]) or (paired and a.shape[-1] != 2):
        raise ValueError(
            f"expected a, b (B, T, ...){' with a last axis of 2' if paired else ''} and h0 (B, ...), "
            f"got {tuple(a.shape)}, {tuple(b.shape)}, {tuple(h0.shape)}"
        )
    if resets is not None and resets.shape != a.shape[:2]:
        raise ValueError(f"expected resets of shape {tuple(a.shape[:2])}, got {tuple(resets.shape)}")
    if paired:
        a, b, h0 = (torch.view_as_complex(z.contiguous()) for z in (a, b, h0))
    h = LinearScan.apply(a, b, resets, h0)
    return torch.view_as_real(h) if paired else h


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
        if a.is_complex():
            a, h, h0 = a.conj(), h.conj(), h0.conj()
        # dh_t = grad_t + a_{t+1} dh_{t+1}, stopped where token t+1 is a reset
        ahead = torch.cat([a[:, 1:], torch.zeros_like(a[:, :1])], 1)
        stop = None if resets is None else torch.cat([resets[:, 1:], torch.zeros_like(resets[:, :1])], 1)
        db = _run(ahead, grad, stop, torch.zeros_like(h0), reverse=True)
        da = dh0 = None
        if ctx.needs_input_grad[0]:
            da = torch.empty_like(db)
            torch.mul(db[:, 1:], h[:, :-1], out=da[:, 1:])
            torch.mul(db[:, 0], h0, out=da[:, 0])
            if resets is not None:
                da.masked_fill_(_over(resets, da), 0)
        if ctx.needs_input_grad[3]:
            dh0 = a[:, 0] * db[:, 0]
            if resets is not None:
                dh0 = dh0.masked_fill(_over(resets[:, 0], dh0), 0)
        return da, db, None, dh0


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
