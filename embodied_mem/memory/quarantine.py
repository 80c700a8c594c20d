"""Non-finite numbers stay inside their episode, also in parallel forms.

In chunk, scan and attention forms a masked weight 0 times a NaN is still NaN, in the value and in the gradient. So
non-finite tokens and carried rows are zeroed *before* the parallel form, and NaN is written over the outputs from there
to the end of their episode *after* it, which is what a step loop shows.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from embodied_mem.memory.segments import segment_ids
from embodied_mem.memory.state import State

__all__ = ["quarantine", "release"]


def quarantine(x: Tensor, resets: Tensor | None, state: Mapping[str, Tensor]) -> tuple[Tensor, State, Tensor | None]:
    """Zero the non-finite tokens of ``x`` and the non-finite rows of ``state``.

    Args:
        x: (n, T, D) float.
        resets: (n, T) bool, or None for no reset.
        state: tensors with n rows.

    Returns:
        x and state without non-finite numbers, and ``poisoned`` (n, T) bool: True from a bad token (or a bad carried
        row) to the end of that episode. ``poisoned`` is None when everything is finite, which is only looked up on the
        CPU: on a GPU it would be a synchronisation.
    """
    if x.device.type == "cpu" and _all_finite(x, state):
        return x, dict(state), None
    bad = ~torch.isfinite(x.detach()).all(-1)
    carried = torch.zeros_like(bad[:, 0])
    clean: State = {}
    for key, value in state.items():
        clean[key] = value
        if value.is_floating_point():
            # a last axis of one first: a state may be a number per row
            rows = ~torch.isfinite(value.detach()).unsqueeze(-1).flatten(1).all(1)
            carried = carried | rows
            clean[key] = torch.where(rows.view(-1, *[1] * (value.dim() - 1)), 0.0, value)
    return torch.where(bad.unsqueeze(-1), 0.0, x), clean, _until_reset(bad, carried, resets)


def release(y: Tensor, state: Mapping[str, Tensor], poisoned: Tensor | None) -> tuple[Tensor, State]:
    """Write NaN over the outputs (n, T, D) where ``poisoned`` and over the float rows of a state left poisoned."""
    if poisoned is None:
        return y, dict(state)
    y = torch.where(poisoned.unsqueeze(-1), torch.nan, y)
    last = poisoned[:, -1]
    marked: State = {}
    for key, value in state.items():
        rows = last.view(-1, *[1] * (value.dim() - 1))
        marked[key] = torch.where(rows, torch.nan, value) if value.is_floating_point() else value
    return y, marked


def _all_finite(x: Tensor, state: Mapping[str, Tensor]) -> bool:
    # a sum is finite only if every term is; an overflowing sum merely takes the slow path
    total = x.detach().sum()
    for value in state.values():
        if value.is_floating_point():
            total = total + value.detach().sum()
    return bool(torch.isfinite(total))


def _until_reset(bad: Tensor, carried: Tensor, resets: Tensor | None) -> Tensor:
    """True at a bad token and after it in the same episode; ``carried`` rows are bad until their first reset."""
    seen = bad.to(torch.int64).cumsum(1)
    if resets is None:
        return (seen > 0) | carried.unsqueeze(1)
    segment = segment_ids(resets)
    # bad tokens seen before the episode of token t began: the count just before its reset
    before = torch.where(resets, seen - bad.to(torch.int64), 0).cummax(1).values
    return (seen > before) | (carried.unsqueeze(1) & (segment == 0))
