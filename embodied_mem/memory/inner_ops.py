"""The three heavy operations of `inner_loop` with their gradients written out.

At the sizes of a policy the time goes into allocating tensors of the size of the weights, one per operation and chunk;
these work in place on what they have allocated, forward and backward, where autograd would keep every intermediate.
All take (n, H, rows, columns).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["activate", "form", "mix", "through"]


def activate(x: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Return the activation ("gelu" or "silu") and its slope."""
    a, slope = _Activate.apply(x, kind)
    return a, slope


def through(descent: Tensor, weight: Tensor, slope: Tensor) -> Tensor:
    """Carry a gradient back through a layer: descent (..., Q, V), weight (..., h or h + 1, V), slope (..., Q, h)."""
    result: Tensor = _Through.apply(descent, weight, slope)
    return result


def mix(x: Tensor, kappa: Tensor, weight: Tensor, momentum: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    """Return x (..., Q, K) times the weights of each token, (..., Q, V); see `inner_loop.read`."""
    result: Tensor = _Mix.apply(x, kappa, weight, momentum, left, right)
    return result


def form(
    kappa: Tensor, mu: Tensor | None, weight: Tensor, momentum: Tensor | None, left: Tensor, right: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Return weights and momenta (..., K, V) for the coefficients (..., P + C) and (..., 1 + C) of one token."""
    if momentum is None:
        formed, _ = _Form.apply(kappa, None, weight, None, left, right)
        return formed, None
    formed, formed_momentum = _Form.apply(kappa, mu, weight, momentum, left, right)
    return formed, formed_momentum


class _Activate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: str) -> tuple[Tensor, Tensor]:
        ctx.kind = kind
        one = torch.ones((), dtype=x.dtype, device=x.device).expand_as(x)
        if kind == "gelu":
            a, slope = torch.nn.functional.gelu(x), torch.ops.aten.gelu_backward(one, x)
        else:
            a, slope = torch.nn.functional.silu(x), torch.ops.aten.silu_backward(one, x)
        ctx.save_for_backward(x, slope)
        return a, slope

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_a: Tensor, d_slope: Tensor) -> tuple[Tensor, None]:
        x, slope = ctx.saved_tensors
        if ctx.kind == "gelu":
            square = x * x
            curve = (square * -0.5).exp_().mul_(1 / math.sqrt(2 * math.pi))
            curve.mul_(square.neg_().add_(2))
        else:
            gate = torch.sigmoid(x)
            curve = (1 - 2 * gate).mul_(x).add_(2)
            curve.mul_(gate).mul_(gate.neg_().add_(1))
        return curve.mul_(d_slope).addcmul_(d_a, slope), None


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, descent: Tensor, weight: Tensor, slope: Tensor) -> Tensor:
        h = slope.shape[-1]
        ctx.save_for_backward(descent, weight, slope)
        return (descent @ weight[..., :h, :].transpose(-1, -2)).mul_(slope)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        descent, weight, slope = ctx.saved_tensors
        h = slope.shape[-1]
        inner = weight[..., :h, :]
        d_slope = (descent @ inner.transpose(-1, -2)).mul_(grad)
        scaled = grad * slope
        d_weight = torch.zeros_like(weight) if weight.shape[-2] > h else torch.empty_like(weight)
        d_weight[..., :h, :] = scaled.transpose(-1, -2) @ descent
        return scaled @ inner, d_weight, d_slope


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, kappa: Tensor, weight: Tensor, momentum: Tensor | None, left: Tensor, right: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, kappa, weight, momentum, left, right)
        first = 1 if momentum is None else 2
        scores = (x @ left.transpose(-1, -2)).mul_(kappa[..., first:])
        out = _flat(scores) @ _flat(right)
        out.baddbmm_(_flat(kappa[..., :1] * x), _flat(weight))
        if momentum is not None:
            out.baddbmm_(_flat(kappa[..., 1:2] * x), _flat(momentum))
        return out.view(*x.shape[:-1], right.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, kappa, weight, momentum, left, right = ctx.saved_tensors
        first = 1 if momentum is None else 2
        d_kappa = torch.empty_like(kappa)
        slots = kappa[..., first:]
        scores, d_mixed = x @ left.transpose(-1, -2), grad @ right.transpose(-1, -2)
        torch.mul(d_mixed, scores, out=d_kappa[..., first:])
        d_right = scores.mul_(slots).transpose(-1, -2) @ grad
        d_scores = d_mixed.mul_(slots)
        d_left = d_scores.transpose(-1, -2) @ x
        d_x, d_momentum = d_scores @ left, None
        back = grad @ weight.transpose(-1, -2)
        d_kappa[..., 0] = (back * x).sum(-1)
        d_x.addcmul_(back, kappa[..., :1])
        d_weight = (kappa[..., :1] * x).transpose(-1, -2) @ grad
        if momentum is not None:
            back = grad @ momentum.transpose(-1, -2)
            d_kappa[..., 1] = (back * x).sum(-1)
            d_x.addcmul_(back, kappa[..., 1:2])
            d_momentum = (kappa[..., 1:2] * x).transpose(-1, -2) @ grad
        return d_x, d_kappa, d_weight, d_momentum, d_left, d_right


class _Form(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        kappa: Tensor,
        mu: Tensor | None,
        weight: Tensor,
        momentum: Tensor | None,
        left: Tensor,
        right: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        ctx.save_for_backward(kappa, mu, weight, momentum, left, right)
        ctx.set_materialize_grads(False)
        first = 1 if momentum is None else 2
        column = kappa.unsqueeze(-1)
        turned = _flat(left.transpose(-1, -2))
        formed = weight * column[..., :1, :]
        if momentum is not None:
            formed.addcmul_(momentum, column[..., 1:2, :])
        _flat(formed).baddbmm_(turned, _flat(column[..., first:, :] * right))
        if momentum is None or mu is None:
            return formed, None
        column = mu.unsqueeze(-1)
        carried = momentum * column[..., :1, :]
        _flat(carried).baddbmm_(turned, _flat(column[..., 1:, :] * right))
        return formed, carried

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, grad_momentum: Tensor | None) -> tuple[Tensor | None, ...]:
        kappa, mu, weight, momentum, left, right = ctx.saved_tensors
        first = 1 if momentum is None else 2
        d_weight, d_momentum = None, None
        d_left, d_right = torch.zeros_like(left), torch.zeros_like(right)
        d_kappa, d_mu = torch.zeros_like(kappa), None if mu is None else torch.zeros_like(mu)
        if grad is not None:
            grad = grad.contiguous()
            d_weight = grad * kappa[..., :1, None]
            d_kappa[..., 0] = _dot(grad, weight)
            if momentum is not None:
                d_momentum = grad * kappa[..., 1:2, None]
                d_kappa[..., 1] = _dot(grad, momentum)
            d_kappa[..., first:] = _outer_grad(grad, kappa[..., first:], left, right, d_left, d_right)
        if grad_momentum is not None and mu is not None and d_mu is not None:
            grad_momentum = grad_momentum.contiguous()
            column = mu[..., :1, None]
            if d_momentum is None:
                d_momentum = grad_momentum * column
            else:
                d_momentum.addcmul_(grad_momentum, column)
            d_mu[..., 0] = _dot(grad_momentum, momentum)
            d_mu[..., 1:] = _outer_grad(grad_momentum, mu[..., 1:], left, right, d_left, d_right)
        return d_kappa, d_mu, d_weight, d_momentum, d_left, d_right


def _outer_grad(grad: Tensor, slots: Tensor, left: Tensor, right: Tensor, d_left: Tensor, d_right: Tensor) -> Tensor:
    """Add the gradients of ``left^T (slots right)`` to d_left and d_right; return that of the slots."""
    back = left @ grad
    d_left.add_((slots.unsqueeze(-1) * right) @ grad.transpose(-1, -2))
    d_right.addcmul_(back, slots.unsqueeze(-1))
    return back.mul_(right).sum(-1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """(n, H, K, V) twice -> their inner products (n, H)."""
    n, H = a.shape[:2]
    return torch.bmm(a.reshape(n * H, 1, -1), b.reshape(n * H, -1, 1)).view(n, H)


def _flat(x: Tensor) -> Tensor:
    """(n, H, a, b) -> (n H, a, b), a view where one is possible."""
    return x.flatten(0, 1)
