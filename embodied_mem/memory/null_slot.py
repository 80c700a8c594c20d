"""Softmax with a null slot: attention over an empty memory is exactly 0, not NaN."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["null_slot_softmax"]


def null_slot_softmax(logits: Tensor, valid: Tensor | None = None, dim: int = -1) -> Tensor:
    """Return ``exp(x_i) / (1 + sum_j exp(x_j))``: softmax with one more slot of logit 0 and value 0.

    Args:
        logits: any shape, float.
        valid: bool, broadcastable to ``logits``, True where the slot exists; None for all.
        dim: axis of the slots.

    Returns:
        Weights of the shape of ``logits``, exactly 0 where not ``valid`` whatever the logit there (also NaN), with
        gradient exactly 0 there too. They sum to less than 1; the rest went to the null slot.

    >>> null_slot_softmax(torch.zeros(3), torch.tensor([True, False, False])).tolist()
    [0.5, 0.0, 0.0]
    """
    if valid is not None:
        logits = logits.masked_fill(~valid, -torch.inf)
    # a shift common to all slots and the null slot leaves the weights unchanged, so it needs no gradient
    top = logits.detach().amax(dim, keepdim=True).clamp(min=0)
    weights = (logits - top).exp()
    return weights / ((-top).exp() + weights.sum(dim, keepdim=True))
