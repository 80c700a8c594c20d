"""Spec of `bank_write`: the ring and the merge of neighbours."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from embodied_mem.kernels._registry import BenchShape, Case, CompileCase, Inputs, OpSpec, Shape, register_op
from embodied_mem.kernels.ops.bank_write import bank_write
from embodied_mem.kernels.specs._draw import Draw

ALL = (torch.float32, torch.float16, torch.bfloat16)
MUTATED = ("bank", "length", "cursor", "ts", "order", "sims", "count")


def sample(shape: Shape, seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
    """B, M, N, D; ``policy``; ``length`` (None for full); ``mask``, ``weighted``, ``stamp``, ``ts``."""
    draw = Draw(seed, dtype, device)
    B, M, N, D = (shape[key] for key in ("B", "M", "N", "D"))
    merging = shape.get("policy", "fifo") == "merge_adjacent"
    bank, item = draw.normal(B, M, N, D), draw.normal(B, N, D)
    if shape.get("zeros"):
        bank[:, 0], item[0] = 0, 0
    held = shape.get("length")
    length = torch.full((B,), M if held is None or held == "mixed" else held, dtype=torch.int32, device=device)
    if held == "mixed":
        length = draw.integers(0, M + 1, B)
        length[-1] = M
    inputs: Inputs = {"bank": bank, "length": length, "item": item, "policy": shape.get("policy", "fifo")}
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    # only differences of time count; integers so that float32 holds them
    ts = draw.integers(0, 900, B, M).to(wide) if shape.get("ts", True) else None
    inputs["ts"], inputs["time"] = ts, None if ts is None else draw.integers(900, 999, B).to(wide)
    inputs["mask"] = draw.flags(0.6, B) if shape.get("mask") else None
    cursor = None if merging else draw.integers(0, M, B)
    order = sims = count = None
    if merging:
        rank = torch.rand(B, M, generator=draw.generator).argsort(1).to(device)
        order = rank.to(torch.int32)
        entries = bank.gather(1, rank.view(B, M, 1, 1).expand(-1, -1, N, D)).to(wide)
        sims = torch.zeros(B, M, dtype=wide, device=device)
        sims[:, :-1] = F.cosine_similarity(entries[:, 1:], entries[:, :-1], dim=-1, eps=1e-12).mean(-1)
        count = draw.integers(1, 6, B, M)
    inputs |= {"cursor": cursor, "order": order, "sims": sims, "count": count}
    return inputs | {"weighted": bool(shape.get("weighted")), "stamp": shape.get("stamp", "older")}


def oracle(
    bank: Tensor, length: Tensor, item: Tensor, policy: str, ts: Tensor | None, time: Tensor | None,
    mask: Tensor | None, cursor: Tensor | None, order: Tensor | None, sims: Tensor | None, count: Tensor | None,
    weighted: bool, stamp: str,
) -> None:  # fmt: skip
    """One row at a time with Python lists of entries; a merge computes all similarities anew."""
    M = bank.shape[1]
    for b in range(len(length)):
        if mask is not None and not mask[b]:
            continue
        n = int(length[b])
        if cursor is not None:
            at = int(cursor[b])
            bank[b, at] = item[b]
            if ts is not None and time is not None:
                ts[b, at] = time[b]
            cursor[b], length[b] = (at + 1) % M, min(n + 1, M)
            continue
        assert order is not None and sims is not None and count is not None
        slots = order[b].tolist()
        entries = [bank[b, slot].clone() for slot in slots[:n]] + [item[b]]
        times = [] if ts is None or time is None else [ts[b, slot].item() for slot in slots[:n]] + [time[b].item()]
        counts = [int(count[b, slot]) for slot in slots[:n]] + [1]
        places = slots[:n] + [slots[n] if n < M else -1]
        if n == M:
            alike = [_alike(entries[j], entries[j + 1]) for j in range(M)]
            i = alike.index(max(alike))
            share = counts[i] / (counts[i] + counts[i + 1]) if weighted else 0.5
            entries[i] = (share * entries[i] + (1 - share) * entries[i + 1]).to(bank.dtype)
            counts[i] += counts[i + 1]
            if times:
                mean = share * times[i] + (1 - share) * times[i + 1]
                times[i] = {"older": times[i], "newer": times[i + 1], "weighted": mean}[stamp]
            freed = places[i + 1]
            for values in (entries, counts, times, places):
                if values:
                    del values[i + 1]
            if freed >= 0:
                places[-1] = freed
        for j, slot in enumerate(places):
            order[b, j], bank[b, slot], count[b, slot] = slot, entries[j], counts[j]
            if times and ts is not None:
                ts[b, slot] = times[j]
        for j in range(len(entries) - 1):
            sims[b, j] = _alike(entries[j], entries[j + 1])
        length[b] = len(entries)


def _alike(x: Tensor, y: Tensor) -> float:
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    return F.cosine_similarity(x.to(wide), y.to(wide), dim=-1, eps=1e-12).mean().item()


def composed(
    bank: Tensor, length: Tensor, item: Tensor, policy: str, ts: Tensor | None, time: Tensor | None,
    mask: Tensor | None, cursor: Tensor | None, order: Tensor | None, sims: Tensor | None, count: Tensor | None,
    weighted: bool, stamp: str,
) -> None:  # fmt: skip
    """Full bank in order of time: append, all similarities, gather the survivors, copy back; or an indexed write.

    Times and counts of the entries go along, as in the operation.
    """
    rows = torch.arange(len(length), device=bank.device)
    if cursor is not None:
        bank[rows, cursor.long()] = item
        cursor.copy_((cursor + 1) % bank.shape[1])
        length.copy_((length + 1).clamp(max=bank.shape[1]))
        if ts is not None and time is not None:
            ts[rows, cursor.long()] = time
        return
    M = bank.shape[1]
    longer = torch.cat([bank, item.unsqueeze(1)], 1)
    i = F.cosine_similarity(longer[:, 1:], longer[:, :-1], dim=-1).mean(-1).argmax(1)
    place = torch.arange(M, device=bank.device)
    source = place + (place > i.unsqueeze(1)).long()
    kept = longer.gather(1, source.view(*source.shape, 1, 1).expand(-1, -1, *bank.shape[2:]))
    kept[rows, i] = (longer[rows, i] + longer[rows, i + 1]) / 2
    bank.copy_(kept)
    assert count is not None
    counts = torch.cat([count, torch.ones_like(count[:, :1])], 1)
    merged = counts[rows, i] + counts[rows, i + 1]
    count.copy_(counts.gather(1, source))
    count[rows, i] = merged
    if ts is not None and time is not None:
        ts.copy_(torch.cat([ts, time.unsqueeze(1)], 1).gather(1, source))


def op_args(inputs: Inputs) -> list[tuple[str, tuple[Any, ...]]]:
    """Arguments of both operators."""
    merge = sample({"B": 3, "M": 4, "N": 2, "D": 8, "policy": "merge_adjacent"}, 0, torch.float32, torch.device("cpu"))
    keys = ("bank", "length", "cursor", "ts", "item", "time", "mask")
    fifo = sample({"B": 3, "M": 4, "N": 2, "D": 8}, 0, torch.float32, torch.device("cpu"))
    both = ("bank", "length", "ts", "order", "sims", "count", "item", "time", "mask", "weighted", "stamp")
    return [
        ("embodied_mem::bank_write_fifo", tuple(fifo[key] for key in keys)),
        ("embodied_mem::bank_write_merge", tuple(merge[key] for key in both)),
    ]


def moved(inputs: Inputs) -> int:
    """An item read and written; a merge reads five entries more and writes one."""
    item = inputs["item"].numel() * inputs["item"].element_size()
    return (8 if inputs["policy"] == "merge_adjacent" else 2) * item


def compile_cases() -> list[CompileCase]:
    """The copy, the counters, and merges of one token and of many."""
    from embodied_mem.kernels.triton_ops import bank_write as kernel

    integers = dict.fromkeys(("M", "N", "D", "R", "B"), "i32")
    types = integers | dict.fromkeys(("length", "order", "count", "cursor"), "*i32")
    types |= {"bank": "*bf16", "item": "*bf16", "ts": "*fp32", "time": "*fp32", "sims": "*fp32", "mask": "*u8"}
    cases = [
        CompileCase(
            "fifo_bf16", kernel.fifo_kernel, types, {"HAS_TS": True, "HAS_MASK": True, "BLOCK": 1024}, 4, 1,
            ("M",), ("LDG.E.128", "STG.E.128"),
        ),
        CompileCase("counters", kernel.counters_kernel, types, {"HAS_MASK": True, "BLOCK": 256}, 2, 1, ("B",)),
    ]  # fmt: skip
    for name, M, N, D in (("merge_m64_d512", 64, 1, 512), ("merge_m16_n256_d1024", 16, 256, 1024)):
        BN, BD, warps = kernel.tiles(N, D)
        sizes = {"HAS_TS": True, "HAS_MASK": True, "WEIGHTED": True, "STAMP": 2, "BM": M, "BD": BD}
        archs = (80, 89, 90, 100) if N == 1 else (90,)
        constants = sizes | {"BN": BN}
        cases.append(CompileCase(name, kernel.merge_kernel, types, constants, warps, 1, ("N",), ("LDG.E.128",), archs))
    return cases


MERGE = {"policy": "merge_adjacent"}

register_op(
    OpSpec(
        name="bank_write",
        call=bank_write,
        schemas=("embodied_mem::bank_write_fifo", "embodied_mem::bank_write_merge"),
        sample=sample,
        op_args=op_args,
        oracle=oracle,
        composed=composed,
        edge_cases=(
            Case("fifo", {"B": 4, "M": 5, "N": 2, "D": 21, "mask": True, "length": "mixed"}, ALL),
            Case("fifo_one_slot", {"B": 1, "M": 1, "N": 1, "D": 3, "length": 0, "ts": False}),
            Case("fifo_large_item", {"B": 2, "M": 2, "N": 3, "D": 500}),
            Case("merge", {"B": 6, "M": 5, "N": 3, "D": 20, "mask": True, **MERGE}, ALL),
            Case("merge_filling", {"B": 6, "M": 4, "N": 2, "D": 8, "length": "mixed", **MERGE}),
            Case("merge_empty", {"B": 2, "M": 4, "N": 2, "D": 8, "length": 0, **MERGE}),
            Case("merge_one_held", {"B": 2, "M": 4, "N": 2, "D": 8, "length": 1, **MERGE}),
            Case("merge_weighted", {"B": 6, "M": 6, "N": 1, "D": 8, "weighted": True, "stamp": "weighted", **MERGE}),
            Case("merge_newer", {"B": 6, "M": 3, "N": 1, "D": 8, "stamp": "newer", **MERGE}),
            Case("merge_two_slots", {"B": 8, "M": 2, "N": 1, "D": 8, **MERGE}),
            Case("merge_one_slot", {"B": 2, "M": 1, "N": 1, "D": 8, **MERGE}),
            Case("merge_zero_vectors", {"B": 3, "M": 3, "N": 1, "D": 8, "zeros": True, **MERGE}),
            Case("merge_many_tokens", {"B": 2, "M": 4, "N": 40, "D": 64, **MERGE}),
        ),
        compile_cases=compile_cases,
        bench_shapes=(
            BenchShape(
                "merge_B64_M16_D128",
                {"B": 64, "M": 16, "N": 1, "D": 128, "ts": False, **MERGE},
                torch.float32,
                cpu=True,
            ),
            BenchShape("fifo_B64_M64_D128", {"B": 64, "M": 64, "N": 1, "D": 128, "ts": False}, torch.float32, cpu=True),
            BenchShape("merge_B1024_M64_D512", {"B": 1024, "M": 64, "N": 1, "D": 512, "ts": False, **MERGE}),
            BenchShape("merge_B64_M16_N256_D1024", {"B": 64, "M": 16, "N": 256, "D": 1024, "ts": False, **MERGE}),
            BenchShape("fifo_B4096_M256_D256", {"B": 4096, "M": 256, "N": 1, "D": 256, "ts": False}),
        ),
        bytes=moved,
        flops=lambda inputs: (12 if inputs["policy"] == "merge_adjacent" else 1) * inputs["item"].numel(),
        mutates=MUTATED,
        used_by=("embodied_mem.memory.ring",),
    )
)
