"""Triton kernels of `ops.bank_write`: a row of a ring, and the merge of neighbours with cached similarities.

The merge runs one program per row: it reads the newest entry and the item, finds the pair from the cached
similarities, and then passes once over the tokens of the entries concerned. Loads and stores that touch the same memory
are separated by barriers.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

import torch
import triton
import triton.language as tl

_BLOCK = 1024


@triton.jit
def fifo_kernel(
    bank, cursor, ts, item, time, mask, M, R, HAS_TS: tl.constexpr, HAS_MASK: tl.constexpr, BLOCK: tl.constexpr
):
    """Copy a block of the item into its slot; grid (B, blocks of the R numbers of a slot)."""
    b = tl.program_id(0).to(tl.int64)
    act = 1
    if HAS_MASK:
        act = tl.load(mask + b).to(tl.int32)
    if act != 0:
        at = b * M + tl.load(cursor + b)
        r = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        tl.store(bank + at * R + r, tl.load(item + b * R + r, mask=r < R), mask=r < R)
        if HAS_TS:
            if tl.program_id(1) == 0:
                tl.store(ts + at, tl.load(time + b))


@triton.jit
def counters_kernel(length, cursor, mask, B, M, HAS_MASK: tl.constexpr, BLOCK: tl.constexpr):
    """Move cursors and lengths on, after all blocks were copied."""
    b = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    act = b < B
    if HAS_MASK:
        act = act & (tl.load(mask + b, mask=act, other=0) != 0)
    at = tl.load(cursor + b, mask=act, other=0) + 1
    held = tl.load(length + b, mask=act, other=0) + 1
    tl.store(cursor + b, tl.where(at >= M, 0, at), mask=act)
    tl.store(length + b, tl.minimum(held, M), mask=act)


@triton.jit
def _tokens(pointer, first, N, D, BN: tl.constexpr, BD: tl.constexpr):
    n = first + tl.arange(0, BN)
    d = tl.arange(0, BD)
    mask = (n < N)[:, None] & (d < D)[None, :]
    return tl.load(pointer + n[:, None].to(tl.int64) * D + d[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _write(pointer, values, first, N, D, BN: tl.constexpr, BD: tl.constexpr):
    n = first + tl.arange(0, BN)
    d = tl.arange(0, BD)
    mask = (n < N)[:, None] & (d < D)[None, :]
    tl.store(pointer + n[:, None].to(tl.int64) * D + d[None, :], values.to(pointer.dtype.element_ty), mask=mask)


@triton.jit
def _cosines(x, y):
    """Sum over the tokens of a tile of their cosines."""
    size_x = tl.maximum(tl.sqrt(tl.sum(x * x, 1)), 1e-6)
    size_y = tl.maximum(tl.sqrt(tl.sum(y * y, 1)), 1e-6)
    return tl.sum(tl.sum(x * y, 1) / (size_x * size_y), 0)


@triton.jit
def merge_kernel(
    bank, length, ts, order, sims, count, item, time, mask, M, N, D,
    HAS_TS: tl.constexpr, HAS_MASK: tl.constexpr, WEIGHTED: tl.constexpr, STAMP: tl.constexpr, BM: tl.constexpr,
    BN: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Write one item per row, merging neighbours where the bank is full; grid (B,)."""
    b = tl.program_id(0).to(tl.int64)
    act = 1
    if HAS_MASK:
        act = tl.load(mask + b).to(tl.int32)
    if act != 0:
        R = tl.full((), N, tl.int64) * D
        bank += b * M * R
        item += b * R
        order += b * M
        sims += b * M
        count += b * M
        held = tl.load(length + b)
        fresh = tl.full((), 0.0, tl.float32)
        if held > 0:
            newest = bank + tl.load(order + held - 1) * R
            for first in range(0, N, BN):
                fresh += _cosines(_tokens(newest, first, N, D, BN, BD), _tokens(item, first, N, D, BN, BD))
        fresh = fresh / N
        place = tl.arange(0, BM)
        if held < M:
            slot = tl.load(order + held)
            for first in range(0, N, BN):
                _write(bank + slot * R, _tokens(item, first, N, D, BN, BD), first, N, D, BN, BD)
            if held > 0:
                tl.store(sims + held - 1, fresh)
            tl.store(count + slot, 1)
            tl.store(length + b, held + 1)
            if HAS_TS:
                tl.store(ts + b * M + slot, tl.load(time + b))
        else:
            pairs = tl.load(sims + place, mask=place < M - 1, other=float("-inf"))
            pairs = tl.where(place == M - 1, fresh, pairs)
            i = tl.argmax(pairs, 0)
            last = i == M - 1
            left = tl.load(order + i)
            right = tl.load(order + tl.minimum(i + 1, M - 1))
            n_left = tl.load(count + left)
            n_right = tl.where(last, 1, tl.load(count + right))
            share = tl.full((), 0.5, tl.float32)
            if WEIGHTED:
                share = n_left.to(tl.float32) / (n_left + n_right).to(tl.float32)
            before = bank + tl.load(order + tl.maximum(i - 1, 0)) * R
            behind = bank + tl.load(order + tl.minimum(i + 2, M - 1)) * R
            to_before = tl.full((), 0.0, tl.float32)
            to_behind = tl.full((), 0.0, tl.float32)
            for first in range(0, N, BN):
                new = _tokens(item, first, N, D, BN, BD)
                x = _tokens(bank + left * R, first, N, D, BN, BD)
                y = tl.where(last, new, _tokens(bank + right * R, first, N, D, BN, BD))
                # rounded as it is stored, so that the cached similarities are those of what is held
                both = (share * x + (1.0 - share) * y).to(bank.dtype.element_ty).to(tl.float32)
                to_before += _cosines(_tokens(before, first, N, D, BN, BD), both)
                other = tl.where(i + 2 >= M, new, _tokens(behind, first, N, D, BN, BD))
                to_behind += _cosines(both, other)
                tl.debug_barrier()
                _write(bank + left * R, both, first, N, D, BN, BD)
                if last == 0:
                    _write(bank + right * R, new, first, N, D, BN, BD)
            step = (place > i).to(tl.int32)
            moved = tl.load(order + place + step, mask=place + step < M, other=0)
            moved = tl.where(place == M - 1, right, moved)
            shifted = tl.load(sims + place + step, mask=place + step < M - 1, other=0.0)
            shifted = tl.where(place == M - 2, fresh, shifted)
            shifted = tl.where(place == i, to_behind / N, shifted)
            kept = tl.load(sims + place, mask=place < M, other=0.0)
            shifted = tl.where(last, kept, shifted)
            shifted = tl.where(place == i - 1, to_before / N, shifted)
            if HAS_TS:
                t_left = tl.load(ts + b * M + left)
                now = tl.load(time + b)
                t_right = tl.where(last, now, tl.load(ts + b * M + right))
                stamp = t_left
                if STAMP == 1:
                    stamp = t_right
                if STAMP == 2:
                    stamp = share * t_left + (1.0 - share) * t_right
            tl.debug_barrier()
            tl.store(sims + place, shifted, mask=place < M - 1)
            tl.store(count + left, n_left + n_right)
            if HAS_TS:
                tl.store(ts + b * M + left, stamp)
            if last == 0:
                tl.store(order + place, moved, mask=place < M)
                tl.store(count + right, 1)
                if HAS_TS:
                    tl.store(ts + b * M + right, now)


def _bytes(mask):
    return None if mask is None else mask.contiguous().view(torch.uint8)


def fifo(bank, length, cursor, ts, item, time, mask) -> None:
    """Launch; shapes as in `ops.bank_write`."""
    B, M = bank.shape[:2]
    R = item[0].numel()
    block = min(_BLOCK, max(32, triton.next_power_of_2(R)))
    item, flags = item.contiguous(), _bytes(mask)
    some = {"HAS_MASK": flags is not None}
    flags = length if flags is None else flags
    fifo_kernel[(B, triton.cdiv(R, block))](
        bank, cursor, bank if ts is None else ts, item, item if time is None else time, flags, M, R,
        HAS_TS=ts is not None, BLOCK=block, num_warps=4 if block >= 512 else 1, **some,
    )  # fmt: skip
    counters_kernel[(triton.cdiv(B, 256),)](length, cursor, flags, B, M, BLOCK=256, num_warps=2, **some)


def tiles(N: int, D: int) -> tuple[int, int, int]:
    """Return tokens and numbers of a tile, and warps: eight numbers per thread, one 16-byte load of a half type."""
    BD = max(16, triton.next_power_of_2(D))
    BN = max(1, min(16, 2048 // BD, triton.next_power_of_2(N)))
    return BN, BD, max(1, min(8, BN * BD // 256))


def merge(bank, length, ts, order, sims, count, item, time, mask, weighted: bool, stamp: str) -> None:
    """Launch; bank (B, M, N, D)."""
    B, M, N, D = bank.shape
    BN, BD, warps = tiles(N, D)
    item, flags = item.contiguous(), _bytes(mask)
    merge_kernel[(B,)](
        bank, length, bank if ts is None else ts, order, sims, count, item, item if time is None else time,
        length if flags is None else flags, M, N, D, HAS_TS=ts is not None, HAS_MASK=flags is not None,
        WEIGHTED=weighted, STAMP=("older", "newer", "weighted").index(stamp), BM=max(16, triton.next_power_of_2(M)),
        BN=BN, BD=BD, num_warps=warps,
    )  # fmt: skip
