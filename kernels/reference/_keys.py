"""Scores and indices in one sortable number: the best k with ties to the lower index."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["best", "best_exact", "ordered_keys", "unpack"]

_LOW = 0x7FFFFFFF
_GROUP = 32


def ordered_keys(scores: Tensor, index: Tensor) -> Tensor:
    """float32 scores and int64 indices (broadcast) -> int64 that sort by score, then by the lower index."""
    bits = scores.contiguous().view(torch.int32)
    # -0 equals 0
    bits = torch.where(scores == 0, 0, bits)
    bits = bits ^ ((bits >> 31) & _LOW)
    return (bits.to(torch.int64) << 32) | (_LOW - index)


def unpack(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scores (float32) and indices (int64) of keys."""
    bits = (keys >> 32).to(torch.int32)
    bits = bits ^ ((bits >> 31) & _LOW)
    return bits.view(torch.float32), _LOW - (keys & _LOW)


def best(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k best scores of the last axis and their indices, equal scores by the lower index.

    Where fewer than k exist or a score is -inf, the score is -inf and the index -1.

    >>> best(torch.tensor([1.0, 3.0, 3.0, -torch.inf]), 4)[1].tolist()
    [1, 2, 0, -1]
    """
    take = min(k, scores.shape[-1])
    if scores.dtype == torch.float32:
        index = torch.arange(scores.shape[-1], device=scores.device)
        value, at = unpack(ordered_keys(scores, index).topk(take, -1).values)
    else:
        value, at = scores.sort(dim=-1, descending=True, stable=True)
        value, at = value[..., :take], at[..., :take]
    at = torch.where(value == -torch.inf, -1, at)
    if take < k:
        value = torch.nn.functional.pad(value, (0, k - take), value=-torch.inf)
        at = torch.nn.functional.pad(at, (0, k - take), value=-1)
    return value, at


def best_exact(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As `best`, faster on a CPU: packs scores and indices only where equal scores end a list, which it looks at."""
    N = scores.shape[-1]
    take = min(k, N)
    value, index = _largest(scores, min(k + 1, N))
    if take == k and bool((value[..., 1:] < value[..., :-1]).all()):
        # no two are equal, so there is one order; all but the last are above -inf
        lowest = value[..., -1] == -torch.inf
        if N > take or not bool(lowest.any()):
            return value[..., :take].contiguous(), index[..., :take].contiguous()
    if N > take:
        last = value[..., take - 1]
        if bool(((value[..., take] == last) & (last > -torch.inf)).any()):
            return best(scores, k)
        value, index = value[..., :take], index[..., :take]
    # equal scores inside a list go by index
    index, order = index.sort(-1)
    value, order = value.gather(-1, order).sort(dim=-1, descending=True, stable=True)
    index = torch.where(value == -torch.inf, -1, index.gather(-1, order))
    if take < k:
        value = torch.nn.functional.pad(value, (0, k - take), value=-torch.inf)
        index = torch.nn.functional.pad(index, (0, k - take), value=-1)
    return value, index


def _largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As ``scores.topk(k)`` up to the choice among equal scores.

    A long list is cut into groups first: the best k entries lie in the k groups with the largest maxima, and maxima are
    vectorised where `topk` looks at every entry by itself. The entries of a group lie far apart, so that maxima of
    neighbours are taken side by side.
    """
    N = scores.shape[-1]
    if N < 8 * _GROUP * k:
        return scores.topk(k, -1)
    count, whole = N // _GROUP, N - N % _GROUP
    entries = scores.movedim(-1, 0)
    if entries.is_contiguous():
        # reduced in the order of memory
        largest = entries[:whole].unflatten(0, (_GROUP, count)).amax(0).movedim(0, -1)
    else:
        largest = scores[..., :whole].unflatten(-1, (_GROUP, count)).amax(-2)
    groups = largest.topk(k, -1, sorted=False).indices
    index = (groups.unsqueeze(-1) + torch.arange(0, whole, count, device=scores.device)).flatten(-2)
    if whole < N:
        rest = torch.arange(whole, N, device=scores.device).expand(*index.shape[:-1], -1)
        index = torch.cat([index, rest], -1)
    value, at = scores.gather(-1, index).topk(k, -1)
    return value, index.gather(-1, at)
