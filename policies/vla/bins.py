"""Numbers in [-1, 1] as distributions over bins, and back, in one dimension and on a square.

A number between the centres of two neighbouring bins is shared out between them, so that their mean is the number; on a
square, between four. A number is read off as the mean over the most likely bin and its neighbours: one of several
modes is chosen, not their average, at a resolution finer than the bins.
"""

from __future__ import annotations

import torch
from torch import Tensor


def share(x: Tensor, bins: int) -> Tensor:
    """Return (..., bins) >= 0 with sum 1 and mean x for ``x`` (...) in [-1, 1]; centres reach from -1 to 1."""
    centres = torch.linspace(-1.0, 1.0, bins, dtype=x.dtype, device=x.device)
    away = (x.unsqueeze(-1) - centres).abs() * ((bins - 1) / 2)
    return (1 - away).clamp(min=0)


def read(logits: Tensor) -> Tensor:
    """Return numbers (...) in [-1, 1] for ``logits`` (..., bins)."""
    bins = logits.shape[-1]
    place = torch.arange(bins, device=logits.device)
    near = (place - logits.argmax(-1, keepdim=True)).abs() <= 1
    weight = logits.masked_fill(~near, -torch.inf).softmax(-1)
    return weight @ torch.linspace(-1.0, 1.0, bins, dtype=logits.dtype, device=logits.device)


def share_square(xy: Tensor, side: int) -> Tensor:
    """Return (..., side * side) with sum 1 and mean xy for ``xy`` (..., 2) in [-1, 1]; the first number is the row."""
    rows, columns = share(xy[..., 0], side), share(xy[..., 1], side)
    return (rows.unsqueeze(-1) * columns.unsqueeze(-2)).flatten(-2)


def read_square(logits: Tensor, side: int) -> Tensor:
    """Return (..., 2) in [-1, 1] for ``logits`` (..., side * side)."""
    place = torch.arange(side * side, device=logits.device)
    best = logits.argmax(-1, keepdim=True)
    near = ((place // side - best // side).abs() <= 1) & ((place % side - best % side).abs() <= 1)
    weight = logits.masked_fill(~near, -torch.inf).softmax(-1).unflatten(-1, (side, side))
    centres = torch.linspace(-1.0, 1.0, side, dtype=logits.dtype, device=logits.device)
    return torch.stack([weight.sum(-1) @ centres, weight.sum(-2) @ centres], -1)


def cross_entropy(logits: Tensor, wanted: Tensor) -> Tensor:
    """Return (...) the cross-entropy of ``logits`` (..., bins) against the distribution ``wanted`` (..., bins)."""
    return -(wanted * logits.log_softmax(-1)).sum(-1)
