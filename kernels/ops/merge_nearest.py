"""Take one row into a full set of weighted rows by merging its nearest pair: a stream kept at constant size.

    cost_ij = |x_i - x_j|^2 (w_i w_j / (w_i + w_j))^alpha,   merged = (w_i x_i + w_j x_j) / (w_i + w_j),   w = w_i + w_j

alpha 1 is Ward's rule: merging the pair adds the least variance within groups; 0 merges the nearest rows whatever they
weigh. Between them alpha weighs age against recency. Squared distances of the rows held are cached, so a step computes
two lines of them, of the new row and of the merged one: O(S D) instead of O(S^2 D). Equal costs go to the first pair.

All of it is plain torch, batched over rows of environments, without gradient and without a synchronisation.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from embodied_mem.errors import UsageError

__all__ = ["Merged", "merge_nearest", "merging_set"]


class Merged(NamedTuple):
    """A set of S weighted rows per environment; `merge_nearest` returns the next one."""

    rows: Tensor
    """(B, S, D) float."""
    weight: Tensor
    """(B, S) of every row, 0 where a slot is empty."""
    time: Tensor
    """(B, S) mean time of what a row holds."""
    distance: Tensor
    """(B, S, S) squared distances of the rows held; any numbers elsewhere."""
    slot: Tensor
    """(B,) int64 slot that the last new row took, -1 before the first."""


def merging_set(
    batch: int, slots: int, width: int, *, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
) -> Merged:
    """Return empty sets.

    Raises:
        UsageError: a size is too small; merging needs two slots.
    """
    if batch < 1 or slots < 2 or width < 1:
        raise UsageError(f"expected batch >= 1, slots >= 2 and width >= 1, got {batch}, {slots} and {width}")
    rows = torch.zeros(batch, slots, width, device=device, dtype=dtype)
    return Merged(
        rows,
        rows.new_zeros(batch, slots),
        rows.new_zeros(batch, slots),
        rows.new_zeros(batch, slots, slots),
        torch.full((batch,), -1, device=device),
    )


def merge_nearest(
    held: Merged,
    x: Tensor,
    time: Tensor,
    *,
    weight: Tensor | None = None,
    alpha: float = 0.5,
    keep: Tensor | None = None,
) -> Merged:
    """Take in one row per environment; the equation is in the module docstring.

    Args:
        held: of `merging_set`, or the last result.
        x: (B, D), dtype of ``held.rows``. time: (B,) its time.
        weight: (B,) its weight above 0, None for 1.
        alpha: how far weights count.
        keep: (B,) bool, environments that take nothing in and stay as they are; None for none.

    Raises:
        ValueError: shapes disagree.

    >>> held = merging_set(1, 2, 1)
    >>> for t, value in enumerate((0.0, 5.0, 6.0)):
    ...     held = merge_nearest(held, torch.full((1, 1), value), torch.full((1,), float(t)))
    >>> held.rows.flatten().tolist(), held.weight.tolist(), held.time.tolist()
    ([0.0, 5.5], [[1.0, 2.0]], [[0.0, 1.5]])
    """
    B, S, D = held.rows.shape
    if x.shape != (B, D) or time.shape != (B,) or any(z is not None and z.shape != (B,) for z in (weight, keep)):
        raise ValueError(
            f"expected x {(B, D)}, and time, weight and keep {(B,)}, got {tuple(x.shape)}, {tuple(time.shape)}, "
            f"{None if weight is None else tuple(weight.shape)} and {None if keep is None else tuple(keep.shape)}"
        )
    x, time = x.detach(), time.to(held.time.dtype)
    w = torch.ones_like(time) if weight is None else weight.to(time.dtype)
    # the new row is entry S; in a set that is not full it takes the first empty slot instead of a pair's
    rows = torch.cat([held.rows, x.unsqueeze(1)], 1)
    times, weights = torch.cat([held.time, time.unsqueeze(1)], 1), torch.cat([held.weight, w.unsqueeze(1)], 1)
    fresh = _squares(held.rows, x)
    some, full = held.weight > 0, (held.weight > 0).all(1)
    near = torch.cat([held.distance, fresh.unsqueeze(1)], 1)
    near = torch.cat([near, torch.cat([fresh, torch.zeros_like(fresh[:, :1])], 1).unsqueeze(2)], 2)
    both = weights.unsqueeze(2) * weights.unsqueeze(1) / (weights.unsqueeze(2) + weights.unsqueeze(1)).clamp_min(1e-30)
    after = torch.ones(S + 1, S + 1, dtype=torch.bool, device=x.device).triu(1)
    pair = (near * both.pow(alpha)).masked_fill(~after, torch.inf).flatten(1).argmin(1)
    first, second = pair // (S + 1), pair % (S + 1)
    at = torch.where(full, torch.where(second == S, first, second), (~some).int().argmax(1))
    line = torch.arange(B, device=x.device)
    w_1, w_2 = weights[line, first], weights[line, second]
    share = (w_1 / (w_1 + w_2)).unsqueeze(1)
    merged = share * rows[line, first] + (1 - share) * rows[line, second]
    merged_time = share.squeeze(1) * times[line, first] + (1 - share.squeeze(1)) * times[line, second]
    # slot `first` holds the pair; slot `second` is free for the new row, unless that is part of the pair
    apart = full & (second < S)
    into = torch.where(full, first, at)
    new_rows = held.rows.clone()
    new_rows[line, into] = torch.where(full.unsqueeze(1), merged, x)
    new_rows[line, at] = torch.where(apart.unsqueeze(1), x, new_rows[line, at])
    new_weight, new_time = held.weight.clone(), held.time.clone()
    for values, joined, new in ((new_weight, w_1 + w_2, w), (new_time, merged_time, time)):
        values[line, into] = torch.where(full, joined, new)
        values[line, at] = torch.where(apart, new, values[line, at])
    distance = held.distance.clone()
    for place in (into, at):
        line_of = _squares(new_rows, new_rows[line, place])
        distance[line, place] = line_of
        distance[line, :, place] = line_of
    found = Merged(new_rows, new_weight, new_time, distance, at)
    if keep is None:
        return found
    return Merged(*(torch.where(keep.view(-1, *[1] * (a.dim() - 1)), a, b) for a, b in zip(held, found)))


def _squares(rows: Tensor, x: Tensor) -> Tensor:
    """Squared distances (B, S) of rows (B, S, D) from x (B, D); as they stand, since the product form cancels."""
    return (rows - x.unsqueeze(1)).square().sum(-1)
