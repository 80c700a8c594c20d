"""Spec of `reset_linear_attention`: scalar decay, decay per channel, delta rule."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.kernels._registry import BenchShape, Case, CompileCase, Inputs, OpSpec, Shape, register_op
from embodied_mem.kernels.ops.reset_linear_attention import reset_linear_attention
from embodied_mem.kernels.reference import reset_linear_attention as reference
from embodied_mem.kernels.specs._draw import Draw, numbers, offset_view

ALL = (torch.float32, torch.float16, torch.bfloat16)


def sample(shape: Shape, seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
    """B, T, H, K, V; ``delta``, ``channel``, ``init``, ``reset`` rate or "first", a strong ``gate``, ``offset``."""
    draw = Draw(seed, dtype, device)
    B, T, H, K, V = (shape[key] for key in "BTHKV")
    q, v = draw.normal(B, T, H, K, scale=K**-0.5), draw.normal(B, T, H, V)
    k = F.normalize(draw.normal(B, T, H, K).float(), dim=-1).to(dtype)
    width = (B, T, H, K) if shape.get("channel") else (B, T, H)
    log_decay = draw.uniform(*width, low=-0.3, high=0.0)
    if shape.get("gate"):
        log_decay[:, T // 2] = shape["gate"]
    rate = shape.get("reset", 0.1)
    reset = draw.flags(0.0 if rate == "first" else rate, B, T)
    if rate == "first":
        reset[:, 0] = True
    inputs: Inputs = {"q": q, "k": k, "v": v, "log_decay": log_decay, "reset": reset}
    inputs["beta"] = draw.uniform(B, T, H, low=0.1, high=1.0) if shape.get("delta") else None
    inputs["S0"] = draw.normal(B, H, K, V)
    inputs["S_init"] = draw.normal(H, K, V) if shape.get("init") else None
    if shape.get("offset"):
        inputs |= {name: offset_view(inputs[name]) for name in ("q", "k", "v", "S0")}
    return inputs


def oracle(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor | None = None, *, reset: Tensor, S0: Tensor,
    S_init: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The recurrence, one token at a time."""
    S, outputs = S0, []
    opened = torch.zeros_like(S0) if S_init is None else S_init.expand_as(S0)
    decay = log_decay.exp()
    decay = decay.unsqueeze(-1) if decay.dim() == 4 else decay[..., None, None]
    for t in range(q.shape[1]):
        S = torch.where(reset[:, t, None, None, None], opened, decay[:, t] * S)
        value = v[:, t]
        if beta is not None:
            value = beta[:, t].unsqueeze(-1) * (value - torch.einsum("bhk,bhkv->bhv", k[:, t], S))
        S = S + k[:, t].unsqueeze(-1) * value.unsqueeze(-2)
        outputs.append(torch.einsum("bhk,bhkv->bhv", q[:, t], S))
    return torch.stack(outputs, 1), S


def composed(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor | None = None, *, reset: Tensor, S0: Tensor,
    S_init: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """A loop of steps on a CPU, the chunk form in torch operations on a GPU; half types in float32."""
    wide = [
        z.float() if z is not None and z.dtype != torch.float64 else z for z in (q, k, v, log_decay, beta, S0, S_init)
    ]
    q, k, v, log_decay, beta, S0, S_init = wide  # type: ignore[assignment]
    if not q.is_cuda:
        return oracle(q, k, v, log_decay, beta, reset=reset, S0=S0, S_init=S_init)
    return reference.run(q, k, v, log_decay, beta, reset, S0, S_init, 32)


def delta_rule_of_fla(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor | None = None, *, reset: Tensor, S0: Tensor,
    S_init: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """flash-linear-attention, where it is installed; its kernels know no resets, so it does less work."""
    from fla.ops.gated_delta_rule import chunk_gated_delta_rule

    if beta is None:
        raise UsageError("expected beta: this peer is the delta rule")
    return chunk_gated_delta_rule(q, k, v, log_decay, beta, scale=1.0, initial_state=S0, output_final_state=True)


def op_args(inputs: Inputs) -> list[tuple[str, tuple[Any, ...]]]:
    """Arguments of the operators behind it."""
    order = ("q", "k", "v", "log_decay", "beta", "reset", "S0", "S_init")
    given = [inputs[name] for name in order]
    plain = [z.detach() if torch.is_tensor(z) else z for z in given]
    B, H, K, V = plain[6].shape
    T = plain[0].shape[1]
    states, writes = torch.zeros(B, H, -(-T // 16), K, V), torch.zeros(B, 0 if plain[4] is None else T, H, V)
    grads = (torch.ones_like(plain[2]), torch.ones_like(plain[6]))
    return [
        ("embodied_mem::reset_linear_attention", (*given, True)),
        ("embodied_mem::reset_linear_attention_backward", (*grads, *plain, states, writes)),
    ]


def moved(inputs: Inputs) -> int:
    """All inputs read, o and the final state written."""
    names = ("q", "k", "v", "v", "log_decay", "beta", "reset", "S0", "S0", "S_init")
    return numbers(*(inputs[name] for name in names))


def flops(inputs: Inputs) -> int:
    """Write and read of every token, and the correction of the delta rule."""
    B, T, H, K = inputs["q"].shape
    return (4 if inputs["beta"] is None else 6) * B * T * H * K * inputs["v"].shape[-1]


def compile_cases() -> list[CompileCase]:
    """The three forms at heads of 64 x 64, both directions."""
    from embodied_mem.kernels.triton_ops import reset_linear_attention as kernel

    integers = dict.fromkeys(("T", "H", "K", "V"), "i32")
    scratch = dict.fromkeys(("solved", "d_start", "d_first", "beyond", "states", "writes"), "*fp32")
    halves = ("q", "k", "v", "g", "beta", "start", "first_state", "o", "final_state", "d_o", "d_final", "dv", "dq",
              "dk", "dg", "d_beta")  # fmt: skip
    cases = []
    for name, kind, delta, channel, init, archs in (
        ("scalar_bf16", "bf16", False, False, False, (80, 89, 90, 100)),
        ("delta_bf16", "bf16", True, False, False, (90,)),
        ("delta_init_fp32", "fp32", True, False, True, (90,)),
        ("channel_bf16", "bf16", False, True, False, (90,)),
    ):
        types = integers | scratch | dict.fromkeys(halves, f"*{kind}") | {"reset": "*u8"}
        sizes = {"DELTA": delta, "CHANNEL": channel, "HAS_INIT": init, "C": kernel.CHUNK}
        for part, function, more in (
            ("forward", kernel.forward_kernel, {"SAVE": True}),
            ("backward_chain", kernel.chain_kernel, {}),
            ("backward_chunk", kernel.chunk_kernel, {}),
        ):
            BK, BV, warps, precision = kernel.tiles(function, 64, 64, delta=delta, channel=channel, wide=kind == "fp32")
            constants = sizes | more | {"BK": BK, "BV": BV, "PRECISION": precision}
            expect, targets = () if precision == "ieee" else ("HMMA",), archs if part == "forward" else (90,)
            cases.append(
                CompileCase(f"{part}_{name}", function, types, constants, warps, 2, ("T", "H"), expect, targets)
            )
    return cases


SMALL = {"B": 2, "T": 5, "H": 2, "K": 8, "V": 5}
# Two chunks of one head, since the interpreter takes its time for each; `scalar` and `delta_no_init` have more.
CHUNKS = {"B": 1, "T": 21, "H": 1, "K": 8, "V": 8}

register_op(
    OpSpec(
        name="reset_linear_attention",
        call=reset_linear_attention,
        schemas=("embodied_mem::reset_linear_attention", "embodied_mem::reset_linear_attention_backward"),
        sample=sample,
        op_args=op_args,
        oracle=oracle,
        composed=composed,
        edge_cases=(
            Case("delta", {**CHUNKS, "delta": True, "init": True}, ALL),
            Case("channel", {**CHUNKS, "channel": True, "init": True}, ALL),
            Case("scalar", {**CHUNKS, "B": 2, "H": 2, "init": True}),
            Case("scalar_no_init", {**CHUNKS, "reset": 0.3}),
            Case("delta_no_init", {**CHUNKS, "H": 2, "delta": True, "reset": 0.0}),
            Case("all_at_start", {**SMALL, "reset": "first", "delta": True}),
            Case("every_step", {**SMALL, "reset": 1.0, "delta": True, "init": True}),
            Case("every_step_channel", {**SMALL, "B": 1, "reset": 1.0, "channel": True, "init": True}),
            Case("one_token", {"B": 1, "T": 1, "H": 1, "K": 4, "V": 4, "delta": True}),
            Case("strong_gate", {**CHUNKS, "gate": -1e4, "delta": True}),
            Case("strong_gate_channel", {**CHUNKS, "gate": -1e4, "channel": True}),
            Case("offset_views", {**SMALL, "offset": True}),
            Case("wide", {"B": 1, "T": 5, "H": 1, "K": 80, "V": 96, "delta": True}),
            Case("long", {"B": 2, "T": 300, "H": 2, "K": 64, "V": 64, "delta": True, "init": True}, ALL, full=True),
        ),
        compile_cases=compile_cases,
        bench_shapes=(
            BenchShape(
                "delta_B16_T256_H4_32",
                {"B": 16, "T": 256, "H": 4, "K": 32, "V": 32, "delta": True},
                torch.float32,
                cpu=True,
            ),
            BenchShape("delta_B1024_T128_H4_64", {"B": 1024, "T": 128, "H": 4, "K": 64, "V": 64, "delta": True}),
            BenchShape("scalar_B1024_T128_H4_64", {"B": 1024, "T": 128, "H": 4, "K": 64, "V": 64}),
            BenchShape("channel_B256_T128_H4_64", {"B": 256, "T": 128, "H": 4, "K": 64, "V": 64, "channel": True}),
        ),  # fmt: skip
        bytes=moved,
        flops=flops,
        grads=("q", "k", "v", "log_decay", "beta", "S0", "S_init"),
        baselines={"step_loop": oracle, "fla": delta_rule_of_fla},
        used_by=("embodied_mem.memory.chunk_core",),
    )
)
