"""Plain torch form of `ops.bank_write`, in place."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

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
    if mask is None:
        row = torch.arange(len(cursor), device=cursor.device)
        bank[row, cursor] = item
        if ts is not None and time is not None:
            ts[row, cursor] = time
        cursor.add_(1).remainder_(M)
        length.add_(1).clamp_(max=M)
    else:
        at = cursor.long()
        _put(bank, at, item, mask)
        if ts is not None and time is not None:
            _put(ts, at, time, mask)
        cursor.copy_(torch.where(mask, (cursor + 1) % M, cursor))
        length.copy_(torch.where(mask, (length + 1).clamp(max=M), length))


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
    # the usual case, looked at where that costs nothing: every row merges
    every = mask is None and device.type == "cpu" and not torch.compiler.is_compiling() and bool(full.all())
    slots = order.long()
    newest = slots[:, -1] if every else slots[row, (held - 1).clamp(min=0)]
    fresh = cosine(bank[row, newest], item).unsqueeze(1)
    # the pairs of a full bank with the item behind it; the last pair is (newest, item)
    i = torch.cat([sims[:, : M - 1], fresh], 1).argmax(1, keepdim=True)
    tail = i == M - 1
    last = tail.squeeze(1)
    # the entries i - 1, i, i + 1 and i + 2, with the item where the bank ends
    around = slots.gather(1, (i + torch.arange(-1, 3, device=device)).clamp_(0, M - 1))
    before, x, y, behind = bank[row.unsqueeze(1), around].unbind(1)
    y, behind = torch.where(_over(last, item), item, y), torch.where(_over(i + 2 >= M, item), item, behind)
    left, right = around[:, 1], around[:, 2]
    n_x, n_y = count.gather(1, around[:, 1:3]).unbind(1)
    n_both = n_x + n_y.masked_fill(last, 1)
    share: float | Tensor = 0.5
    if weighted:
        share = n_x.to(_wide(bank)) / n_both
    weight = _over(share, x) if isinstance(share, Tensor) else share
    both = torch.lerp(y.to(_wide(y)), x.to(_wide(x)), weight).to(bank.dtype)
    to_neighbours = cosine(torch.stack([before, behind], 1), both.unsqueeze(1))

    # order and similarities after a merge inside the bank: position i + 1 leaves, its slot comes last
    source = (place + (place > i)).clamp_(max=M - 1)
    moved = slots.gather(1, source)
    moved[:, -1] = right
    shifted = sims.gather(1, source)
    if M > 1:
        shifted[:, -2:-1] = fresh
    shifted.scatter_(1, i, to_neighbours[:, 1:])
    merged_sims = torch.where(tail, sims, shifted)
    merged_sims = torch.where(place == i - 1, to_neighbours[:, :1], merged_sims)

    if ts is not None and time is not None:
        t_x, t_y = ts[row, left], torch.where(last, time, ts[row, right])
        mean = (share * t_x + (1 - share) * t_y).to(ts.dtype) if stamp == "weighted" else t_x
        t_both = {"older": t_x, "newer": t_y, "weighted": mean}[stamp]
    if every:
        order.copy_(torch.where(tail, slots, moved))
        sims.copy_(merged_sims)
        # where the item itself was merged both writes are the same
        into, rows = torch.where(tail, left.unsqueeze(1), around[:, 1:3]), row.unsqueeze(1)
        bank[rows, into] = torch.stack([both, torch.where(_over(last, item), both, item)], 1)
        count[rows, into] = torch.stack([n_both, torch.where(last, n_both, 1)], 1)
        if ts is not None and time is not None:
            ts[rows, into] = torch.stack([t_both, torch.where(last, t_both, time)], 1)
        return
    act = torch.ones_like(full) if mask is None else mask
    merging, writes = act & full, act & ~(full & last)
    into = torch.where(full, right, slots[row, held.clamp(max=M - 1)])
    order.copy_(torch.where((merging & ~last).unsqueeze(1), moved, slots))
    grown_sims = torch.where(place == (held - 1).unsqueeze(1), fresh, sims)
    new_sims = torch.where(full.unsqueeze(1), merged_sims, grown_sims)
    sims.copy_(torch.where(act.unsqueeze(1), new_sims, sims))
    length.copy_(torch.where(act, (held + 1).clamp(max=M), held))
    if ts is not None and time is not None:
        _put(ts, left, t_both, merging)
        _put(ts, into, time, writes)
    _put(bank, left, both, merging)
    _put(bank, into, item, writes)
    _put(count, left, n_both, merging)
    _put(count, into, torch.ones_like(n_x), writes)


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """Mean over tokens of the cosine: (..., N, D) twice -> (...), float32 (float64 for float64); 0 for zero vectors."""
    alike = F.cosine_similarity(x.to(_wide(x)), y.to(_wide(y)), dim=-1, eps=_NORM_FLOOR)
    return alike.squeeze(-1) if alike.shape[-1] == 1 else alike.mean(-1)


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _over(x: Tensor, like: Tensor) -> Tensor:
    return x.view(-1, *[1] * (like.dim() - 1))


def _put(bank: Tensor, at: Tensor, item: Tensor, mask: Tensor) -> None:
    """Write item (B, ...) into slot ``at`` (B,) of the rows of ``mask``, in place."""
    index = at.long().view(-1, *[1] * (bank.dim() - 1)).expand(-1, 1, *bank.shape[2:])
    new = torch.where(_over(mask, bank), item.unsqueeze(1).to(bank.dtype), bank.gather(1, index))
    bank.scatter_(1, index, new)
