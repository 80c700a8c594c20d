"""Spec of `pkm_lookup`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from embodied_mem.kernels._registry import BenchShape, Case, CompileCase, Inputs, OpSpec, Shape, register_op
from embodied_mem.kernels.ops.pkm_lookup import Lookup, pkm_lookup
from embodied_mem.kernels.reference import pkm_lookup as reference
from embodied_mem.kernels.specs._draw import Draw, numbers

ALL = (torch.float32, torch.float16, torch.bfloat16)


def sample(shape: Shape, seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
    """R, H, n, d, V, k; ``same`` rows of q, so that rows of values are read many times."""
    draw = Draw(seed, dtype, device)
    R, H, n, d, V = (shape[key] for key in ("R", "H", "n", "d", "V"))
    q = draw.normal(1 if shape.get("same") else R, H, 2, d).expand(R, H, 2, d).contiguous()
    keys = draw.normal(H, 2, n, d, scale=d**-0.5)
    return {"q": q, "keys": keys, "values": draw.normal(n * n, V), "k": shape["k"]}


def oracle(q: Tensor, keys: Tensor, values: Tensor, k: int) -> Lookup:
    """Score all n^2 rows of every head of every input."""
    (R, H, _, _), n = q.shape, keys.shape[2]
    out, rows, scores = [], [], []
    for r in range(R):
        total = torch.zeros_like(values[0])
        for h in range(H):
            table = (keys[h, 0] @ q[r, h, 0]).unsqueeze(1) + (keys[h, 1] @ q[r, h, 1])
            score, at = table.flatten().topk(k)
            assert int(at.max()) < n * n
            total = total + score.softmax(0) @ values[at]
            rows.append(at)
            scores.append(score)
        out.append(total)
    return Lookup(torch.stack(out), torch.stack(rows).view(R, H, k), torch.stack(scores).view(R, H, k))


def composed(q: Tensor, keys: Tensor, values: Tensor, k: int) -> Tensor:
    """The same choice, a gathered copy of all rows, a product and a sum."""
    rows, score = reference.select(q, keys, k)
    weight = score.softmax(-1).to(values.dtype)
    return (F.embedding(rows, values) * weight.unsqueeze(-1)).sum((1, 2))


def op_args(inputs: Inputs) -> list[tuple[str, tuple[Any, ...]]]:
    """Arguments of the operators behind it."""
    values, R, J = inputs["values"], len(inputs["q"]), 4
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(0, len(values), (R, J), generator=generator)
    weight = torch.rand(R, J, generator=generator).to(values.dtype).requires_grad_(values.requires_grad)
    grad = torch.ones(R, values.shape[1], dtype=values.dtype)
    return [
        ("embodied_mem::pkm_gather", (values, index, weight)),
        ("embodied_mem::pkm_gather_backward", (grad, values.detach(), index, weight.detach(), True)),
    ]


def moved(inputs: Inputs) -> int:
    """Queries and keys, the rows chosen, the result."""
    (R, H, _, _), V = inputs["q"].shape, inputs["values"].shape[1]
    size = inputs["values"].element_size()
    return numbers(inputs["q"], inputs["keys"]) + R * V * size * (H * inputs["k"] + 1)


def flops(inputs: Inputs) -> int:
    """Scores of the halves and the weighted sum."""
    (R, H, _, d), V = inputs["q"].shape, inputs["values"].shape[1]
    return 4 * R * H * inputs["keys"].shape[2] * d + 2 * R * H * inputs["k"] * V


def compile_cases() -> list[CompileCase]:
    """The sum and its two gradients at rows of 1024."""
    from embodied_mem.kernels.triton_ops import pkm_lookup as kernel

    types = {"J": "i32", "V": "i32", "index": "*i64", "order": "*i64", "starts": "*i64"}
    types |= dict.fromkeys(("values", "weight", "out", "grad", "d_weight", "d_values"), "*bf16")
    sizes, expect = {"BJ": kernel.ENTRIES, "BV": 256}, ("LDG.E.128",)
    return [
        CompileCase("gather_bf16", kernel.gather_kernel, types, sizes, 4, 2, (), expect),
        CompileCase("weights_bf16", kernel.weights_kernel, types, sizes, 4, 2, (), expect, (90,)),
        CompileCase("values_bf16", kernel.values_kernel, types, {"BV": 256}, 2, 2, (), (), (90,)),
    ]


SMALL = {"R": 4, "H": 2, "n": 5, "d": 6, "V": 7, "k": 3}

register_op(
    OpSpec(
        name="pkm_lookup",
        call=pkm_lookup,
        schemas=("embodied_mem::pkm_gather", "embodied_mem::pkm_gather_backward"),
        sample=sample,
        op_args=op_args,
        oracle=oracle,
        composed=composed,
        edge_cases=(
            Case("plain", SMALL, ALL),
            Case("rows_read_often", {**SMALL, "R": 9, "same": True}),
            Case("all_sub_keys", {**SMALL, "k": 5}),
            Case("one_of_one", {"R": 1, "H": 1, "n": 1, "d": 1, "V": 1, "k": 1}),
            Case("wide_rows", {"R": 2, "H": 1, "n": 4, "d": 8, "V": 300, "k": 2}),
            Case("many_entries", {"R": 2, "H": 5, "n": 6, "d": 8, "V": 20, "k": 6}),
        ),
        compile_cases=compile_cases,
        bench_shapes=(
            BenchShape(
                "R256_h4_n32_k8_V32", {"R": 256, "H": 4, "n": 32, "d": 16, "V": 32, "k": 8}, torch.float32, cpu=True
            ),
            BenchShape("R4096_h4_n1024_k32_V1024", {"R": 4096, "H": 4, "n": 1024, "d": 256, "V": 1024, "k": 32}),
        ),  # fmt: skip
        bytes=moved,
        flops=flops,
        grads=("q", "keys", "values"),
        used_by=("embodied_mem.memory.product_key_memory",),
    )
)
