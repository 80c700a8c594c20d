"""Spec of `hcam_read`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from embodied_mem.kernels._registry import BenchShape, Case, CompileCase, Inputs, OpSpec, Shape, register_op
from embodied_mem.kernels.ops.hcam_read import hcam_read
from embodied_mem.kernels.specs._draw import Draw, numbers

ALL = (torch.float32, torch.float16, torch.bfloat16)


def sample(shape: Shape, seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
    """B, N, C, D, Q, H, k; ``visible`` rate (default 0.7); scores lie apart, so that no choice is close."""
    draw = Draw(seed, dtype, device)
    B, N, C, D, Q, H = (shape[key] for key in ("B", "N", "C", "D", "Q", "H"))
    # the score of chunk j is its rank in a random order plus a little: half types choose the same chunks
    rank = torch.rand(B, Q, N, generator=draw.generator).argsort(-1).to(device, dtype) * 0.5
    return {
        "query": draw.normal(B, Q, D, scale=0.1 * D**-0.5),
        "detail": draw.normal(B, Q, H, D, scale=D**-0.5),
        "summary": draw.normal(B, N, D, scale=0.1),
        "contents": draw.normal(B, N, C, D),
        "code": draw.normal(C, D),
        "visible": draw.flags(shape.get("visible", 0.7), B, Q, N),
        "k": shape["k"],
        "bias": rank,
    }


def oracle(
    query: Tensor, detail: Tensor, summary: Tensor, contents: Tensor, code: Tensor, visible: Tensor, k: int,
    bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The equation, one query of one row at a time."""
    B, Q, H, D = detail.shape
    found = []
    for b in range(B):
        for i in range(Q):
            scores = summary[b] @ query[b, i] + (0 if bias is None else bias[b, i])
            ranked = scores.detach()
            held = [j for j in range(len(scores)) if visible[b, i, j]]
            order = sorted(held, key=lambda j: -float(ranked[j]))[:k]
            shares = scores[order].softmax(0) if order else scores[:0]
            for h in range(H):
                total = torch.zeros_like(detail[b, i, h])
                for share, j in zip(shares, order):
                    items = contents[b, j] + code
                    total = total + share * ((items @ detail[b, i, h]).softmax(0) @ items)
                found.append(total)
    return torch.stack(found).view(B, Q, H, D)


def composed(
    query: Tensor, detail: Tensor, summary: Tensor, contents: Tensor, code: Tensor, visible: Tensor, k: int,
    bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Scores of all chunks, a gathered copy of the best, attention over it."""
    scores = query @ summary.transpose(1, 2)
    scores = scores if bias is None else scores + bias
    best, index = scores.masked_fill(~visible, -torch.inf).topk(min(k, summary.shape[1]), -1)
    weight = torch.nan_to_num(best.softmax(-1))
    rows = torch.arange(len(query), device=query.device).view(-1, 1, 1)
    items = contents[rows, index] + code
    inner = torch.einsum("bqhd,bqkcd->bqhkc", detail, items).softmax(-1)
    return torch.einsum("bqhkc,bqk,bqkcd->bqhd", inner, weight, items)


def op_args(inputs: Inputs) -> list[tuple[str, tuple[Any, ...]]]:
    """Arguments of the operators behind it."""
    detail, contents, code = (inputs[name] for name in ("detail", "contents", "code"))
    (B, Q, _, _), k = detail.shape, inputs["k"]
    draw = torch.Generator().manual_seed(0)
    index = torch.rand(B, Q, contents.shape[1], generator=draw).argsort(-1)[..., :k].contiguous()
    weight = torch.rand(B, Q, k, generator=draw).to(detail.dtype).softmax(-1).requires_grad_(detail.requires_grad)
    plain = [z.detach() for z in (detail, contents, code, index, weight)]
    return [
        ("embodied_mem::hcam_inside", (detail, contents, code, index, weight)),
        ("embodied_mem::hcam_inside_backward", (torch.ones_like(plain[0]), *plain, True)),
    ]


def moved(inputs: Inputs) -> int:
    """Summaries, the chunks chosen, queries and results."""
    B, _, C, D = inputs["contents"].shape
    Q, k = inputs["query"].shape[1], min(inputs["k"], inputs["contents"].shape[1])
    chosen = B * Q * k * C * D * inputs["contents"].element_size()
    return chosen + numbers(inputs["query"], inputs["detail"], inputs["detail"], inputs["summary"], inputs["code"])


def flops(inputs: Inputs) -> int:
    """Scores of summaries, and two products with every item chosen."""
    B, N, C, D = inputs["contents"].shape
    Q, H, k = inputs["query"].shape[1], inputs["detail"].shape[2], min(inputs["k"], N)
    return 2 * B * Q * N * D + 4 * B * Q * H * k * C * D


def compile_cases() -> list[CompileCase]:
    """Chunks of 32 x 256 and of 16 x 64, both directions."""
    from embodied_mem.kernels.triton_ops import hcam_read as kernel

    integers = dict.fromkeys(("Q", "H", "N", "C", "D", "K"), "i32")
    cases = []
    for name, kind, C, D, archs in (
        ("c32_d256_bf16", "bf16", 32, 256, (80, 89, 90, 100)),
        ("c16_d64_fp32", "fp32", 16, 64, (90,)),
    ):
        pointers = dict.fromkeys(("detail", "contents", "code", "weight", "found", "grad", "d_detail"), f"*{kind}")
        types = integers | pointers | {"index": "*i64", "d_weight": "*fp32", "d_contents": "*fp32"}
        BC, BD, warps = kernel.tiles(C, D)
        sizes = {"TF32": kind == "bf16", "BH": 16, "BC": BC, "BD": BD, "WANT": True}
        odd, expect = ("Q", "H", "N", "K"), ("HMMA",) if kind == "bf16" else ()
        for part, function in (("forward", kernel.forward_kernel), ("backward", kernel.backward_kernel)):
            targets = archs if part == "forward" else (90,)
            cases.append(CompileCase(f"{part}_{name}", function, types, sizes, warps, 2, odd, expect, targets))
    return cases


SMALL = {"B": 2, "N": 5, "C": 3, "D": 8, "Q": 3, "H": 2, "k": 3}

register_op(
    OpSpec(
        name="hcam_read",
        call=hcam_read,
        schemas=("embodied_mem::hcam_inside", "embodied_mem::hcam_inside_backward"),
        sample=sample,
        op_args=op_args,
        oracle=oracle,
        composed=composed,
        edge_cases=(
            Case("plain", SMALL | {"visible": 0.9}, ALL),
            Case("few_visible", SMALL | {"visible": 0.3}),
            Case("none_visible", SMALL | {"visible": 0.0}),
            Case("all_chunks", SMALL | {"k": 9, "visible": 1.0}),
            Case("one_of_one", {"B": 1, "N": 1, "C": 1, "D": 8, "Q": 1, "H": 1, "k": 1, "visible": 1.0}),
            Case("wide", {"B": 1, "N": 3, "C": 20, "D": 80, "Q": 2, "H": 3, "k": 2}),
            Case("many_heads", {"B": 1, "N": 3, "C": 4, "D": 16, "Q": 2, "H": 18, "k": 2}),
            Case("many_queries", {"B": 1, "N": 6, "C": 4, "D": 16, "Q": 40, "H": 1, "k": 2}),
        ),
        compile_cases=compile_cases,
        bench_shapes=(
            BenchShape(
                "B64_N16_C16_D64_k4",
                {"B": 64, "N": 16, "C": 16, "D": 64, "Q": 1, "H": 2, "k": 4},
                torch.float32,
                cpu=True,
            ),
            BenchShape("B1024_N64_C32_D256_k8", {"B": 1024, "N": 64, "C": 32, "D": 256, "Q": 1, "H": 4, "k": 8}),
            BenchShape("B64_N64_C32_D256_k8_Q64", {"B": 64, "N": 64, "C": 32, "D": 256, "Q": 64, "H": 4, "k": 8}),
        ),  # fmt: skip
        bytes=moved,
        flops=flops,
        grads=("query", "detail", "summary", "contents", "code"),
        used_by=("embodied_mem.memory.hcam",),
    )
)
