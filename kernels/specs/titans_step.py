"""Spec of `titans_step`: chunks of chains of several lengths, with and without a part that is taken in already."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from embodied_mem.kernels._registry import BenchShape, Case, CompileCase, Inputs, OpSpec, Shape, register_op
from embodied_mem.kernels.ops.titans_step import TitansSteps, titans_step
from embodied_mem.kernels.specs._draw import Draw, numbers, offset_view

ALL = (torch.float32, torch.float16, torch.bfloat16)


def sample(shape: Shape, seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
    """H, C, K, V; ``chains``: chunks of every chain, longest first; ``held``, ``clip``, ``gate``, ``offset``."""
    draw = Draw(seed, dtype, device)
    H, C, K, V = (shape[key] for key in "HCKV")
    chains = shape["chains"]
    E, sizes = len(chains), [sum(count > j for count in chains) for j in range(chains[0])]
    M = sum(sizes)
    q, k = (F.normalize(draw.normal(M, H, C, K).float(), dim=-1).to(dtype) for _ in range(2))
    v, start = draw.normal(M, H, C, V), draw.normal(E, H, 2 * K, V, scale=0.3)
    log_keep, log_momentum = draw.uniform(M, H, C, low=-0.2, high=0.0), draw.uniform(M, H, C, low=-1.5, high=-0.1)
    if shape.get("gate"):
        log_keep[:, :, C // 2] = shape["gate"]
    held = u_held = None
    if shape.get("held"):
        held = torch.arange(C, device=device) < draw.integers(0, C, E, 1)
        u_held = draw.normal(E, H, C, V, scale=0.2)
    kappa, mu = coefficients(log_keep.double(), log_momentum.double())
    inputs: Inputs = {"q": q, "k": k, "v": v, "theta": draw.uniform(M, H, C, low=0.05, high=0.5)}
    inputs |= {"kappa": kappa.to(dtype), "mu": mu[:, :, -1].to(dtype), "start": start}
    if shape.get("offset"):
        inputs |= {name: offset_view(inputs[name]) for name in ("q", "k", "v", "kappa")}
    places = torch.tensor([0, *sizes], device=device).cumsum(0)
    return inputs | {"offsets": places, "held": held, "u_held": u_held, "clip": shape.get("clip", 2.0)}


def coefficients(log_keep: Tensor, log_momentum: Tensor) -> tuple[Tensor, Tensor]:
    """Gates (..., C) -> coefficients of every token, (..., C, 2 + C) and (..., C, 1 + C), by running products."""
    keep, momentum = log_keep.exp().unsqueeze(-1), log_momentum.exp().unsqueeze(-1)
    C = log_keep.shape[-1]
    eye = torch.eye(C, dtype=log_keep.dtype, device=log_keep.device)
    kappa, mu = log_keep.new_zeros(*log_keep.shape[:-1], 2 + C), log_keep.new_zeros(*log_keep.shape[:-1], 1 + C)
    kappa[..., 0] = mu[..., 0] = 1
    all_kappa, all_mu = [], []
    for t in range(C):
        mu = momentum[..., t, :] * mu + F.pad(eye[t], (1, 0))
        kappa = keep[..., t, :] * kappa + F.pad(mu, (1, 0))
        all_kappa.append(kappa)
        all_mu.append(mu)
    return torch.stack(all_kappa, -2), torch.stack(all_mu, -2)


def oracle(
    q: Tensor, k: Tensor, v: Tensor, theta: Tensor, kappa: Tensor, mu: Tensor, start: Tensor, *, offsets: Tensor,
    held: Tensor | None = None, u_held: Tensor | None = None, clip: float = math.inf,
) -> TitansSteps:  # fmt: skip
    """Chain by chain and token by token: the gradient by autograd, every weight formed."""
    M, H, C, K = q.shape
    places = offsets.tolist()
    sizes = [b - a for a, b in zip(places, places[1:])]
    o: list[Tensor] = [start] * M
    u: list[Tensor] = [start] * M
    last, final = [], []
    for e in range(len(start)):
        W, Z = start[e].split(K, 1)
        for j in range(sum(size > e for size in sizes)):
            m = places[j] + e
            anchor, writes = (W, Z), []
            for s in range(C):
                if j == 0 and held is not None and u_held is not None and held[e, s]:
                    writes.append(u_held[e, :, s])
                    continue
                error = torch.einsum("hk,hkv->hv", k[m, :, s], W) - v[m, :, s]
                gradient = 2 * error / torch.sqrt(1 + 4 * error.square().sum(-1, keepdim=True) / clip**2)
                writes.append(-theta[m, :, s].unsqueeze(-1) * gradient)
            outer = [k[m, :, s].unsqueeze(-1) * writes[s].unsqueeze(-2) for s in range(C)]
            reads = []
            for t in range(C):
                weight = kappa[m, :, t, 0].view(H, 1, 1) * W + kappa[m, :, t, 1].view(H, 1, 1) * Z
                for s in range(C):
                    weight = weight + kappa[m, :, t, 2 + s].view(H, 1, 1) * outer[s]
                reads.append(torch.einsum("hk,hkv->hv", q[m, :, t], weight))
            Z = mu[m, :, 0].view(H, 1, 1) * Z + sum(mu[m, :, 1 + s].view(H, 1, 1) * outer[s] for s in range(C))
            W = weight
            o[m], u[m] = torch.stack(reads, 1), torch.stack(writes, 1)
        last.append(torch.cat(anchor, 1))
        final.append(torch.cat([W, Z], 1))
    return TitansSteps(torch.stack(o), torch.stack(u), torch.stack(last), torch.stack(final))


def composed(
    q: Tensor, k: Tensor, v: Tensor, theta: Tensor, kappa: Tensor, mu: Tensor, start: Tensor, *, offsets: Tensor,
    held: Tensor | None = None, u_held: Tensor | None = None, clip: float = math.inf,
) -> TitansSteps:  # fmt: skip
    """The chunk form in torch operations under autograd; half types in float32."""
    q, k, v, theta, kappa, mu, start = (
        z if z.dtype == torch.float64 else z.float() for z in (q, k, v, theta, kappa, mu, start)
    )
    places, K = offsets.tolist(), q.shape[-1]
    outputs, writes, lasts, finals = [], [], [], []
    now = start
    for j, (a, b) in enumerate(zip(places, places[1:])):
        W, Z = now[: b - a].split(K, 2)
        gradient = 2 * (k[a:b] @ W - v[a:b])
        gradient = gradient * torch.rsqrt(1 + gradient.square().sum(-1, keepdim=True) / clip**2)
        u = -theta[a:b].unsqueeze(-1) * gradient
        if j == 0 and held is not None and u_held is not None:
            u = torch.where(held.view(b - a, 1, -1, 1), u_held.to(u.dtype), u)
        scores = (q[a:b] @ k[a:b].mT) * kappa[a:b, :, :, 2:]
        read = kappa[a:b, :, :, :1] * (q[a:b] @ W) + kappa[a:b, :, :, 1:2] * (q[a:b] @ Z) + scores @ u
        ends, kept = kappa[a:b, :, -1].unsqueeze(-1), mu[a:b].unsqueeze(-1)
        turned = k[a:b].mT
        formed = ends[:, :, :1] * W + ends[:, :, 1:2] * Z + turned @ (ends[:, :, 2:] * u)
        carried = kept[:, :, :1] * Z + turned @ (kept[:, :, 1:] * u)
        on = places[j + 2] - b if j + 2 < len(places) else 0
        outputs.append(read)
        writes.append(u)
        lasts.append(torch.cat([W, Z], 2)[on:])
        now = torch.cat([formed, carried], 2)
        finals.append(now[on:])
    return TitansSteps(torch.cat(outputs), torch.cat(writes), torch.cat(lasts[::-1]), torch.cat(finals[::-1]))


def op_args(inputs: Inputs) -> list[tuple[str, tuple[Any, ...]]]:
    """Arguments of the operators behind it."""
    order = ("q", "k", "v", "theta", "kappa", "mu", "start", "offsets", "held", "u_held", "clip")
    given = [inputs[name] for name in order]
    plain = [z.detach() if torch.is_tensor(z) else z for z in given]
    grads = tuple(torch.ones_like(z) for z in (plain[2], plain[2], plain[6], plain[6]))
    (M, H, C, K), V = plain[0].shape, plain[2].shape[3]
    states = torch.zeros(M, H, 2 * K + C, V)
    return [
        ("embodied_mem::titans_step", (*given, True)),
        ("embodied_mem::titans_step_backward", (*grads, *plain, states)),
    ]


def moved(inputs: Inputs) -> int:
    """All inputs read; o, u, and the state twice written."""
    names = ("q", "k", "v", "theta", "kappa", "mu", "start", "u_held", "v", "v", "start", "start")
    return numbers(*(inputs[name] for name in names))


def flops(inputs: Inputs) -> int:
    """Prediction, read through W, Z and the writes, and the next W and Z, of every slot."""
    (M, H, C, K), V = inputs["q"].shape, inputs["v"].shape[-1]
    return 2 * M * H * C * (5 * K * V + C * (K + V))


def compile_cases() -> list[CompileCase]:
    """Heads of 32 x 32 (the memory's default) and of 64 x 64 in registers, of 128 x 128 by tiles, both directions."""
    from embodied_mem.kernels.triton_ops import titans_step as kernel

    integers = dict.fromkeys(("E", "H", "J", "K", "V", "C"), "i32")
    wide = dict.fromkeys(("states", "d_q", "d_k", "d_v", "d_theta", "d_kappa", "d_mu", "d_start", "d_held", "d_rows",
                          "beyond", "waiting"), "*fp32")  # fmt: skip
    halves = ("q", "k", "v", "theta", "kappa", "mu", "start", "u_held", "o", "u", "last", "final", "d_o", "d_u",
              "d_last", "d_final")  # fmt: skip
    types = integers | wide | {"offsets": "*i64", "held": "*u8", "bound": "fp32"}
    cases = []
    for name, kind, K, archs in (
        ("32_fp32", "fp32", 32, (80, 89, 90, 100)),
        ("32_bf16", "bf16", 32, (90,)),
        ("64_bf16", "bf16", 64, (90,)),
        ("128_fp32", "fp32", 128, (90,)),
        ("128_bf16", "bf16", 128, (90,)),
    ):
        BC, BK, BV, whole = kernel.tiles(16, K, K, wide=kind == "fp32")
        sizes = {"HAS_HELD": True, "CLIP": True, "PRECISION": "tf32" if kind == "bf16" else "ieee",
                 "BC": BC, "BK": BK, "BV": BV}  # fmt: skip
        given = types | dict.fromkeys(halves, f"*{kind}")
        odd, expect = ("E", "H", "J"), ("HMMA",) if kind == "bf16" else ()
        for part, function, more in (
            ("forward", kernel.forward_kernel if whole else kernel.tiled_forward_kernel, {"SAVE": True}),
            ("backward_reads", kernel.reads_kernel, {}),
            ("backward_chain", kernel.chain_kernel if whole else kernel.tiled_chain_kernel, {}),
            ("backward_ends", kernel.ends_kernel, {}),
        ):
            constants, warps, targets = sizes | more, kernel.WARPS, archs if part == "forward" else (90,)
            if part in ("backward_reads", "backward_ends"):
                constants |= kernel.chunk_tiles(BK, BV, wide=kind == "fp32")
                warps = int(constants.pop("num_warps"))
                if not whole:
                    # the same program as for the largest whole matrices
                    continue
            cases.append(CompileCase(f"{part}_{name}", function, given, constants, warps, 2, odd, expect, targets))
    return cases


SMALL = {"H": 2, "C": 4, "K": 5, "V": 3, "chains": (3, 2, 1)}
# What needs neither several heads nor chains that end at several chunks: the interpreter takes its time for each.
ALONE = {"H": 1, "C": 4, "K": 5, "V": 3, "chains": (2, 1)}

register_op(
    OpSpec(
        name="titans_step",
        call=titans_step,
        schemas=("embodied_mem::titans_step", "embodied_mem::titans_step_backward"),
        sample=sample,
        op_args=op_args,
        oracle=oracle,
        composed=composed,
        edge_cases=(
            Case("held", {**ALONE, "H": 2, "held": True}, ALL),
            Case("plain", SMALL),
            Case("one_token_chunks", {**ALONE, "C": 1, "chains": (4, 2)}),
            Case("one_chunk_each", {**ALONE, "chains": (1, 1)}),
            Case("one_chain", {"H": 1, "C": 3, "K": 4, "V": 4, "chains": (4,)}),
            Case("no_clip", {**ALONE, "clip": math.inf, "held": True}),
            Case("strong_gate", {**ALONE, "gate": -1e4}),
            Case("tight_clip", {**ALONE, "clip": 0.05}),
            Case("offset_views", {**ALONE, "H": 2, "offset": True}),
            Case("more_than_a_tile", {"H": 1, "C": 18, "K": 20, "V": 30, "chains": (2,)}),
            Case("tiled", {"H": 1, "C": 3, "K": 36, "V": 36, "chains": (3, 1), "held": True}),
            Case("tiled_half", {"H": 1, "C": 3, "K": 66, "V": 18, "chains": (2, 1)}, (torch.float16,)),
            Case("wide", {"H": 2, "C": 16, "K": 64, "V": 64, "chains": (6, 6, 4), "held": True}, ALL[1:], full=True),
        ),
        compile_cases=compile_cases,
        bench_shapes=(
            BenchShape(
                "B16_T256_H4_32",
                {"H": 4, "C": 16, "K": 32, "V": 32, "chains": (10,) * 16 + (3,) * 48},
                torch.float32,
                cpu=True,
            ),
            BenchShape("B1024_T128_H4_32", {"H": 4, "C": 16, "K": 32, "V": 32, "chains": (8,) * 1024}, torch.float32),
            BenchShape("B1024_T128_H4_64", {"H": 4, "C": 16, "K": 64, "V": 64, "chains": (8,) * 1024}),
            BenchShape("B256_T128_H4_128", {"H": 4, "C": 16, "K": 128, "V": 128, "chains": (8,) * 256}),
        ),
        bytes=moved,
        flops=flops,
        grads=("q", "k", "v", "theta", "kappa", "mu", "start", "u_held"),
        used_by=("embodied_mem.memory.titans",),
    )
)
