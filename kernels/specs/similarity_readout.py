"""Spec of `similarity_readout`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from embodied_mem.kernels._registry import BenchShape, Case, CompileCase, Inputs, OpSpec, Shape, register_op
from embodied_mem.kernels.ops.similarity_readout import Readout, similarity_readout
from embodied_mem.kernels.specs._draw import Draw, numbers, offset_view

ALL = (torch.float32, torch.float16, torch.bfloat16)


def sample(shape: Shape, seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
    """B, N, Q, C, V, ``topk``; ``plain``: no shrink and selection; ``length``; ``keys``: "far", "equal"; ``offset``."""
    draw = Draw(seed, dtype, device)
    B, N, Q, C, V = (shape[key] for key in ("B", "N", "Q", "C", "V"))
    key, query, value = draw.normal(B, N, C), draw.normal(B, Q, C), draw.normal(B, N, V)
    shrink = selection = length = None
    if not shape.get("plain"):
        shrink, selection = draw.uniform(B, N, low=1.0, high=2.0), draw.uniform(B, Q, C, low=0.1, high=1.0)
    kind = shape.get("keys")
    if kind == "far":
        # exp of every similarity is 0
        key = key * 100
    if kind == "equal":
        # three of each, so that a list ends inside a tie
        key, shrink = key[:, torch.arange(N, device=device) // 3], None if shrink is None else torch.ones_like(shrink)
    held = shape.get("length")
    if held == "mixed":
        length = draw.integers(0, N + 1, B)
        length[0], length[-1] = N, 1
    elif held is not None:
        length = torch.full((B,), held, dtype=torch.int32, device=device)
    if shape.get("offset"):
        key, query, value = offset_view(key), offset_view(query), offset_view(value)
    return {
        "key": key, "query": query, "value": value, "topk": shape.get("topk"), "shrink": shrink,
        "selection": selection, "length": length,
    }  # fmt: skip


def oracle(
    key: Tensor, query: Tensor, value: Tensor, topk: int | None, *, shrink: Tensor | None, selection: Tensor | None,
    length: Tensor | None,
) -> Readout:  # fmt: skip
    """One query at a time, the square as it stands."""
    (B, N, C), Q, wide = key.shape, query.shape[1], torch.float64
    out, usage, indices, weights = [], torch.zeros(B, N, dtype=wide), [], []
    for b in range(B):
        n = N if length is None else int(length[b])
        for j in range(Q):
            square = (key[b, :n] - query[b, j]).square()
            away = (square if selection is None else square * selection[b, j]).sum(-1)
            score = -away * C**-0.5 * (1 if shrink is None else shrink[b, :n])
            chosen = score.sort(descending=True, stable=True).indices[:topk]
            weight = score[chosen].softmax(0) if n else score
            out.append(weight @ value[b, chosen] if n else value[b].new_zeros(value.shape[2]))
            usage[b, chosen] += weight.detach()
            short = 0 if topk is None else topk - len(chosen)
            indices.append(torch.nn.functional.pad(chosen, (0, short), value=-1))
            weights.append(torch.nn.functional.pad(weight, (0, short)))
    read = torch.stack(out).view(B, Q, -1)
    if topk is None:
        return Readout(read, None, None, None)
    return Readout(read, usage, torch.stack(indices).view(B, Q, topk), torch.stack(weights).view(B, Q, topk))


def composed(
    key: Tensor, query: Tensor, value: Tensor, topk: int | None, *, shrink: Tensor | None, selection: Tensor | None,
    length: Tensor | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """All similarities, top-k, softmax, a dense matrix of weights, its product with the values and its sum."""
    selection = torch.ones_like(query) if selection is None else selection
    asked = query * selection
    scores = -(selection @ key.square().mT) + 2 * asked @ key.mT - (asked * query).sum(-1, keepdim=True)
    scores = scores * (key.shape[-1] ** -0.5) * (1 if shrink is None else shrink.unsqueeze(1))
    if length is not None:
        held = torch.arange(key.shape[1], device=key.device) < length.unsqueeze(1)
        scores = scores.masked_fill(~held.unsqueeze(1), -torch.inf)
    best, index = scores.topk(min(topk or key.shape[1], key.shape[1]), -1)
    weight = torch.zeros_like(scores).scatter(-1, index, best.softmax(-1))
    return weight @ value, weight.sum(1)


def op_args(inputs: Inputs) -> list[tuple[str, tuple[Any, ...]]]:
    """Arguments of the operator."""
    length = torch.full((len(inputs["key"]),), inputs["key"].shape[1], dtype=torch.int32)
    order = ("key", "shrink", "query", "selection")
    return [("embodied_mem::similarity_top", (*(inputs[name] for name in order), length, inputs["topk"]))]


def moved(inputs: Inputs) -> int:
    """Queries, keys, values and the result once."""
    B, Q, V = len(inputs["key"]), inputs["query"].shape[1], inputs["value"].shape[2]
    names = ("key", "query", "value", "shrink", "selection")
    return numbers(*(inputs[name] for name in names)) + B * Q * V * inputs["value"].element_size()


def flops(inputs: Inputs) -> int:
    """Two products for all similarities, and the weighted sum."""
    (B, N, C), Q, V = inputs["key"].shape, inputs["query"].shape[1], inputs["value"].shape[2]
    return 4 * B * Q * N * C + 2 * B * Q * (inputs["topk"] or N) * V


def compile_cases() -> list[CompileCase]:
    """Tiles of many queries and of one; the second pass."""
    from embodied_mem.kernels.triton_ops import similarity_readout as kernel

    types = dict.fromkeys(("Q", "N", "C", "groups", "K"), "i32") | {"scale": "fp32", "length": "*i32"}
    types |= {"packed": "*i64", "chosen": "*i64"}
    odd, flags = ("Q", "N", "groups", "K"), {"HAS_SHRINK": True, "HAS_SELECTION": True, "GROUP": kernel.GROUP}
    cases = []
    for name, kind, Q, expect, archs in (
        ("q1620_fp32", "fp32", 1620, ("HGMMA",), (80, 89, 90, 100)),
        ("q1620_bf16", "bf16", 1620, ("HGMMA",), (90,)),
        ("q1_fp32", "fp32", 1, ("HMMA",), (90,)),
    ):
        BQ, BN, BC = kernel.tiles(Q, 64)
        pointers = dict.fromkeys(("key", "shrink", "query", "selection"), f"*{kind}")
        sizes = flags | {"PRECISION": "tf32x3", "BQ": BQ, "BN": BN, "BC": BC}
        cases.append(
            CompileCase(f"groups_{name}", kernel.groups_kernel, types | pointers, sizes, 4, 2, odd, expect, archs)
        )
    pointers = dict.fromkeys(("key", "shrink", "query", "selection"), "*fp32")
    cases.append(
        CompileCase("scores_fp32", kernel.scores_kernel, types | pointers, flags | {"BC": 64}, 4, 2, odd,
                    ("LDG.E.128",))
    )  # fmt: skip
    return cases


SMALL = {"B": 2, "N": 40, "Q": 5, "C": 8, "V": 6, "topk": 4}

register_op(
    OpSpec(
        name="similarity_readout",
        call=similarity_readout,
        schemas=("embodied_mem::similarity_top",),
        sample=sample,
        op_args=op_args,
        oracle=oracle,
        composed=composed,
        edge_cases=(
            Case("select", SMALL, ALL),
            Case("plain", {**SMALL, "plain": True}, ALL),
            Case("all_entries", {**SMALL, "topk": None, "length": "mixed", "B": 3}),
            Case("mixed_lengths", {**SMALL, "B": 4, "length": "mixed", "topk": 7}),
            Case("nothing_held", {**SMALL, "length": 0}),
            Case("nothing_held_all", {**SMALL, "length": 0, "topk": None}),
            Case("one_of_one", {"B": 1, "N": 1, "Q": 1, "C": 1, "V": 1, "topk": 1}),
            Case("k_above_n", {**SMALL, "N": 3, "topk": 9}),
            Case("far_keys", {**SMALL, "keys": "far"}),
            Case("equal_keys", {**SMALL, "keys": "equal"}),
            Case("offset_views", {**SMALL, "offset": True}),
            Case("many_groups", {"B": 1, "N": 150, "Q": 20, "C": 40, "V": 33, "topk": 3}),
        ),
        compile_cases=compile_cases,
        bench_shapes=(
            BenchShape(
                "N2000_Q200_C64_V256_k30",
                {"B": 1, "N": 2000, "Q": 200, "C": 64, "V": 256, "topk": 30},
                torch.float32,
                cpu=True,
            ),
            BenchShape(
                "N10k_Q1620_C64_V512_k30",
                {"B": 1, "N": 10_000, "Q": 1620, "C": 64, "V": 512, "topk": 30},
                torch.float32,
            ),
        ),  # fmt: skip
        bytes=moved,
        flops=flops,
        grads=("key", "query", "value", "shrink", "selection"),
    )
)
