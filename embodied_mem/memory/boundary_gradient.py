"""Gradients across the ends of training blocks, predicted from the state.

Back-propagation through time is cut where a training row ends. A predictor g of dL/dstate, trained on the true gradient
that arrives at the start of the next block, stands in for what was cut:

    loss += coef * <stop_gradient(g(s_T)), s_T>         at the end of a block
    loss of g: |g(s_0) - dL/ds_0|^2 / 2                 at the start of the next

`enter` teaches: it returns the state unchanged, and its backward hands the arriving gradient on to the state and
``g - gradient`` to the predictor. `loss` uses. With ``coef=0`` both leave the gradients of the model as plain truncated
back-propagation has them. The predictor is the fast learner: give `parameters` of this module a learning rate of their
own (1e-3 for the model, 1e-4 for the predictor). It works for any memory; counters are left out.

    boundary = BoundaryGradient(memory)
    y, after = memory.sequence(x, boundary.enter(state), resets)
    loss = task_loss(y) + boundary.loss(after, coef=1.0)

Limits: the gradient of the model, not of the predictor, is what ``coef`` scales; rows that reset at their first token
get a gradient of exactly 0 at the boundary, which the predictor learns as any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from embodied_mem.errors import UsageError
from embodied_mem.memory.state import State, StateSpec

__all__ = ["BoundaryGradient"]


class BoundaryGradient(nn.Module):
    """Predictor of dL/dstate from the state.

    Args:
        spec: the state of the memory (`MemoryModule.state_spec`); its float tensors are predicted.
        hidden: units of the predictor's hidden layer, 0 for a linear predictor.
    """

    def __init__(self, spec: Mapping[str, StateSpec], hidden: int = 64) -> None:
        super().__init__()
        if hidden < 0:
            raise UsageError(f"expected hidden >= 0, got {hidden}")
        self.keys = [key for key, item in spec.items() if item.dtype.is_floating_point]
        self.shapes = [spec[key].shape for key in self.keys]
        self.sizes = [torch.Size(shape).numel() for shape in self.shapes]
        width = sum(self.sizes)
        if not width:
            raise UsageError("expected a state with at least one float tensor, got counters only")
        last = nn.Linear(hidden or width, width)
        # starts by predicting nothing, which is plain truncation
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), last) if hidden else last

    def forward(self, state: Mapping[str, Tensor]) -> State:
        """Return the predicted gradient of every float tensor of the state, (n, ...) each."""
        flat = torch.cat([state[key].detach().flatten(1) for key in self.keys], 1)
        weight = next(self.net.parameters())
        parts = self.net(flat.to(weight.dtype)).split(self.sizes, 1)
        return {
            key: part.view(-1, *shape).to(state[key].dtype) for key, part, shape in zip(self.keys, parts, self.shapes)
        }

    def enter(self, state: Mapping[str, Tensor]) -> State:
        """Return the state that opens a block, equal in value; its backward trains the predictor."""
        predicted = self(state)
        return {key: _Teach.apply(value, predicted[key]) if key in predicted else value for key, value in state.items()}

    def loss(self, state: Mapping[str, Tensor], coef: float = 1.0) -> Tensor:
        """Return ``coef * <g, state>``, a scalar whose gradient with respect to the state is ``coef * g``."""
        predicted = self(state)
        products = [(predicted[key].detach() * state[key]).sum() for key in self.keys]
        return coef * torch.stack(products).sum()


class _Teach(torch.autograd.Function):
    """The state; backward gives the arriving gradient to it, and the error of the prediction to the prediction."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, predicted: Tensor) -> Tensor:
        ctx.save_for_backward(predicted)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        (predicted,) = ctx.saved_tensors
        return grad, predicted - grad
