"""Spec of `topk_similarity`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from embodied_mem.kernels._registry import BenchShape, Case, CompileCase, Inputs, OpSpec, Shape, register_op
from embodied_mem.kernels.ops.topk_similarity import Matches, topk_similarity
from embodied_mem.kernels.reference import topk_similarity as reference
from embodied_mem.kernels.specs._draw import Draw, numbers

ALL = (torch.float32, torch.float16, torch.bfloat16)
_STEP = 0.25


def sample(shape: Shape, seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
    """Q, N, D, k; ``groups`` ids, ``span``, ``apart``; ``scores``: "apart" (default), "equal", or "random"."""
    draw = Draw(seed, dtype, device)
    Q, N, D = (shape[key] for key in ("Q", "N", "D"))
    q, bank = draw.normal(Q, D), draw.normal(N, D, scale=D**-0.5)
    kind = shape.get("scores", "apart")
    if kind != "random":
        # small integers: exact in every type, so that rounding decides nothing; "apart" has one entry per score
        bank = torch.zeros(N, D, device=device, dtype=dtype)
        q = torch.zeros(Q, D, device=device, dtype=dtype)
        q[:, : min(2, D)] = 1
        rank = (
            torch.randperm(N, generator=draw.generator).to(device) if kind == "apart" else torch.zeros(N, device=device)
        )
        bank[:, 0] = (rank % 64).to(dtype) * _STEP
        if D > 1:
            bank[:, 1] = (rank // 64).to(dtype) * 64 * _STEP
    inputs: Inputs = {"q": q, "bank": bank, "k": shape["k"]}
    inputs["group"] = inputs["q_group"] = inputs["time"] = inputs["span"] = inputs["now"] = None
    if shape.get("groups"):
        inputs["group"], inputs["q_group"] = (
            draw.integers(0, 3, N, shape["groups"]),
            draw.integers(0, 3, Q, shape["groups"]),
        )
    if shape.get("span") or shape.get("apart"):
        inputs["time"] = draw.integers(0, 100, N)
    if shape.get("span"):
        first = draw.integers(0, 60, Q)
        inputs["span"] = torch.stack([first, first + 30], 1)
    if shape.get("apart"):
        inputs["now"] = draw.integers(0, 100, Q)
    return inputs | {"apart": shape.get("apart", 0)}


def oracle(
    q: Tensor, bank: Tensor, k: int, *, group: Tensor | None = None, q_group: Tensor | None = None,
    time: Tensor | None = None, span: Tensor | None = None, now: Tensor | None = None, apart: int = 0,
) -> Matches:  # fmt: skip
    """One query at a time, entries filtered and sorted in Python."""
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    score = torch.full((len(q), k), -torch.inf, dtype=wide)
    index = torch.full((len(q), k), -1)
    for i in range(len(q)):
        found = []
        for j, value in enumerate((bank.to(wide) @ q[i].to(wide)).tolist()):
            keep = group is None or q_group is None or torch.equal(group[j], q_group[i])
            if time is not None and span is not None:
                keep = keep and bool(span[i, 0] <= time[j] <= span[i, 1])
            if time is not None and now is not None:
                keep = keep and abs(int(time[j]) - int(now[i])) > apart
            if keep:
                found.append((-value, j))
        for n, (value, j) in enumerate(sorted(found)[:k]):
            score[i, n], index[i, n] = -value, j
    return Matches(score, index)


def composed(
    q: Tensor, bank: Tensor, k: int, *, group: Tensor | None = None, q_group: Tensor | None = None,
    time: Tensor | None = None, span: Tensor | None = None, now: Tensor | None = None, apart: int = 0,
) -> Tensor:  # fmt: skip
    """Product, mask, top-k; ties in any order."""
    scores = q @ bank.T
    keep = reference.passes(group, q_group, time, span, now, apart)
    scores = scores if keep is None else scores.masked_fill(~keep, -torch.inf)
    return scores.topk(k, -1).values


def op_args(inputs: Inputs) -> list[tuple[str, tuple[Any, ...]]]:
    """Arguments of the operator."""
    order = ("q", "bank", "k", "group", "q_group", "time", "span", "now", "apart")
    return [("embodied_mem::topk_similarity", tuple(inputs[name] for name in order))]


def compile_cases() -> list[CompileCase]:
    """A tile of 128 queries and of one, with all filters; the second pass."""
    from embodied_mem.kernels.triton_ops import topk_similarity as kernel

    types = dict.fromkeys(("Q", "N", "D", "groups", "K", "apart"), "i32")
    types |= dict.fromkeys(("group", "q_group", "time", "span", "now"), "*i32") | {"packed": "*i64", "chosen": "*i64"}
    filters = {"IDS": 2, "HAS_SPAN": True, "HAS_NOW": True, "GROUP": kernel.GROUP}
    odd = ("Q", "N", "groups", "K", "apart")
    cases = []
    for name, kind, Q, archs, expect in (
        ("q1024_bf16", "bf16", 1024, (80, 89, 90, 100), ("HGMMA",)),
        ("q1_bf16", "bf16", 1, (90,), ("HMMA",)),
        ("q64_fp32", "fp32", 64, (90,), ()),
    ):
        BQ, BN, BD, warps = kernel.tiles(Q, 512, 2 if kind == "bf16" else 4)
        pointers = {"q": f"*{kind}", "bank": f"*{kind}"}
        sizes = filters | {"UPCAST": kind == "fp32", "BQ": BQ, "BN": BN, "BD": BD}
        cases.append(
            CompileCase(f"groups_{name}", kernel.groups_kernel, types | pointers, sizes, warps, 3, odd, expect, archs)
        )
    pointers = {"q": "*bf16", "bank": "*bf16"}
    cases.append(
        CompileCase("scores_bf16", kernel.scores_kernel, types | pointers, filters | {"BD": 128}, 4, 2, odd,
                    ("LDG.E.128",))
    )  # fmt: skip
    return cases


register_op(
    OpSpec(
        name="topk_similarity",
        call=topk_similarity,
        schemas=("embodied_mem::topk_similarity",),
        sample=sample,
        op_args=op_args,
        oracle=oracle,
        composed=composed,
        edge_cases=(
            Case("plain", {"Q": 3, "N": 90, "D": 8, "k": 5}, ALL),
            Case("filters", {"Q": 4, "N": 100, "D": 8, "k": 4, "groups": 2, "span": True, "apart": 5}),
            Case("one_filter", {"Q": 3, "N": 70, "D": 8, "k": 3, "groups": 1}),
            Case("equal_scores", {"Q": 2, "N": 80, "D": 8, "k": 40, "scores": "equal"}),
            Case("random", {"Q": 2, "N": 200, "D": 40, "k": 7, "scores": "random"}),
            Case("k_above_n", {"Q": 2, "N": 3, "D": 4, "k": 9}),
            Case("one_of_one", {"Q": 1, "N": 1, "D": 1, "k": 1}),
            Case("many_groups", {"Q": 20, "N": 1100, "D": 16, "k": 16}, full=True),
        ),
        compile_cases=compile_cases,
        bench_shapes=(
            BenchShape(
                "Q16_N20k_D128", {"Q": 16, "N": 20_000, "D": 128, "k": 16, "scores": "random"}, torch.float32, cpu=True
            ),
            BenchShape("Q1_N1M_D512", {"Q": 1, "N": 2**20, "D": 512, "k": 16, "scores": "random"}),
            BenchShape("Q64_N1M_D512", {"Q": 64, "N": 2**20, "D": 512, "k": 16, "scores": "random"}),
            BenchShape("Q1024_N1M_D512", {"Q": 1024, "N": 2**20, "D": 512, "k": 16, "scores": "random"}),
        ),  # fmt: skip
        bytes=lambda inputs: numbers(inputs["q"], inputs["bank"], inputs["group"], inputs["time"]),
        flops=lambda inputs: 2 * len(inputs["q"]) * inputs["bank"].numel(),
    )
)
