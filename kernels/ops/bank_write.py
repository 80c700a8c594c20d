"""Write one item per row into a bank, in place: a ring, or a bank that merges its most similar neighbours when full.

``fifo``: slot ``cursor`` gets the item, the cursor moves on around the ring, ``length`` grows up to M.

``merge_adjacent``: entries are kept in order of time by ``order`` (slots from old to new), so merging moves no
entry. A full
bank is seen with the item behind its last entry; of the M neighbouring pairs the first most similar one becomes one
entry in the slot of the older, and the item takes the slot that is freed. Similarity is the mean over tokens of
the cosine (0 for zero vectors). ``sims`` caches it for neighbours, so a step reads at most five entries and writes two.

    merged = (w_i x_i + w_{i+1} x_{i+1}) / (w_i + w_{i+1}),   w = 1 (average) or the steps merged so far (weighted)

Rows where ``mask`` is False stay untouched. A reset sets ``length`` to 0 and nothing else. Nothing here has a gradient:
inputs that require one raise, since a write in place would cut it silently. M up to 4096, tokens of up to 4096 numbers.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from embodied_mem.kernels._dispatch import inline, run_triton, unsupported_dtype
from embodied_mem.kernels.reference import bank_write as reference

__all__ = ["bank_write"]

STAMPS = ("older", "newer", "weighted")


def bank_write(
    bank: Tensor,
    length: Tensor,
    cursor: Tensor | None,
    ts: Tensor | None,
    item: Tensor,
    time: Tensor | None = None,
    mask: Tensor | None = None,
    policy: Literal["fifo", "merge_adjacent"] = "fifo",
    *,
    order: Tensor | None = None,
    sims: Tensor | None = None,
    count: Tensor | None = None,
    weighted: bool = False,
    stamp: Literal["older", "newer", "weighted"] = "older",
) -> None:
    """Write ``item`` into every row, in place; the policies are in the module docstring.

    Args:
        bank: (B, M, ...) float, contiguous; (B, M, N, D) or (B, M, D) for ``merge_adjacent``.
        length: (B,) int32, slots held.
        cursor: (B,) int32, the slot written next; ``fifo`` only.
        ts: (B, M) float32 or int32 times of the slots, or None.
        item: (B, ...), dtype of ``bank``.
        time: (B,) time of the item, dtype of ``ts``; with ``ts`` or not at all.
        mask: (B,) bool, rows that are written, None for all.
        policy: what a full bank does.
        order: (B, M) int32, a permutation of the slots, old to new; start with ``arange``. ``merge_adjacent`` only.
        sims: (B, M) float32 cache of similarities; any numbers while empty. ``merge_adjacent`` only.
        count: (B, M) int32, steps merged into every slot. ``merge_adjacent`` only.
        weighted: merge by ``count`` instead of by halves.
        stamp: time of a merged entry: of the older, of the newer, or their mean by the same weights (float ``ts``).

    Raises:
        ValueError: shapes, dtypes or arguments disagree, or an input requires a gradient.

    >>> bank, length = torch.zeros(1, 2, 1), torch.zeros(1, dtype=torch.int32)
    >>> cursor = torch.zeros(1, dtype=torch.int32)
    >>> for number in (1.0, 2.0, 3.0):
    ...     bank_write(bank, length, cursor, None, torch.full((1, 1), number))
    >>> bank.flatten().tolist(), length.item(), cursor.item()
    ([3.0, 2.0], 2, 1)
    """
    _check(bank, length, ts, item, time, mask)
    plain = inline("bank_write", bank)
    if policy == "fifo":
        if cursor is None or cursor.shape != length.shape:
            raise ValueError(f"expected a cursor of shape {tuple(length.shape)} for fifo, got {_shape(cursor)}")
        write = reference.fifo if plain else torch.ops.embodied_mem.bank_write_fifo
        write(bank, length, cursor, ts, item, time, mask)
        return
    if policy != "merge_adjacent":
        raise ValueError(f"expected policy fifo or merge_adjacent, got {policy!r}")
    if stamp not in STAMPS or (stamp == "weighted" and ts is not None and not ts.is_floating_point()):
        raise ValueError(f"expected stamp of {', '.join(STAMPS)} (weighted with float times), got {stamp!r}")
    if order is None or sims is None or count is None or not order.shape == sims.shape == count.shape == bank.shape[:2]:
        raise ValueError(
            f"expected order, sims and count of shape {tuple(bank.shape[:2])} for merge_adjacent, "
            f"got {_shape(order)}, {_shape(sims)}, {_shape(count)}"
        )
    if bank.dim() not in (3, 4):
        raise ValueError(f"expected a bank (B, M, D) or (B, M, N, D) for merge_adjacent, got {tuple(bank.shape)}")
    if bank.dim() == 3:
        bank, item = bank.unsqueeze(2), item.unsqueeze(1)
    merge = reference.merge if plain else torch.ops.embodied_mem.bank_write_merge
    merge(bank, length, ts, order, sims, count, item, time, mask, weighted, stamp)


def _shape(x: Tensor | None) -> str:
    return "None" if x is None else str(tuple(x.shape))


def _check(
    bank: Tensor, length: Tensor, ts: Tensor | None, item: Tensor, time: Tensor | None, mask: Tensor | None
) -> None:
    B, M, *entry = bank.shape
    if item.shape != (B, *entry) or item.dtype != bank.dtype or not bank.is_contiguous():
        raise ValueError(
            f"expected a contiguous bank (B, M, ...) and an item (B, ...) of its dtype, "
            f"got {tuple(bank.shape)} {bank.dtype} and {tuple(item.shape)} {item.dtype}"
        )
    if (ts is None) != (time is None):
        raise ValueError("expected ts and time together, got one of them")
    if length.shape != (B,):
        raise ValueError(f"expected length of shape {(B,)}, got {tuple(length.shape)}")
    if ts is not None or mask is not None:
        for name, found, want in (("ts", ts, (B, M)), ("time", time, (B,)), ("mask", mask, (B,))):
            if found is not None and found.shape != want:
                raise ValueError(f"expected {name} of shape {want}, got {tuple(found.shape)}")
    if torch.is_grad_enabled() and (bank.requires_grad or item.requires_grad):
        raise ValueError("expected a bank and an item without gradient, which a write in place would cut; detach them")


_KEPT = "Tensor item, Tensor? time, Tensor? mask"


@torch.library.custom_op(
    "embodied_mem::bank_write_fifo",
    mutates_args=("bank", "length", "cursor", "ts"),
    schema=f"(Tensor(a!) bank, Tensor(b!) length, Tensor(c!) cursor, Tensor(d!)? ts, {_KEPT}) -> ()",
)
def _fifo(
    bank: Tensor,
    length: Tensor,
    cursor: Tensor,
    ts: Tensor | None,
    item: Tensor,
    time: Tensor | None,
    mask: Tensor | None,
) -> None:
    _check(bank, length, ts, item, time, mask)
    if run_triton("bank_write_fifo", bank, unsupported_dtype(bank)):
        from embodied_mem.kernels.triton_ops import bank_write as kernel

        kernel.fifo(bank, length, cursor, ts, item, time, mask)
    else:
        reference.fifo(bank, length, cursor, ts, item, time, mask)


@_fifo.register_fake
def _(
    bank: Tensor,
    length: Tensor,
    cursor: Tensor,
    ts: Tensor | None,
    item: Tensor,
    time: Tensor | None,
    mask: Tensor | None,
) -> None:
    _check(bank, length, ts, item, time, mask)


@torch.library.custom_op(
    "embodied_mem::bank_write_merge",
    mutates_args=("bank", "length", "ts", "order", "sims", "count"),
    schema="(Tensor(a!) bank, Tensor(b!) length, Tensor(c!)? ts, Tensor(d!) order, Tensor(e!) sims, "
    f"Tensor(f!) count, {_KEPT}, bool weighted, str stamp) -> ()",
)
def _merge(
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
    _check(bank, length, ts, item, time, mask)
    too_wide = "more than 4096 slots or token numbers" if max(bank.shape[1], bank.shape[3]) > 4096 else ""
    if run_triton("bank_write_merge", bank, unsupported_dtype(bank) or too_wide):
        from embodied_mem.kernels.triton_ops import bank_write as kernel

        kernel.merge(bank, length, ts, order, sims, count, item, time, mask, weighted, stamp)
    else:
        reference.merge(bank, length, ts, order, sims, count, item, time, mask, weighted, stamp)


@_merge.register_fake
def _(
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
    _check(bank, length, ts, item, time, mask)
