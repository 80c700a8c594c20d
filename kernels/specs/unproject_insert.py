"""Spec of `unproject_insert`, with `map_parents`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from embodied_mem.kernels._registry import BenchShape, Case, CompileCase, Inputs, OpSpec, Shape, register_op
from embodied_mem.kernels.ops._voxel_map import VoxelMap, voxel_map
from embodied_mem.kernels.ops.unproject_insert import map_parents, unproject_insert
from embodied_mem.kernels.specs._draw import Draw, numbers

ALL = (torch.float32, torch.float16, torch.bfloat16)
_TABLES = ("keys", "points", "total", "dropped", "lost")
# A point closer to the border of its voxel than this (in voxels) is left out: rounding decides where it goes.
_BORDER = 1e-3


def sample(shape: Shape, seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
    """B, H, W, C; ``F`` features, ``bits``, ``bad`` depths, ``same`` voxel for all, ``filled``, ``matrix``."""
    draw = Draw(seed, dtype, device)
    B, H, W, C, F = (shape.get(key, 0) for key in ("B", "H", "W", "C", "F"))
    size, bits = shape.get("size", 0.5), shape.get("bits", 6)
    depth = draw.uniform(B, H, W, low=0.3, high=4.0)
    if shape.get("same"):
        depth = torch.full_like(depth, 0.25)
    if shape.get("bad"):
        depth[:, 0, :4] = torch.tensor([0.0, -1.0, torch.nan, torch.inf], dtype=dtype)
        depth[:, -1] = 30.0
    turn, place = draw.uniform(B, 2, low=-0.6, high=0.6), draw.normal(B, 3)
    pose = torch.cat([place * (0 if shape.get("same") else 1), turn], 1)
    intr = torch.tensor([W, W, W / 2, H / 2], dtype=dtype, device=device).expand(B, 4).contiguous()
    found = voxel_map(B, C, size=size, bits=bits, features=F, device=device)
    if shape.get("same"):
        # one voxel around the camera
        found.origin.fill_(-8.0)
        size, bits = 16.0, 1
    if shape.get("corner"):
        # so that few of many bits are used and positions stay exact
        found.origin.fill_(-8.0)
    depth = torch.where(_near_border(depth, pose, intr, found.origin, size), 0, depth)
    if shape.get("matrix"):
        pose = torch.cat([_axes(pose.double()), pose.double()[:, :3, None]], 2).to(dtype)
        depth = torch.where(_near_border(depth, pose, intr, found.origin, size), 0, depth)
    features = draw.normal(B, H, W, F) if F else None
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    inputs: Inputs = {"depth": depth, "pose": pose, "intr": intr, "features": features}
    tables = dict(zip(_TABLES, (found.keys, found.points, found.total.to(wide), found.dropped, found.lost)))
    inputs |= tables | {"origin": found.origin, "size": size, "bits": bits, "levels": shape.get("levels", 0)}
    if shape.get("filled"):
        # an earlier view, so that some voxels are there already
        before = sample({**shape, "filled": False}, seed + 1, dtype, device)
        oracle(**{**before, "levels": 0})
        inputs |= {name: before[name] for name in _TABLES}
    return inputs


def _axes(pose: Tensor) -> Tensor:
    """(B, 5) -> columns right, down and forward, (B, 3, 3)."""
    sin, cos, sin_p, cos_p = pose[:, 3].sin(), pose[:, 3].cos(), pose[:, 4].sin(), pose[:, 4].cos()
    columns = (cos, 0 * cos, -sin), (-sin * sin_p, -cos_p, -cos * sin_p), (sin * cos_p, -sin_p, cos * cos_p)
    return torch.stack([torch.stack(column, 1) for column in columns], 2)


def _points(depth: Tensor, pose: Tensor, intr: Tensor) -> Tensor:
    """Return the points (B, H, W, 3) of pixels."""
    B, H, W = depth.shape
    fx, fy, cx, cy = intr.unsqueeze(-1).unbind(1)
    u = (torch.arange(W, device=depth.device, dtype=depth.dtype) + 0.5 - cx) / fx
    v = (torch.arange(H, device=depth.device, dtype=depth.dtype) + 0.5 - cy) / fy
    camera = torch.stack([depth * u.view(B, 1, W), depth * v.view(B, H, 1), depth], -1)
    R, t = (pose[:, :, :3], pose[:, :, 3]) if pose.dim() == 3 else (_axes(pose), pose[:, :3])
    return camera @ R.transpose(1, 2).unsqueeze(1) + t.view(B, 1, 1, 3)


def _near_border(depth: Tensor, pose: Tensor, intr: Tensor, origin: Tensor, size: float) -> Tensor:
    """Return where rounding could decide the voxel; False where there is no depth."""
    points = _points(depth.double().clamp(0, 50).nan_to_num(0), pose.double(), intr.double())
    place = (points - origin.double().view(-1, 1, 1, 3)) / size
    return ((place - place.round()).abs() < _BORDER).any(-1) & (depth > 0) & (depth <= 20)


def call(
    depth: Tensor, pose: Tensor, intr: Tensor, features: Tensor | None, keys: Tensor, points: Tensor, total: Tensor,
    dropped: Tensor, lost: Tensor, origin: Tensor, size: float, bits: int, levels: int,
) -> tuple[Tensor, ...] | None:  # fmt: skip
    """`unproject_insert` with the tensors of the map one by one; with ``levels`` also `map_parents`, by code."""
    map = VoxelMap(keys, points, total, origin, dropped, lost, size, bits)
    unproject_insert(depth, pose, intr, map, features=features)
    if not levels:
        return None
    above = map_parents(map, levels)
    return by_code(above.keys, above.points, above.total)


def by_code(keys: Tensor, points: Tensor, total: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return keys (empty cells first), points and sums in the order of the keys."""
    keys, order = keys.sort(1)
    return keys, points.gather(1, order), total.gather(1, order.unsqueeze(-1).expand_as(total))


def comparable(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put the voxels in the order of their codes; where points were lost, which ones depends on the order."""
    keys, points, total = by_code(found["keys"], found["points"], found["total"])
    full = (found["lost"] > 0).view(-1, 1)
    keys, points, total = keys.masked_fill(full, -2), points * ~full, total * ~full.unsqueeze(-1)
    held = (found["keys"] >= 0).sum(1)
    more = {"keys": keys, "points": points, "total": total, "lost": (found["lost"] > 0).int(), "held": held}
    return {**found, **more}


def oracle(
    depth: Tensor, pose: Tensor, intr: Tensor, features: Tensor | None, keys: Tensor, points: Tensor, total: Tensor,
    dropped: Tensor, lost: Tensor, origin: Tensor, size: float, bits: int, levels: int,
) -> tuple[Tensor, ...] | None:  # fmt: skip
    """One pixel at a time, a dictionary of voxels per row; bits of codes interleaved one by one."""
    (B, H, W), C = depth.shape, keys.shape[1]
    world = _points(depth.double().nan_to_num(-1, -1, -1), pose.double(), intr.double())
    above: list[dict[int, tuple[int, Tensor]]] = []
    for b in range(B):
        held = {int(key): (int(points[b, i]), total[b, i].clone()) for i, key in enumerate(keys[b]) if key >= 0}
        for n in range(H * W):
            z = float(depth[b].flatten()[n])
            at = [int(x) for x in ((world[b].view(-1, 3)[n] - origin[b].double()) / size).floor().tolist()]
            if not 0 < z <= 20 or min(at) < 0 or max(at) >= 2**bits:
                dropped[b] += 1
                continue
            code = sum((at[axis] >> bit & 1) << (3 * bit + axis) for bit in range(bits) for axis in range(3))
            if code not in held and len(held) == C:
                lost[b] += 1
                continue
            n_before, before = held.get(code, (0, torch.zeros_like(total[b, 0])))
            held[code] = n_before + 1, before if features is None else before + features[b].flatten(0, 1)[n]
        _fill(keys[b], points[b], total[b], held)
        parents: dict[int, tuple[int, Tensor]] = {}
        for code, (n, value) in held.items():
            n_before, before = parents.get(code >> (3 * levels), (0, torch.zeros_like(value)))
            parents[code >> (3 * levels)] = n_before + n, before + value
        above.append(parents)
    if not levels:
        return None
    found = torch.full_like(keys, -1), torch.zeros_like(points), torch.zeros_like(total)
    for b, parents in enumerate(above):
        _fill(found[0][b], found[1][b], found[2][b], parents)
    return by_code(*found)


def _fill(keys: Tensor, points: Tensor, total: Tensor, held: dict[int, tuple[int, Tensor]]) -> None:
    for i, (code, (n, value)) in enumerate(held.items()):
        keys[i], points[i], total[i] = code, n, value


def composed(
    depth: Tensor, pose: Tensor, intr: Tensor, features: Tensor | None, keys: Tensor, points: Tensor, total: Tensor,
    dropped: Tensor, lost: Tensor, origin: Tensor, size: float, bits: int, levels: int,
) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
    """Points and codes of a view; `unique` over them and the voxels held, their counts and sums by `index_add`.

    It keeps voxels as a list, which grows, where the operation keeps a table of fixed size.
    """
    world = _points(depth, pose, intr)
    at = ((world - origin.view(-1, 1, 1, 3)) / size).floor()
    valid = torch.isfinite(depth) & (depth > 0) & (depth <= 20) & ((at >= 0) & (at < 2**bits)).all(-1)
    x = at.nan_to_num(0).clamp(0, 2**bits - 1).long()
    for shift, mask in zip(
        (16, 8, 4, 2), (0x1F0000FF0000FF, 0x100F00F00F00F00F, 0x10C30C30C30C30C3, 0x1249249249249249)
    ):
        x = (x | (x << shift)) & mask
    code = x[..., 0] | (x[..., 1] << 1) | (x[..., 2] << 2)
    row = (torch.arange(len(depth), device=depth.device) << (3 * bits)).view(-1, 1)
    held = keys >= 0
    every = torch.cat([(row.unsqueeze(-1) | code)[valid], (row | keys)[held]])
    found, where = every.unique(return_inverse=True)
    count = torch.cat([points.new_ones(int(valid.sum())), points[held]])
    count = points.new_zeros(len(found)).index_add_(0, where, count)
    if features is None:
        return found, count, None
    rows = torch.cat([features[valid], total[held]])
    return found, count, rows.new_zeros(len(found), rows.shape[1]).index_add_(0, where, rows)


def op_args(inputs: Inputs) -> list[tuple[str, tuple[Any, ...]]]:
    """Arguments of both operators."""
    given = {name: z.detach() if torch.is_tensor(z) else z for name, z in inputs.items()}
    camera = torch.cat([_axes(given["pose"]), given["pose"][:, :3, None]], 2)
    tables = [given[name].clone() for name in _TABLES]
    last = (given["origin"], given["size"], given["bits"], 20.0)
    code = torch.arange(12).view(3, 4) % 3 - 1
    entries = (code, torch.ones(3, 4, dtype=torch.int32), torch.ones(3, 4, 2))
    empty = voxel_map(3, 8, size=1.0, features=2)
    return [
        ("embodied_mem::unproject_insert", (given["depth"], camera, given["intr"], given["features"], *tables, *last)),
        ("embodied_mem::map_insert", (*entries, empty.keys, empty.points, empty.total, empty.lost)),
    ]


def moved(inputs: Inputs) -> int:
    """The view once; key, points and sums of a cell per pixel read, points and sums written back."""
    cells = inputs["depth"].numel() * (8 + 2 * (4 + 4 * inputs["total"].shape[2]))
    return numbers(inputs["depth"], inputs["features"], inputs["pose"], inputs["intr"]) + cells


def compile_cases() -> list[CompileCase]:
    """Views without and with features; entries of a coarser map."""
    from embodied_mem.kernels.triton_ops import unproject_insert as kernel

    types = dict.fromkeys(("P", "W", "C", "F", "N"), "i32") | dict.fromkeys(("limit", "scale", "max_depth"), "fp32")
    types |= dict.fromkeys(("camera", "origin", "total"), "*fp32")
    types |= dict.fromkeys(("count", "dropped", "lost", "weight"), "*i32") | {"keys": "*i64", "code": "*i64"}
    cases = []
    for name, function, kind, F, archs in (
        ("view_bf16", kernel.insert_kernel, "bf16", 0, (80, 89, 90, 100)),
        ("view_f64_bf16", kernel.insert_kernel, "bf16", 64, (90,)),
        ("view_f64_fp32", kernel.insert_kernel, "fp32", 64, (90,)),
        ("entries_f64", kernel.add_kernel, "fp32", 64, (80, 89, 90, 100)),
    ):
        pointers = dict.fromkeys(("depth", "intr", "features"), f"*{kind}")
        sizes = {"HAS_FEATURES": F > 0, "BLOCK": kernel.BLOCK, "BF": kernel.feature_tile(F)}
        odd = () if F else ("F",)
        cases.append(CompileCase(name, function, types | pointers, sizes, 4, 2, odd, (), archs))
    return cases


SMALL = {"B": 2, "H": 4, "W": 6, "C": 64}

register_op(
    OpSpec(
        name="unproject_insert",
        call=call,
        schemas=("embodied_mem::unproject_insert", "embodied_mem::map_insert"),
        sample=sample,
        op_args=op_args,
        oracle=oracle,
        composed=composed,
        comparable=comparable,
        edge_cases=(
            Case("plain", {**SMALL, "F": 3}, ALL),
            Case("bad_depths", {**SMALL, "F": 2, "bad": True}, ALL),
            Case("no_features", {**SMALL, "matrix": True}),
            Case("filled", {**SMALL, "F": 5, "filled": True, "levels": 2}),
            Case("parents", {**SMALL, "levels": 1}),
            Case("one_voxel", {**SMALL, "F": 2, "same": True}),
            Case("outside", {**SMALL, "bits": 2}),
            Case("full_table", {"B": 2, "H": 6, "W": 8, "C": 16, "F": 1}),
            Case("one_pixel", {"B": 1, "H": 1, "W": 1, "C": 2, "F": 40}),
            Case("many_blocks", {"B": 1, "H": 18, "W": 30, "C": 1024, "bits": 21, "corner": True}),
        ),
        compile_cases=compile_cases,
        bench_shapes=(
            BenchShape(
                "B16_64x64_C8k", {"B": 16, "H": 64, "W": 64, "C": 8192, "bits": 8, "size": 0.1}, torch.float32, cpu=True
            ),
            BenchShape(
                "B16_32x32_F16_C4k",
                {"B": 16, "H": 32, "W": 32, "C": 4096, "bits": 8, "size": 0.1, "F": 16},
                torch.float32,
                cpu=True,
            ),
            BenchShape("B1024_64x64_C8k", {"B": 1024, "H": 64, "W": 64, "C": 8192, "bits": 8, "size": 0.1}),
            BenchShape("B256_32x32_F64_C4k", {"B": 256, "H": 32, "W": 32, "C": 4096, "bits": 8, "size": 0.1, "F": 64}),
        ),
        bytes=moved,
        flops=lambda inputs: inputs["depth"].numel() * (40 + inputs["total"].shape[2]),
        mutates=_TABLES,
        used_by=("embodied_mem.memory.spatial.slots",),
    )
)
