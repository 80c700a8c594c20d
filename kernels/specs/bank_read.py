"""Spec of `bank_read`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from embodied_mem.kernels._registry import BenchShape, Case, CompileCase, Inputs, OpSpec, Shape, register_op
from embodied_mem.kernels.ops.bank_read import BankRead, bank_read
from embodied_mem.kernels.specs._draw import Draw, numbers, offset_view

ALL = (torch.float32, torch.float16, torch.bfloat16)


def sample(shape: Shape, seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
    """B, M, Q, H, d; ``tokens``, ``pe`` rows, ``topk``, ``valid`` rate, ``length``, ``scores``."""
    draw = Draw(seed, dtype, device)
    B, M, Q, H, d = (shape[key] for key in ("B", "M", "Q", "H", "d"))
    tokens = shape.get("tokens", 1)
    q, k, v = draw.normal(B, Q, H, d), draw.normal(B, M * tokens, H, d), draw.normal(B, M * tokens, H, d)
    wanted = shape.get("length", "mixed")
    if wanted == "mixed":
        length = draw.integers(0, M + 1, B)
        length[0], length[-1] = M, min(1, M) if B > 1 else M
    elif wanted == "half":
        length = torch.full((B,), M // 2, dtype=torch.int32, device=device)
    else:
        length = torch.full((B,), wanted, dtype=torch.int32, device=device)
    ts = pe = valid = None
    if shape.get("pe"):
        ts, pe = draw.integers(0, shape["pe"], B, M), draw.normal(shape["pe"], H, d)
    if shape.get("valid"):
        valid = draw.flags(shape["valid"], B, shape.get("valid_rows", Q), M)
    if shape.get("scores") == "huge":
        q = q * 1e2
    if shape.get("scores") == "equal":
        q = torch.zeros_like(q)
    if shape.get("offset"):
        q, k, v = offset_view(q), offset_view(k), offset_view(v)
    if shape.get("poison"):
        empty = torch.arange(M, device=device).repeat_interleave(tokens) >= length.unsqueeze(1)
        k[empty], v[empty] = float("nan"), float("inf")
        if ts is not None:
            ts[torch.arange(M, device=device) >= length.unsqueeze(1)] = 10**6
    return {
        "q": q, "k_bank": k, "v_bank": v, "length": length, "ts": ts, "pe": pe, "topk": shape.get("topk"),
        "valid": valid, "tokens_per_slot": tokens,
    }  # fmt: skip


def oracle(
    q: Tensor,
    k_bank: Tensor,
    v_bank: Tensor,
    length: Tensor,
    ts: Tensor | None = None,
    pe: Tensor | None = None,
    topk: int | None = None,
    *,
    valid: Tensor | None = None,
    tokens_per_slot: int = 1,
) -> BankRead:
    """The equation, one query of one head of one row at a time."""
    B, Q, H, d = q.shape
    out, lse = torch.zeros_like(q), q.new_full((B, Q, H), -torch.inf)
    index = None if topk is None else torch.full((B, Q, H, topk), -1, device=q.device)
    weight = None if topk is None else q.new_zeros(B, Q, H, topk)
    for b in range(B):
        for i in range(Q):
            slots = [
                m for m in range(int(length[b])) if valid is None or bool(valid[b, i if valid.shape[1] > 1 else 0, m])
            ]
            at = [m * tokens_per_slot + n for m in slots for n in range(tokens_per_slot)]
            for h in range(H):
                if not at:
                    continue
                keys = k_bank[b, at, h]
                if pe is not None and ts is not None:
                    keys = keys + pe[[int(ts[b, a // tokens_per_slot]) for a in at], h]
                scores = keys @ q[b, i, h] * d**-0.5
                chosen = torch.arange(len(at))
                if topk is not None and index is not None and weight is not None:
                    chosen = scores.sort(descending=True, stable=True).indices[:topk]
                    index[b, i, h, : len(chosen)] = torch.tensor(at)[chosen]
                picked = scores[chosen]
                lse[b, i, h] = picked.logsumexp(0)
                out[b, i, h] = picked.softmax(0) @ v_bank[b, torch.tensor(at)[chosen], h]
                if weight is not None:
                    weight[b, i, h, : len(chosen)] = picked.softmax(0)
    return BankRead(out, lse, index, weight)


def composed(
    q: Tensor,
    k_bank: Tensor,
    v_bank: Tensor,
    length: Tensor,
    ts: Tensor | None = None,
    pe: Tensor | None = None,
    topk: int | None = None,
    *,
    valid: Tensor | None = None,
    tokens_per_slot: int = 1,
) -> Tensor:
    """Add codes to a copy of the bank, mask all slots, softmax over all of them."""
    held = (torch.arange(k_bank.shape[1] // tokens_per_slot, device=q.device) < length.unsqueeze(1)).unsqueeze(1)
    seen = (held if valid is None else held & valid).repeat_interleave(tokens_per_slot, -1).unsqueeze(1)
    if pe is not None and ts is not None:
        k_bank = k_bank + pe[ts.long()].repeat_interleave(tokens_per_slot, 1)
    here = held.repeat_interleave(tokens_per_slot, -1).transpose(1, 2).unsqueeze(-1)
    k_bank, v_bank = k_bank.masked_fill(~here, 0), v_bank.masked_fill(~here, 0)
    scores = torch.einsum("bqhd,bmhd->bhqm", q, k_bank) * q.shape[-1] ** -0.5
    scores = scores.masked_fill(~seen, -torch.inf)
    if topk is not None:
        least = scores.topk(min(topk, scores.shape[-1]), -1).values[..., -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
    weights = torch.nan_to_num(scores.softmax(-1))
    return torch.einsum("bhqm,bmhd->bqhd", weights, v_bank)


def attention(
    q: Tensor, k_bank: Tensor, v_bank: Tensor, length: Tensor, ts: Tensor | None = None, pe: Tensor | None = None,
    topk: int | None = None, *, valid: Tensor | None = None, tokens_per_slot: int = 1,
) -> Tensor:  # fmt: skip
    """`scaled_dot_product_attention` with a bool mask; no ``topk``."""
    held = (torch.arange(k_bank.shape[1] // tokens_per_slot, device=q.device) < length.unsqueeze(1)).unsqueeze(1)
    seen = (held if valid is None else held & valid).repeat_interleave(tokens_per_slot, -1).unsqueeze(1)
    if pe is not None and ts is not None:
        k_bank = k_bank + pe[ts.long()].repeat_interleave(tokens_per_slot, 1)
    q, k, v = (z.transpose(1, 2) for z in (q, k_bank, v_bank))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen.expand(-1, 1, q.shape[2], -1)).transpose(1, 2)


def op_args(inputs: Inputs) -> list[tuple[str, tuple[Any, ...]]]:
    """Arguments of the operators behind it."""
    q, k, v, length, ts, pe, valid = (inputs[n] for n in ("q", "k_bank", "v_bank", "length", "ts", "pe", "valid"))
    tail = (length, ts, pe, valid, q.shape[-1] ** -0.5, inputs["tokens_per_slot"])
    given: dict[str, Any] = {name: z.detach() if torch.is_tensor(z) else z for name, z in inputs.items()}
    found = oracle(**given)
    plain = [z.detach() for z in (q, k, v)]
    lse = found.lse if q.dtype == torch.float64 else None if found.lse is None else found.lse.float()
    grads = (torch.ones_like(plain[0]), torch.ones_like(lse) if lse is not None else None)
    fixed = (length, ts, None if pe is None else pe.detach(), valid, *tail[4:])
    return [
        ("embodied_mem::bank_read", (q, k, v, *tail)),
        ("embodied_mem::bank_read_backward", (*grads, *plain, found.out, lse, *fixed)),
        ("embodied_mem::bank_top", (*plain[:2], *fixed, 2)),
    ]


def moved(inputs: Inputs) -> int:
    """q and out, the slots held of keys and values, codes and times."""
    k = inputs["k_bank"]
    held = int(inputs["length"].sum()) * inputs["tokens_per_slot"] * k.shape[2] * k.shape[3] * k.element_size()
    times = 0 if inputs["ts"] is None else int(inputs["length"].sum()) * 4
    return 2 * numbers(inputs["q"]) + 2 * held + times + numbers(inputs["pe"])


def flops(inputs: Inputs) -> int:
    """Two products of every query with every slot held."""
    _, Q, H, d = inputs["q"].shape
    return 4 * int(inputs["length"].sum()) * inputs["tokens_per_slot"] * Q * H * d


def compile_cases() -> list[CompileCase]:
    """Few queries and a tile of 64; bfloat16 and float32; both backward kernels and the keys of a top-k."""
    from embodied_mem.kernels.triton_ops import bank_read as kernel

    strides = ("q_row", "q_query", "q_head", "k_row", "k_key", "k_head", "v_row", "v_key", "v_head", "ts_row",
               "pe_code", "pe_head", "s_row", "s_query", "s_slot")  # fmt: skip
    integers = dict.fromkeys((*strides, "Q", "H", "D", "K", "tokens", "rows", "parts"), "i32")
    common = integers | {"length": "*i32", "ts": "*i32", "valid": "*u8", "lse": "*fp32", "delta": "*fp32",
                         "packed": "*i64", "scale": "fp32"}  # fmt: skip
    odd = ("Q", "H", "K", "tokens", "rows", "parts", "ts_row", "s_row", "s_query", "s_slot")
    cases = []
    for name, kind, Q, D, everywhere, expect in (
        ("q4_d64_bf16", "bf16", 4, 64, True, ("HMMA",)),
        ("q4_d64_fp32", "fp32", 4, 64, False, ()),
        ("q256_d256_bf16", "bf16", 256, 256, False, ("HGMMA",)),
        ("q64_d128_bf16", "bf16", 64, 128, False, ("HGMMA",)),
    ):
        pointers = dict.fromkeys(("q", "k", "v", "pe", "out", "d_out", "dq", "dv"), f"*{kind}") | {"dk": "*fp32"}
        BQ, BM, BD, warps = kernel.tiles(Q, D, 2 if kind == "bf16" else 4)
        sizes = {"HAS_PE": True, "HAS_VALID": False, "UPCAST": kind == "fp32", "BQ": BQ, "BM": BM, "BD": BD}
        back = sizes | {"BQ": min(BQ, 32), "BM": min(BM, 32)}
        for part, function, constants, wanted in (
            ("forward", kernel.forward_kernel, sizes, expect),
            ("backward_keys", kernel.keys_backward_kernel, back, ()),
            ("backward_queries", kernel.queries_backward_kernel, back, ()),
            ("top", kernel.keys_kernel, sizes, expect),
        ):
            if part == "top" and not everywhere:
                continue
            archs = (80, 89, 90, 100) if everywhere and part == "forward" else (90,)
            types = common | pointers
            cases.append(CompileCase(f"{part}_{name}", function, types, constants, warps, 2, odd, wanted, archs))
    return cases


register_op(
    OpSpec(
        name="bank_read",
        call=bank_read,
        schemas=("embodied_mem::bank_read", "embodied_mem::bank_read_backward", "embodied_mem::bank_top"),
        sample=sample,
        op_args=op_args,
        oracle=oracle,
        composed=composed,
        edge_cases=(
            Case("plain", {"B": 3, "M": 7, "Q": 3, "H": 2, "d": 8, "pe": 5}, ALL),
            Case("topk", {"B": 3, "M": 9, "Q": 2, "H": 2, "d": 8, "topk": 3, "pe": 5}),
            Case("tokens", {"B": 2, "M": 5, "Q": 4, "H": 1, "d": 16, "tokens": 4, "pe": 9, "poison": True}),
            Case("valid", {"B": 2, "M": 20, "Q": 5, "H": 2, "d": 8, "valid": 0.5}),
            Case("valid_shared", {"B": 2, "M": 20, "Q": 5, "H": 2, "d": 8, "valid": 0.5, "valid_rows": 1}),
            Case("nothing_held", {"B": 2, "M": 6, "Q": 2, "H": 1, "d": 8, "length": 0, "poison": True}),
            Case("nothing_held_topk", {"B": 2, "M": 6, "Q": 2, "H": 1, "d": 8, "length": 0, "topk": 9, "poison": True}),
            Case("one_of_one", {"B": 1, "M": 1, "Q": 1, "H": 1, "d": 80}),
            Case("many_queries", {"B": 1, "M": 70, "Q": 40, "H": 1, "d": 32, "length": 65}),
            Case("huge_scores", {"B": 2, "M": 12, "Q": 2, "H": 2, "d": 8, "scores": "huge"}),
            Case("equal_scores_topk", {"B": 2, "M": 12, "Q": 2, "H": 2, "d": 8, "scores": "equal", "topk": 5}),
            Case("offset_views", {"B": 2, "M": 9, "Q": 3, "H": 2, "d": 8, "offset": True}),
            Case("split", {"B": 1, "M": 600, "Q": 2, "H": 1, "d": 16, "length": 570}),
            Case("d128", {"B": 2, "M": 40, "Q": 20, "H": 2, "d": 128}, ALL, full=True),
            Case("d256", {"B": 1, "M": 40, "Q": 70, "H": 1, "d": 256}, ALL, full=True),
        ),
        compile_cases=compile_cases,
        bench_shapes=(
            BenchShape(
                "B64_M64_Q1_D128", {"B": 64, "M": 64, "Q": 1, "H": 2, "d": 64, "pe": 128}, torch.float32, cpu=True
            ),
            BenchShape(
                "B1024_M128_Q4_D512", {"B": 1024, "M": 128, "Q": 4, "H": 8, "d": 64, "pe": 512, "length": "half"}
            ),
            BenchShape(
                "B4096_M256_Q1_D256", {"B": 4096, "M": 256, "Q": 1, "H": 4, "d": 64, "pe": 512, "length": "half"}
            ),
            BenchShape(
                "B1024_M1024_Q16_D512", {"B": 1024, "M": 1024, "Q": 16, "H": 8, "d": 64, "pe": 1024, "length": "half"}
            ),
            BenchShape(
                "perceptual_B64_S16x256_Q256_D1024",
                {"B": 64, "M": 16, "Q": 256, "H": 4, "d": 256, "tokens": 256, "pe": 512, "length": 12},
            ),
        ),
        bytes=moved,
        flops=flops,
        grads=("q", "k_bank", "v_bank", "pe"),
        baselines={"sdpa": attention},
        used_by=("embodied_mem.memory.perceptual_cognitive_bank",),
    )
)
