"""Spec of `map_query` and `map_cast`."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from embodied_mem.kernels._registry import BenchShape, Case, CompileCase, Inputs, OpSpec, Shape, register_op
from embodied_mem.kernels.ops._voxel_map import VoxelMap, voxel_map
from embodied_mem.kernels.ops.map_query import Found, Hit, map_cast, map_query
from embodied_mem.kernels.reference._voxels import morton_decode, morton_encode, take_cells
from embodied_mem.kernels.specs._draw import Draw, numbers

ALL = (torch.float32, torch.float16, torch.bfloat16)
_STEPS = 64


def sample(shape: Shape, seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
    """B, N voxels held, Q, C, ``bits``; ``F``, ``around``, ``radius``, ``rays``, ``integer``, ``far`` (also NaN)."""
    draw = Draw(seed, dtype, device)
    B, N, Q, C, F = (shape.get(key, 0) for key in ("B", "N", "Q", "C", "F"))
    bits, size = shape.get("bits", 4), 0.5
    map = voxel_map(B, C, size=size, bits=bits, features=F, device=device)
    voxels = draw.integers(0, 2**bits, B, N, 3, dtype=torch.int64)
    row = torch.arange(B, device=device).repeat_interleave(N)
    slots = take_cells(map.keys, row, morton_encode(voxels).flatten()).view(B, N)
    map.points.scatter_(1, slots, draw.integers(1, 9, B, N))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    total = draw.normal(B, C, F).to(wide)
    # half of the questions at voxels that are held; inside a voxel at multiples of an eighth: exact in every type
    asked = draw.integers(0, 2**bits, B, Q, 3, dtype=torch.int64)
    known = voxels[:, torch.arange(Q, device=device) % max(N, 1)] if N else asked
    asked = torch.where(draw.flags(0.0 if shape.get("rays") else 0.5, B, Q, 1), known, asked)
    where: Tensor = asked
    if not shape.get("integer"):
        inside = asked + draw.integers(1, 8, B, Q, 3) / 8
        where = (inside * size + map.origin.unsqueeze(1)).to(dtype)
    if shape.get("far"):
        where[:, 0], where[:, -1] = 1e6, torch.nan
    direction = None
    if shape.get("rays"):
        direction = draw.integers(-4, 5, B, Q, 3).to(dtype) / 4
        direction[..., 0] = torch.where((direction == 0).all(-1), 1, direction[..., 0])
    return {
        "keys": map.keys, "points": map.points, "total": total, "origin": map.origin, "where": where,
        "direction": direction, "size": size, "bits": bits, "around": shape.get("around", "own"),
        "radius": shape.get("radius"),
    }  # fmt: skip


def _map(keys: Tensor, points: Tensor, total: Tensor, origin: Tensor, size: float, bits: int) -> VoxelMap:
    none = points[:, 0] * 0
    return VoxelMap(keys, points, total, origin, none, none, size, bits)


def call(
    keys: Tensor, points: Tensor, total: Tensor, origin: Tensor, where: Tensor, direction: Tensor | None, size: float,
    bits: int, around: str, radius: float | None,
) -> Found | Hit:  # fmt: skip
    """`map_query`, or with a direction `map_cast`, with the tensors of the map one by one."""
    map = _map(keys, points, total, origin, size, bits)
    if direction is not None:
        return map_cast(map, where, direction, steps=_STEPS)
    return map_query(map, where, around, radius=radius)


def oracle(
    keys: Tensor, points: Tensor, total: Tensor, origin: Tensor, where: Tensor, direction: Tensor | None, size: float,
    bits: int, around: str, radius: float | None,
) -> Found | Hit:  # fmt: skip
    """One voxel at a time in a dictionary per row; rays in fractions, so that borders met together are known."""
    B, Q = where.shape[:2]
    held = [
        {tuple(morton_decode(key).tolist()): i for i, key in enumerate(line) if key >= 0} for line in keys
    ]  # fmt: skip
    place = where if not where.is_floating_point() else (where - origin.unsqueeze(1)) / size
    if direction is not None:
        slots, far = torch.full((B, Q), -1), where.new_full((B, Q), torch.inf)
        for b in range(B):
            for q in range(Q):
                found = _walk(held[b], place[b, q].tolist(), (direction[b, q] / size).tolist(), 2**bits)
                slots[b, q], far[b, q] = found
        return Hit(slots, far)
    reach = 0 if radius is None and around == "own" else 1 if radius is None else int(radius / size)
    cells = []
    for cell in ((x, y, z) for z in range(-reach, reach + 1) for y in range(-reach, reach + 1)
                 for x in range(-reach, reach + 1)):  # fmt: skip
        away = math.dist((0, 0, 0), cell) * size
        if radius is not None:
            if away <= radius:
                cells.append(cell)
        elif around == "own" or (any(cell) and (around == "all" or sum(map(abs, cell)) == 1)):
            cells.append(cell)
    if radius is not None:
        cells.sort(key=lambda cell: math.dist((0, 0, 0), cell))
    slots = torch.full((B, Q, len(cells)), -1)
    for b in range(B):
        for q in range(Q):
            at = place[b, q]
            if bool(torch.isfinite(at).all()):
                own = at.floor().long().tolist()
                for k, cell in enumerate(cells):
                    slots[b, q, k] = held[b].get(tuple(x + y for x, y in zip(own, cell)), -1)
    count, mean = torch.zeros(slots.shape, dtype=torch.int32), total.new_zeros(*slots.shape, total.shape[2])
    for b, q, k in (slots >= 0).nonzero().tolist():
        slot = slots[b, q, k]
        count[b, q, k], mean[b, q, k] = points[b, slot], total[b, slot] / points[b, slot]
    return Found(slots, count, mean, torch.tensor(cells))


def _walk(held: dict[Any, int], start: list[float], direction: list[float], limit: int) -> tuple[int, float]:
    if not all(math.isfinite(x) for x in start):
        return -1, math.inf
    s, d = [Fraction(x) for x in start], [Fraction(x) for x in direction]
    at, reached = [math.floor(x) for x in s], Fraction(0)
    for _ in range(_STEPS):
        if not all(0 <= x < limit for x in at):
            break
        if tuple(at) in held:
            return held[tuple(at)], float(reached)
        meets = [((at[i] + (d[i] > 0)) - s[i]) / d[i] if d[i] else None for i in range(3)]
        reached = min(x for x in meets if x is not None)
        axis = meets.index(reached)
        at[axis] += 1 if d[axis] > 0 else -1
    return -1, math.inf


def composed(
    keys: Tensor, points: Tensor, total: Tensor, origin: Tensor, where: Tensor, direction: Tensor | None, size: float,
    bits: int, around: str, radius: float | None,
) -> Tensor:  # fmt: skip
    """Sort the keys, search the codes in them, gather; of a ray, all voxels it may visit."""
    reach = 0 if radius is None and around == "own" else 1 if radius is None else int(radius / size)
    axis = torch.arange(-reach, reach + 1, device=keys.device)
    place = (where - origin.unsqueeze(1)) / size
    if direction is None:
        voxels = place.floor().long().unsqueeze(2) + torch.cartesian_prod(axis, axis, axis)
    else:
        steps = torch.arange(0, _STEPS, 0.5, device=keys.device).view(1, 1, -1, 1)
        voxels = (
            (place.unsqueeze(2) + torch.nn.functional.normalize(direction, dim=-1).unsqueeze(2) * steps).floor().long()
        )
    inside = ((voxels >= 0) & (voxels < 2**bits)).all(-1)
    code = torch.where(inside, morton_encode(voxels.clamp(0, 2**bits - 1)), -2).flatten(1)
    ordered, order = keys.sort(1)
    at = torch.searchsorted(ordered, code).clamp(max=keys.shape[1] - 1)
    there = ordered.gather(1, at) == code
    slot = order.gather(1, at)
    mean = total.gather(1, slot.unsqueeze(-1).expand(-1, -1, total.shape[2])) / points.gather(1, slot).clamp(
        min=1
    ).unsqueeze(-1)
    return torch.where(there.unsqueeze(-1), mean, 0)


def op_args(inputs: Inputs) -> list[tuple[str, tuple[Any, ...]]]:
    """Arguments of both operators."""
    keys, bits = inputs["keys"], inputs["bits"]
    voxels = torch.arange(keys.shape[0] * 6).view(-1, 2, 3) % 2**bits
    offsets = torch.tensor([[0, 0, 0], [1, 0, -1]])
    return [
        ("embodied_mem::map_find", (keys, voxels, offsets, bits)),
        ("embodied_mem::map_cast", (keys, voxels + 0.25, voxels - 1.5, bits, 8)),
    ]


def _cells(inputs: Inputs) -> int:
    """Cells that are visited at least: of a ray one."""
    if inputs["direction"] is not None:
        return inputs["where"][..., 0].numel()
    radius = inputs["radius"]
    around = {"own": 1, "faces": 6, "all": 26}[inputs["around"]]
    return inputs["where"][..., 0].numel() * (around if radius is None else int(4.19 * (radius / inputs["size"]) ** 3))


def compile_cases() -> list[CompileCase]:
    """Look-ups and rays."""
    from embodied_mem.kernels.triton_ops import map_query as kernel

    types = dict.fromkeys(("Q", "K", "C", "limit", "steps"), "i32")
    types |= dict.fromkeys(("keys", "voxels", "offsets", "slots"), "*i64")
    types |= dict.fromkeys(("start", "direction", "far"), "*fp32")
    sizes, odd = {"BLOCK": kernel.BLOCK}, ("K", "steps")
    return [
        CompileCase("find", kernel.find_kernel, types, sizes, 4, 2, odd),
        CompileCase("cast", kernel.cast_kernel, types, sizes, 4, 2, odd),
    ]


SMALL = {"B": 2, "N": 20, "Q": 5, "C": 64}

register_op(
    OpSpec(
        name="map_query",
        call=call,
        schemas=("embodied_mem::map_find", "embodied_mem::map_cast"),
        sample=sample,
        op_args=op_args,
        oracle=oracle,
        composed=composed,
        edge_cases=(
            Case("own", {**SMALL, "F": 3}, ALL),
            Case("rays", {**SMALL, "N": 60, "rays": True}),
            Case("faces", {**SMALL, "N": 200, "C": 512, "bits": 3, "around": "faces"}),
            Case("all", {**SMALL, "N": 200, "C": 512, "bits": 3, "around": "all", "F": 2}),
            Case("radius", {**SMALL, "N": 200, "C": 512, "bits": 3, "radius": 1.1}),
            Case("all_bits", {**SMALL, "bits": 21, "integer": True}),
            Case("nothing_held", {**SMALL, "N": 0, "around": "all", "F": 1}),
            Case("rays_of_nothing", {**SMALL, "N": 0, "rays": True}),
            Case("far_points", {**SMALL, "far": True, "around": "all"}),
            Case("far_rays", {**SMALL, "far": True, "rays": True}),
            Case("full_table", {"B": 2, "N": 300, "Q": 20, "C": 16, "bits": 1}),
            Case("many_rays", {"B": 1, "N": 400, "Q": 150, "C": 1024, "rays": True}),
        ),
        compile_cases=compile_cases,
        bench_shapes=(
            BenchShape(
                "all_B16_Q256_C8k",
                {"B": 16, "N": 3000, "Q": 256, "C": 8192, "bits": 5, "F": 8, "around": "all"},
                torch.float32,
                cpu=True,
            ),
            BenchShape(
                "rays_B16_Q256_C8k",
                {"B": 16, "N": 3000, "Q": 256, "C": 8192, "bits": 5, "F": 8, "rays": True},
                torch.float32,
                cpu=True,
            ),
            BenchShape(
                "all_B1024_Q256_C8k",
                {"B": 1024, "N": 3000, "Q": 256, "C": 8192, "bits": 5, "F": 8, "around": "all"},
                torch.float32,
            ),
            BenchShape(
                "rays_B1024_Q256_C8k",
                {"B": 1024, "N": 3000, "Q": 256, "C": 8192, "bits": 5, "F": 8, "rays": True},
                torch.float32,
            ),
        ),  # fmt: skip
        bytes=lambda inputs: (
            numbers(inputs["where"], inputs["direction"]) + _cells(inputs) * (20 + 4 * inputs["total"].shape[2])
        ),
        flops=lambda inputs: 20 * _cells(inputs),
        used_by=("embodied_mem.memory.spatial.slots",),
    )
)
