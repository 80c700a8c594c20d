"""Plain torch form of `ops.bank_write`, in place."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["cosine", "fifo", "merge"]

_NORM_FLOOR = 1e-6


def fifo(
    bank: Tensor,
    length: Tensor,
    cursor: Tensor,
    ts: Tensor | None,
    item: Tensor,
    time: Tensor | None,
    mask: Tensor | None,
) -> None:
    """Write into slot ``cursor``; shapes as in `ops.bank_write`."""
    M = bank.shape[1]
    at = cursor.long()
    _put(bank, at, item, mask)
    if ts is not None and time is not None:
        _put(ts, at, time, mask)
    after, grown = (cursor + 1) % M, (length + 1).clamp(max=M)
    cursor.copy_(after if mask is None else torch.where(mask, after, cursor))
    length.copy_(grown if mask is None else torch.where(mask, grown, length))


def merge(
    bank: Tensor,
    length: Tensor,
    ts: Tensor | None,
    order: Tensor,
    sims: Tensor,
    count: Tensor,
    item: Tensor,
    time: Tensor | None,
    mask: Tensor | None,
    weighted: bool,
    stamp: str,
) -> None:
    """Write, merging neighbours of a full bank; bank (B, M, N, D), the others as in `ops.bank_write`."""
    (B, M), device = bank.shape[:2], bank.device
    place, row = torch.arange(M, device=device), torch.arange(B, device=device)
    held, full = length.long(), length >= M
    slots = order.long()
    newest = slots[row, (held - 1).clamp(min=0)]
    fresh = cosine(bank[row, newest], item)
    # the pairs of a full bank with the item behind it; the last pair is (newest, item)
    pairs = torch.where(place < M - 1, sims, fresh.unsqueeze(1))
    i = pairs.argmax(1)
    last = i == M - 1
    left, right = slots[row, i], slots[row, (i + 1).clamp(max=M - 1)]
    x, y = bank[row, left], torch.where(_over(last, item), item, bank[row, right])
    n_x, n_y = count[row, left], torch.where(last, 1, count[row, right])
    share = torch.full((B,), 0.5, dtype=_wide(bank), device=device)
    if weighted:
        share = n_x.to(share.dtype) / (n_x + n_y)
    both = (_over(share, x) * x + (1 - _over(share, x)) * y).to(bank.dtype)
    before = bank[row, slots[row, (i - 1).clamp(min=0)]]
    behind = torch.where(_over(i + 2 >= M, item), item, bank[row, slots[row, (i + 2).clamp(max=M - 1)]])
    to_before, to_behind = cosine(before, both), cosine(both, behind)

    # order and similarities after a merge inside the bank: position i + 1 leaves, its slot comes last
    step = (place.unsqueeze(0) > i.unsqueeze(1)).long()
    moved = torch.where(place == M - 1, right.unsqueeze(1), slots.gather(1, (place + step).clamp(max=M - 1)))
    shifted = torch.where(place == M - 2, fresh.unsqueeze(1), sims.gather(1, (place + step).clamp(max=M - 1)))
    shifted = torch.where(place == i.unsqueeze(1), to_behind.unsqueeze(1), shifted)
    merged_sims = torch.where(last.unsqueeze(1), sims, shifted)
    merged_sims = torch.where(place == (i - 1).unsqueeze(1), to_before.unsqueeze(1), merged_sims)
    grown_sims = torch.where(place == (held - 1).unsqueeze(1), fresh.unsqueeze(1), sims)

    act = torch.ones_like(full) if mask is None else mask
    merging = act & full
    into = torch.where(full, right, slots[row, held.clamp(max=M - 1)])
    writes = act & ~(full & last)
    if ts is not None and time is not None:
        t_x, t_y = ts[row, left], torch.where(last, time, ts[row, right])
        mean = (share * t_x + (1 - share) * t_y).to(ts.dtype) if stamp == "weighted" else t_x
        _put(ts, left, {"older": t_x, "newer": t_y, "weighted": mean}[stamp], merging)
        _put(ts, into, time, writes)
    _put(bank, left, both, merging)
    _put(bank, into, item, writes)
    _put(count, left, n_x + n_y, merging)
    _put(count, into, torch.ones_like(n_x), writes)
    order.copy_(torch.where((merging & ~last).unsqueeze(1), moved, slots))
    new_sims = torch.where(full.unsqueeze(1), merged_sims, grown_sims)
    sims.copy_(torch.where(act.unsqueeze(1), new_sims, sims))
    length.copy_(torch.where(act, (held + 1).clamp(max=M), held))


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """Mean over tokens of the cosine: (B, N, D) twice -> (B,), float32 (float64 for float64); 0 for zero vectors."""
    x, y = x.to(_wide(x)), y.to(_wide(y))
    norms = [torch.linalg.vector_norm(z, dim=-1).clamp_min(_NORM_FLOOR) for z in (x, y)]
    return ((x * y).sum(-1) / (norms[0] * norms[1])).mean(-1)


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _over(x: Tensor, like: Tensor) -> Tensor:
    return x.view(-1, *[1] * (like.dim() - 1))


def _put(bank: Tensor, at: Tensor, item: Tensor, mask: Tensor | None) -> None:
    """Write item (B, ...) into slot ``at`` (B,) of the rows of ``mask``, in place."""
    if mask is None:
        bank[torch.arange(len(at), device=at.device), at] = item.to(bank.dtype)
        return
    index = at.view(-1, *[1] * (bank.dim() - 1)).expand(-1, 1, *bank.shape[2:])
    new = item.unsqueeze(1).to(bank.dtype)
    if mask is not None:
        new = torch.where(_over(mask, bank), new, bank.gather(1, index))
    bank.scatter_(1, index, new)
