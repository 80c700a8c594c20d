"""Episodes inside a row: which one a token belongs to, how far its start lies back, and how much decays in between.

``resets[b, t]`` True means token t opens an episode. A row's tokens before its first reset belong to the episode of the
carried state: segment 0, also called live.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["decay_matrix", "episode_causal_mask", "live_weight", "reset_distance", "segment_ids"]


def segment_ids(resets: Tensor) -> Tensor:
    """Number the episodes of every row: (B, T) bool -> (B, T) int64, 0 while the carried state is live.

    >>> segment_ids(torch.tensor([[False, True, False, True]])).tolist()
    [[0, 1, 1, 2]]
    """
    return resets.cumsum(-1)


def reset_distance(resets: Tensor) -> Tensor:
    """Return the tokens since the episode began: 0 at a reset; t + 1 while the carried state is live. (B, T) int64.

    The carried state counts as written one step before token 0, so the age of what it holds is ``reset_distance`` more.

    >>> reset_distance(torch.tensor([[False, False, True, False]])).tolist()
    [[1, 2, 0, 1]]
    """
    index = torch.arange(resets.shape[-1], device=resets.device).expand(resets.shape)
    latest = torch.where(resets, index, -1).cummax(-1).values
    return index - latest


def decay_matrix(log_decay: Tensor, resets: Tensor) -> Tensor:
    """Return the weight of token s in the state read at token t, 0 for a later token or another episode.

    ``D[t, s] = exp(sum of log_decay over s < u <= t)``, with the exponent masked before ``exp``. The gate of a reset
    token is never applied.

    Args:
        log_decay: (B, T) or (B, H, T), <= 0.
        resets: (B, T) bool.

    Returns:
        (B, T, T) or (B, H, T, T), dtype of ``log_decay``.
    """
    total, keep = _gates_since_reset(log_decay, resets)
    return _masked_exp(total.unsqueeze(-1) - total.unsqueeze(-2), keep, log_decay.dtype)


def live_weight(log_decay: Tensor, resets: Tensor) -> Tensor:
    """Return the weight of the carried state in the state read at token t: the product of gates, 0 after a reset.

    Args:
        log_decay: (B, T) or (B, H, T), <= 0.
        resets: (B, T) bool.

    Returns:
        Shape and dtype of ``log_decay``.
    """
    total, _ = _gates_since_reset(log_decay, resets)
    live = segment_ids(resets) == 0
    return _masked_exp(total, live if log_decay.dim() == 2 else live.unsqueeze(1), log_decay.dtype)


def episode_causal_mask(resets: Tensor, carried_fill: Tensor | int, window: int) -> Tensor:
    """Return which of the carried and own items each token may see: (B, T, window + T) bool, True = visible.

    Columns ``0 .. window-1`` are the carried items from oldest to newest (column ``window - 1`` was written one step
    before token 0, only the last ``carried_fill`` of them exist); column ``window + s`` is token s. Token t sees the
    last ``window`` items up to and including itself that belong to its episode.

    Args:
        resets: (B, T) bool.
        carried_fill: (B,) int number of carried items, or one number for all rows.
        window: items visible to a token, itself included, >= 1.
    """
    B, T = resets.shape
    device = resets.device
    when = torch.arange(-window, T, device=device)
    age = torch.arange(T, device=device).unsqueeze(1) - when
    recent = (age >= 0) & (age < window)
    segment = segment_ids(resets)
    fill = torch.as_tensor(carried_fill, device=device).expand(B)
    exists = when[:window] >= -fill.unsqueeze(1)
    live = (segment == 0).unsqueeze(-1) & exists.unsqueeze(1)
    own = segment.unsqueeze(-1) == segment.unsqueeze(-2)
    return torch.cat([live, own], -1) & recent


def _gates_since_reset(log_decay: Tensor, resets: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the gates since the episode began, its own left out, and who shares an episode, causally: (..., T, T).

    A product with the mask, not a cumsum: the backward of a cumsum over the row leaves rounding errors in earlier
    episodes, where the gradient must be exactly 0. float64, so that one strong gate cannot cancel the small differences
    after it (linear_attention.md).
    """
    segment, steps = segment_ids(resets), resets.shape[-1]
    causal = torch.ones(steps, steps, dtype=torch.bool, device=resets.device).tril()
    keep = (segment.unsqueeze(-1) == segment.unsqueeze(-2)) & causal
    if log_decay.dim() == 3:
        resets, keep = resets.unsqueeze(1), keep.unsqueeze(1)
    gates = log_decay.masked_fill(resets, 0).to(torch.float64).unsqueeze(-1)
    return (keep.to(torch.float64) @ gates).squeeze(-1), keep


def _masked_exp(exponent: Tensor, keep: Tensor, dtype: torch.dtype) -> Tensor:
    # masked before exp: a discarded exponent must not become inf, nor its gradient inf * 0
    return exponent.to(dtype).masked_fill(~keep, -torch.inf).exp()
