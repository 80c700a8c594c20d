"""Plain torch form of `ops.similarity_readout`."""

from __future__ import annotations

import torch
from torch import Tensor

from embodied_mem.kernels.reference._keys import best_exact

__all__ = ["attend", "gradients", "scores", "top"]


def scores(key: Tensor, shrink: Tensor | None, query: Tensor, selection: Tensor | None) -> Tensor:
    """Return all similarities (B, Q, N), differentiably; shapes as in the op.

    The square is multiplied out into products, with the constant of a query added before the shrinkage.
    """
    wide = torch.float64 if key.dtype == torch.float64 else torch.float32
    key, query = key.to(wide), query.to(wide)
    if selection is None:
        away = torch.baddbmm(key.square().sum(-1).unsqueeze(1), query, key.transpose(1, 2), alpha=-2)
        away = away + query.square().sum(-1, keepdim=True)
    else:
        selection = selection.to(wide)
        asked = query * selection
        away = selection @ key.square().transpose(1, 2)
        away = torch.baddbmm(away, asked, key.transpose(1, 2), alpha=-2)
        away = away + (asked * query).sum(-1, keepdim=True)
    found = away * -(key.shape[-1] ** -0.5)
    return found if shrink is None else found * shrink.to(wide).unsqueeze(1)


def top(
    key: Tensor, shrink: Tensor | None, query: Tensor, selection: Tensor | None, length: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Return the k best similarities (B, Q, k) and their entries, -inf and -1 where fewer are held; differentiable."""
    found = scores(key, shrink, query, selection)
    held = torch.arange(key.shape[1], device=key.device) < length.unsqueeze(1)
    with torch.no_grad():
        index = best_exact(found.detach().masked_fill(~held.unsqueeze(1), -torch.inf), k)[1]
    score = found.gather(-1, index.clamp(min=0))
    return score.masked_fill(index < 0, -torch.inf), index


def gradients(
    grad: Tensor,
    index: Tensor,
    key: Tensor,
    shrink: Tensor | None,
    query: Tensor,
    selection: Tensor | None,
) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
    """Return the gradients of key, shrink, query and selection for that of the scores of `top` (B, Q, k)."""
    (B, N, C), (Q, k) = key.shape, index.shape[1:]
    wide = torch.float64 if key.dtype == torch.float64 else torch.float32
    flat = index.clamp(min=0).view(B, Q * k)
    rows = flat.unsqueeze(-1).expand(-1, -1, C)
    grad = torch.where(index >= 0, grad.to(wide), 0) * -(C**-0.5)
    away = key.gather(1, rows).view(B, Q, k, C).to(wide) - query.to(wide).unsqueeze(2)
    chosen = None if selection is None else selection.to(wide).unsqueeze(2)
    outer = grad if shrink is None else grad * shrink.gather(1, flat).view(B, Q, k).to(wide)
    d_shrink = None
    if shrink is not None:
        moved = (away.square() if chosen is None else away.square() * chosen).sum(-1)
        d_shrink = torch.zeros(B, N, dtype=wide, device=key.device).scatter_add(1, flat, (grad * moved).flatten(1))
        d_shrink = d_shrink.to(shrink.dtype)
    d_selection = None
    if selection is not None:
        d_selection = (outer.unsqueeze(-1) * away.square()).sum(2).to(selection.dtype)
    d_away = 2 * outer.unsqueeze(-1) * (away if chosen is None else away * chosen)
    d_key = torch.zeros(B, N, C, dtype=wide, device=key.device).scatter_add(1, rows, d_away.flatten(1, 2))
    return d_key.to(key.dtype), d_shrink, -d_away.sum(2).to(query.dtype), d_selection


def attend(
    key: Tensor, shrink: Tensor | None, query: Tensor, selection: Tensor | None, value: Tensor, length: Tensor
) -> Tensor:
    """Read all held entries, (B, Q, V): attention with features [k^2, k, 1] and [-s, 2 q s, -sum s q^2]."""
    kept = value.dtype
    wide = torch.float64 if kept == torch.float64 else torch.float32
    key, query, value = key.to(wide), query.to(wide), value.to(wide)
    selection = torch.ones_like(query) if selection is None else selection.to(wide)
    asked = query * selection
    long_query = torch.cat([-selection, 2 * asked, -(asked * query).sum(-1, keepdim=True)], -1)
    long_key = torch.cat([key.square(), key, torch.ones_like(key[..., :1])], -1)
    if shrink is not None:
        long_key = long_key * shrink.to(wide).unsqueeze(-1)
    held = (torch.arange(key.shape[1], device=key.device) < length.unsqueeze(1)).unsqueeze(1)
    # where nothing is held all entries count, and the result is replaced
    some = held.any(-1, keepdim=True)
    read = torch.nn.functional.scaled_dot_product_attention(
        long_query, long_key, value, attn_mask=held | ~some, scale=key.shape[-1] ** -0.5
    )
    return torch.where(some, read, 0).to(kept)
