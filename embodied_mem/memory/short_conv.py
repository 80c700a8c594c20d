"""Short causal depthwise convolution over time with episode resets: a tap is kept iff no reset lies between.

    y_t = sum_j w_j * x_{t-j},   x_{t-j} replaced by 0 where token t-j belongs to an earlier episode

The state is what the next ``taps - 1`` outputs have received so far: the transposed form of the filter, which a step
advances by one product and one sum. It has the size of the last inputs, which it stands for.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = ["short_conv", "short_conv_step"]


def short_conv(
    x: Tensor, state: Tensor, weight: Tensor, resets: Tensor, valid: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Convolve whole sequences.

    Args:
        x: (B, T, C) inputs. state: (B, taps - 1, C) carried, next output first. weight: (taps, C), present tap first.
        resets: (B, T) bool.
        valid: (B, T) bool, False where a token is right padding; None when all are real.

    Returns:
        y (B, T, C) and the state after the last real token.
    """
    T, back = x.shape[1], state.shape[1]
    if valid is not None:
        x = x.masked_fill(~valid.unsqueeze(-1), 0)
    segment = F.pad(resets.cumsum(1), (0, back), mode="replicate")
    # the outputs after the end receive zeros: what they hold is the state
    y = _MaskedTaps.apply(F.pad(x, (0, 0, 0, back)), weight, segment)
    carried = state.masked_fill((segment[:, :back] > 0).unsqueeze(-1), 0)
    y = torch.cat([y[:, :back] + carried, y[:, back:]], 1)
    if valid is None:
        # a copy: a view would keep the whole sequence alive in every stored state
        return y[:, :T], y[:, T:].clone()
    after = valid.sum(1, keepdim=True) + torch.arange(back, device=x.device)
    return y[:, :T], y.gather(1, after.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def short_conv_step(x: Tensor, state: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Convolve one token, x (n, C); the caller has zeroed ``state`` (n, taps - 1, C) in the rows that reset."""
    outputs = x.unsqueeze(1) * weight
    outputs[:, :-1].add_(state)
    return outputs[:, 0], outputs[:, 1:]


class _MaskedTaps(torch.autograd.Function):
    """The sum over taps; written out because autograd would fill one whole zero tensor per tap in the backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, segment: Tensor) -> Tensor:
        """x (B, T, C), weight (taps, C), segment (B, T) -> (B, T, C)."""
        ctx.save_for_backward(x, weight, segment)
        y = x * weight[0]
        for tap in range(1, len(weight)):
            earlier, crosses = _tap(x, segment, tap)
            y[:, tap:] += (earlier * weight[tap]).masked_fill_(crosses, 0)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the gradients of x and weight; inputs are finite, non-finite ones were quarantined."""
        x, weight, segment = ctx.saved_tensors
        d_x, d_weight = grad * weight[0], torch.empty_like(weight)
        d_weight[0] = (grad * x).sum((0, 1))
        for tap in range(1, len(weight)):
            earlier, crosses = _tap(x, segment, tap)
            kept = grad[:, tap:].masked_fill(crosses, 0)
            d_x[:, : x.shape[1] - tap] += kept * weight[tap]
            d_weight[tap] = (kept * earlier).sum((0, 1))
        return d_x, d_weight, None


def _tap(x: Tensor, segment: Tensor, tap: int) -> tuple[Tensor, Tensor]:
    """Inputs ``tap`` steps before tokens tap .. T-1, and where a reset lies between (B, T - tap, 1)."""
    end = x.shape[1] - tap
    return x[:, :end], (segment[:, :end] != segment[:, tap:]).unsqueeze(-1)
