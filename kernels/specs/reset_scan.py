"""Spec of `reset_scan`, real and complex."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from embodied_mem.kernels._registry import BenchShape, Case, CompileCase, Inputs, OpSpec, Shape, register_op
from embodied_mem.kernels.ops.reset_scan import reset_scan
from embodied_mem.kernels.reference import reset_scan as reference
from embodied_mem.kernels.specs._draw import Draw, numbers, offset_view

ALL = (torch.float32, torch.float16, torch.bfloat16)


def sample(shape: Shape, seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
    """B, T, C; ``paired``; ``reset`` a rate, "first" or None; ``init``; ``constant`` gate; ``offset`` views."""
    draw = Draw(seed, dtype, device)
    B, T, C = (shape[key] for key in "BTC")
    tail = (C, 2) if shape.get("paired") else (C,)
    a = draw.uniform(*tail, low=-0.7, high=0.99).expand(B, T, *tail)
    if not shape.get("constant"):
        a = draw.uniform(B, T, *tail, low=-0.7, high=0.7 if shape.get("paired") else 0.99)
    x, h0 = draw.normal(B, T, *tail), draw.normal(B, *tail)
    rate = shape.get("reset", 0.2)
    reset = None if rate is None else draw.flags(0.0 if rate == "first" else rate, B, T)
    if reset is not None and rate == "first":
        reset[:, 0] = True
    h_init = draw.normal(*tail) if shape.get("init") else None
    if shape.get("offset"):
        a, x, h0 = offset_view(a), offset_view(x), offset_view(h0)
    if shape.get("transposed"):
        a, x = (z.transpose(0, 1).contiguous().transpose(0, 1) for z in (a, x))
    return {"a": a, "x": x, "reset": reset, "h0": h0, "h_init": h_init, "paired": bool(shape.get("paired"))}


def oracle(
    a: Tensor, x: Tensor, reset: Tensor | None, h0: Tensor, h_init: Tensor | None = None, *, paired: bool = False
) -> Tensor:
    """The equation, one step at a time."""
    opened = torch.zeros_like(h0) if h_init is None else h_init.expand_as(h0)
    if paired:
        a, x, h0, opened = (torch.view_as_complex(z.contiguous()) for z in (a, x, h0, opened))
    h, out = h0, []
    for t in range(x.shape[1]):
        kept = a[:, t] * h
        if reset is not None:
            kept = torch.where(reset[:, t].view(-1, *[1] * (h.dim() - 1)), opened, kept)
        h = kept + x[:, t]
        out.append(h)
    found = torch.stack(out, 1)
    return torch.view_as_real(found) if paired else found


def composed(
    a: Tensor, x: Tensor, reset: Tensor | None, h0: Tensor, h_init: Tensor | None = None, *, paired: bool = False
) -> Tensor:
    """A loop of steps on a CPU, doubling (log T passes) on a GPU."""
    run = reference.reset_scan if x.is_cuda else oracle
    return run(a, x, reset, h0, h_init, paired=paired)


def op_args(inputs: Inputs) -> list[tuple[str, tuple[Any, ...]]]:
    """Arguments of the operators behind it."""
    a, x, reset, h0, h_init, paired = (inputs[k] for k in ("a", "x", "reset", "h0", "h_init", "paired"))
    h = oracle(a, x, reset, h0, h_init, paired=paired).detach()
    grad, plain = torch.ones_like(h), [z.detach() for z in (a, h0)]
    return [
        ("embodied_mem::reset_scan", (a, x, reset, h0, h_init, paired)),
        ("embodied_mem::reset_scan_backward", (grad, plain[0], h, reset, plain[1], paired, True)),
    ]


def moved(inputs: Inputs) -> int:
    """a and x read, h written; h0 and flags."""
    return numbers(inputs["a"], inputs["x"], inputs["x"], inputs["h0"], inputs["reset"])


def compile_cases() -> list[CompileCase]:
    """Both directions; float32 and bfloat16, real and paired."""
    from embodied_mem.kernels.triton_ops import reset_scan as kernel

    cases = []
    for paired in (False, True):
        for kind, unroll, block in (("fp32", 8, 128), ("bf16", 4, 256)):
            name, p = f"{'paired' if paired else 'real'}_{kind}", f"*{kind}"
            common = {"reset": "*u8", "T": "i32", "C": "i32", "a_row": "i32", "a_step": "i32"}
            types = {"a": p, "x": p, "h0": p, "h_init": p, "h": p, "dx": p, "da": p, "dh0": p, "grad": p} | common
            sizes = {"PAIRED": paired, "BLOCK": block, "HAS_RESET": True}
            everywhere = kind == "fp32" and not paired
            for part, function, constants in (
                ("forward", kernel.forward_kernel, {"HAS_INIT": True, "UNROLL": unroll}),
                ("backward", kernel.backward_kernel, {"WANT_A": True, "UNROLL": unroll // 2}),
            ):
                cases.append(
                    CompileCase(
                        f"{part}_{name}",
                        function,
                        types,
                        sizes | constants,
                        num_warps=1,
                        odd=("T",),
                        expect=("LDG.E.128", "STG.E.128"),
                        archs=(80, 89, 90, 100) if everywhere and part == "forward" else (90,),
                    )
                )
    return cases


register_op(
    OpSpec(
        name="reset_scan",
        call=reset_scan,
        schemas=("embodied_mem::reset_scan", "embodied_mem::reset_scan_backward"),
        sample=sample,
        op_args=op_args,
        oracle=oracle,
        composed=composed,
        edge_cases=(
            Case("plain", {"B": 2, "T": 11, "C": 37}, ALL),
            Case("paired", {"B": 2, "T": 9, "C": 21, "paired": True}, ALL),
            Case("init", {"B": 2, "T": 6, "C": 5, "init": True, "reset": 0.4}),
            Case("paired_init", {"B": 2, "T": 6, "C": 5, "init": True, "reset": 0.4, "paired": True}),
            Case("no_reset", {"B": 2, "T": 8, "C": 8, "reset": None}),
            Case("all_at_start", {"B": 3, "T": 5, "C": 8, "reset": "first"}),
            Case("every_step", {"B": 2, "T": 5, "C": 8, "reset": 1.0, "init": True}),
            Case("one_row_one_step", {"B": 1, "T": 1, "C": 1}),
            Case("constant_gate", {"B": 2, "T": 9, "C": 12, "constant": True, "paired": True}),
            Case("offset_views", {"B": 2, "T": 7, "C": 10, "offset": True}),
            Case("time_major", {"B": 3, "T": 7, "C": 10, "transposed": True}),
            Case("wide", {"B": 1, "T": 3, "C": 300}),
            Case("long", {"B": 2, "T": 1024, "C": 40, "reset": 0.01}, full=True),
        ),
        compile_cases=compile_cases,
        bench_shapes=(
            BenchShape("B16_T256_C128", {"B": 16, "T": 256, "C": 128, "reset": 0.02}, torch.float32, cpu=True),
            BenchShape("B1024_T128_C512", {"B": 1024, "T": 128, "C": 512, "reset": 0.02}),
            BenchShape("B1024_T128_C512_fp32", {"B": 1024, "T": 128, "C": 512, "reset": 0.02}, torch.float32),
            BenchShape("B64_T1024_C512", {"B": 64, "T": 1024, "C": 512, "reset": 0.02}),
            BenchShape("paired_B1024_T128_C256", {"B": 1024, "T": 128, "C": 256, "paired": True, "constant": True}),
        ),
        bytes=moved,
        flops=lambda inputs: 2 * inputs["x"].numel(),
        grads=("a", "x", "h0", "h_init"),
        baselines={"step_loop": oracle},
        used_by=("embodied_mem.memory.scan",),
    )
)
