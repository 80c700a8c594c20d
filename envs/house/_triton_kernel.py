"""The Triton kernel of `render_triton`: the ray caster of `reference`, one program per strip of columns of a frame.

Same surfaces, same rules, same order of tests as `reference`. Scalars decide early which walls and boxes can be seen
from where the camera stands, so the per-pixel work is that of the few faces that look at it.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN202
# Triton kernels are compiled from their source; `tl.constexpr` values are the only annotations that mean something.

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _shade(colour, light):
    both = (((colour & 0xFF00FF) * light) >> 8) & 0xFF00FF
    return both | ((((colour & 0x00FF00) * light) >> 8) & 0x00FF00)


@triton.jit
def _light(share, t):
    return (256.0 * share * tl.maximum(1.0 - 0.035 * t, 0.5)).to(tl.int32)


@triton.jit
def _paint(low, high, v, p0, p1, p2, p3):
    odd = ((low >> v) & 1) != 0
    return tl.where(((high >> v) & 1) != 0, tl.where(odd, p3, p2), tl.where(odd, p1, p0))


@triton.jit
def draw(
    plan_of, camera, door_openness, box_pose, box_shown, plan_int, plan_float, room_int, edge_float, edge_int,
    opening_float, opening_int, box_size, box_int, room_palette, box_palette, fixed_palette, walls, floors, skins,
    class_skin, class_top, rgb, depth_out, ids_out, ceiling_rgb, eye, focal, rows, columns, door_stride, box_stride,
    WANT_RGB: tl.constexpr, WANT_DEPTH: tl.constexpr, WANT_IDS: tl.constexpr, COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """Draw COLUMNS x ROWS pixels of one frame; the grid is (frames, column strips, row blocks)."""
    n = tl.program_id(0)
    c = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS))[:, None]
    r = (tl.program_id(2) * ROWS + tl.arange(0, ROWS))[None, :]
    plan = tl.load(plan_of + n)
    x, z = tl.load(camera + n * 5), tl.load(camera + n * 5 + 1)
    sin, cos = tl.load(camera + n * 5 + 2), tl.load(camera + n * 5 + 3)
    centre_y = tl.load(camera + n * 5 + 4)
    ceiling = tl.load(plan_float + plan * 5)
    u = (c.to(tl.float32) + 0.5 - 0.5 * columns) / focal
    slope = (r.to(tl.float32) + 0.5 - centre_y) / focal
    slope = tl.where(tl.abs(slope) > 1e-7, slope, 1e-7)
    dx, dz = sin + u * cos, cos - u * sin
    down = slope > 0.0
    depth = tl.where(down, eye, eye - ceiling) / slope + 0.0 * u
    light = _light(1.0, depth)
    colour = _shade(ceiling_rgb + tl.zeros((COLUMNS, ROWS), tl.int32), light)
    ids = tl.where(down, 1, 2) + tl.zeros((COLUMNS, ROWS), tl.int32)
    px, pz = x + depth * dx, z + depth * dz
    room0, room_count = tl.load(plan_int + plan * 10), tl.load(plan_int + plan * 10 + 1)
    if WANT_RGB:
        ix, iz = (px * 16.0 + 4096.0).to(tl.int32), (pz * 16.0 + 4096.0).to(tl.int32)
        for room in range(room0, room0 + room_count):
            inside = tl.zeros((COLUMNS, ROWS), tl.int32)
            for e in range(tl.load(room_int + room * 4), tl.load(room_int + room * 4 + 1)):
                x0, z0 = tl.load(edge_float + e * 6), tl.load(edge_float + e * 6 + 1)
                x1, z1 = tl.load(edge_float + e * 6 + 2), tl.load(edge_float + e * 6 + 3)
                if z0 != z1:
                    crosses = ((z0 > pz) != (z1 > pz)) & (px < (x1 - x0) * (pz - z0) / (z1 - z0) + x0)
                    inside = inside ^ crosses.to(tl.int32)
            rule = floors + tl.load(room_int + room * 4 + 3) * 10
            cell = ix >> tl.load(rule)
            q = (cell * tl.load(rule + 2) + (iz >> tl.load(rule + 1)) * tl.load(rule + 3)) & tl.load(rule + 4)
            line = (ix & tl.load(rule + 5)) == tl.load(rule + 6)
            line = line | (((iz + tl.load(rule + 9) * cell) & tl.load(rule + 7)) == tl.load(rule + 8))
            palette = room_palette + room * 8 + 4
            tone = tl.where(q == 1, tl.load(palette + 1), tl.load(palette))
            tone = tl.where(q == 2, tl.load(palette + 2), tone)
            tone = tl.where(line, tl.load(palette + 3), tone)
            colour = tl.where((inside != 0) & down, _shade(tone, light), colour)
    edge0, edge_count = tl.load(plan_int + plan * 10 + 2), tl.load(plan_int + plan * 10 + 3)
    for e in range(edge0, edge0 + edge_count):
        ax, az = tl.load(edge_float + e * 6), tl.load(edge_float + e * 6 + 1)
        bx, bz = tl.load(edge_float + e * 6 + 2), tl.load(edge_float + e * 6 + 3)
        ux, uz = tl.load(edge_float + e * 6 + 4), tl.load(edge_float + e * 6 + 5)
        ox, oz = x - ax, z - az
        inward = ox * uz - oz * ux
        if inward > 0.0:
            length = (bx - ax) * ux + (bz - az) * uz
            outward = dz * ux - dx * uz
            t = inward / tl.where(outward == 0.0, 1.0, outward)
            along = ox * ux + oz * uz + t * (dx * ux + dz * uz)
            hit = (outward > 0.0) & (t > 2e-5) & (along >= 0.0) & (along <= length)
            y = eye - slope * t
            hit = hit & (y >= 0.0) & (y <= ceiling) & (t < depth)
            room = tl.load(edge_int + e * 3)
            wall_light = _light(0.88 - 0.05 * ux + 0.07 * uz, t)
            style = tl.load(room_int + room * 4 + 2)
            texel = (along * 20.0 + 4096.0).to(tl.int32) & 15
            palette = room_palette + room * 8
            bits = walls + (style * 16 + texel) * 2
            v = tl.minimum(tl.maximum((y * 20.0).to(tl.int32), 0), 63).to(tl.int64)
            tone = _paint(
                tl.load(bits), tl.load(bits + 1), v, tl.load(palette), tl.load(palette + 1), tl.load(palette + 2),
                tl.load(palette + 3),
            )  # fmt: skip
            number = tl.zeros((COLUMNS, ROWS), tl.int32) + 3
            first, last = tl.load(edge_int + e * 3 + 1), tl.load(edge_int + e * 3 + 2)
            if last > first:
                zero = along * 0.0
                within, framed = zero != 0.0, zero != 0.0
                low, high, sill, head = zero, zero + 1.0, zero, zero + 1.0
                window, mark, free0, free1 = zero != 0.0, zero.to(tl.int32), zero + 2.0, zero - 2.0
                for k in range(first, last):
                    s0, s1 = tl.load(opening_float + k * 4), tl.load(opening_float + k * 4 + 1)
                    is_window = tl.load(opening_int + k * 6) == 1
                    here = (along >= s0) & (along < s1) & (within == 0)
                    near = (along >= s0 - 0.07) & (along < s1 + 0.07) & (within == 0) & (here == 0)
                    near = near & (is_window == 0)
                    take = here | near
                    door = tl.load(opening_int + k * 6 + 1)
                    openness = tl.load(door_openness + n * door_stride + door, mask=is_window == 0, other=0.0)
                    passable = (tl.load(opening_int + k * 6 + 2) >= 0) & (openness > 0.0)
                    backwards = tl.load(opening_int + k * 6 + 5) == 1
                    f0 = tl.where(passable, tl.where(backwards, -1.0, 1.0 - openness), 2.0)
                    f1 = tl.where(passable, tl.where(backwards, openness, 2.0), -2.0)
                    low, high = tl.where(take, s0, low), tl.where(take, s1, high)
                    sill = tl.where(take, tl.load(opening_float + k * 4 + 2), sill)
                    head = tl.where(take, tl.load(opening_float + k * 4 + 3), head)
                    window, mark = (
                        tl.where(take, is_window, window),
                        tl.where(take, tl.load(opening_int + k * 6 + 4), mark),
                    )
                    free0, free1 = tl.where(take, f0, free0), tl.where(take, f1, free1)
                    within = within | here
                    framed = (framed | near) & (within == 0)
                share = (along - low) / (high - low)
                column = tl.minimum(tl.maximum(share * 16.0, 0.0), 15.0).to(tl.int32)
                door_here = within & (window == 0)
                top = tl.minimum(head + 0.07, ceiling)
                strip = (door_here | framed) & (y < top) & (framed | (y >= head))
                panel = door_here & (y < head)
                pane = within & window & (y < head) & (y >= sill)
                tone = tl.where(strip, tl.load(fixed_palette + 8), tone)
                bits = walls + (6 * 16 + column) * 2
                v = tl.minimum(tl.maximum((y * (64.0 / head)).to(tl.int32), 0), 63).to(tl.int64)
                tone = tl.where(
                    panel,
                    _paint(
                        tl.load(bits), tl.load(bits + 1), v, tl.load(fixed_palette), tl.load(fixed_palette + 1),
                        tl.load(fixed_palette + 2), tl.load(fixed_palette + 3),
                    ),
                    tone,
                )  # fmt: skip
                bits = walls + (7 * 16 + column) * 2
                rise = tl.where(head > sill, head - sill, 1.0)
                v = tl.minimum(tl.maximum(((y - sill) * (64.0 / rise)).to(tl.int32), 0), 63).to(tl.int64)
                tone = tl.where(
                    pane,
                    _paint(
                        tl.load(bits), tl.load(bits + 1), v, tl.load(fixed_palette + 4), tl.load(fixed_palette + 5),
                        tl.load(fixed_palette + 6), tl.load(fixed_palette + 7),
                    ),
                    tone,
                )  # fmt: skip
                number = tl.where(panel | pane, mark, number)
                hit = hit & ((panel & (share >= free0) & (share < free1)) == 0)
            depth = tl.where(hit, t, depth)
            ids = tl.where(hit, number, ids)
            colour = tl.where(hit, _shade(tone, wall_light), colour)
    box0, box_count = tl.load(plan_int + plan * 10 + 6), tl.load(plan_int + plan * 10 + 7)
    for b in range(0, box_count):
        shown = tl.load(box_shown + n * box_stride + b)
        pose = box_pose + (n * box_stride + b) * 4
        wx, wz = x - tl.load(pose), z - tl.load(pose + 2)
        hx, hz = 0.5 * tl.load(box_size + (box0 + b) * 3), 0.5 * tl.load(box_size + (box0 + b) * 3 + 2)
        ahead = -(wx * sin + wz * cos)
        if (shown != 0) & (ahead > -(hx + hz)):
            box = box0 + b
            away = tl.maximum(ahead, 0.0)
            base, angle = tl.load(pose + 1), tl.load(pose + 3)
            tall = tl.load(box_size + box * 3 + 1)
            bs, bc = tl.sin(angle), tl.cos(angle)
            ox, oz = wx * bc - wz * bs, wx * bs + wz * bc
            vx, vz = dx * bc - dz * bs, dx * bs + dz * bc
            cls, mark = tl.load(box_int + box * 9), tl.load(box_int + box * 9 + 1)
            p0, p1 = tl.load(box_palette + box * 4), tl.load(box_palette + box * 4 + 1)
            p2, p3 = tl.load(box_palette + box * 4 + 2), tl.load(box_palette + box * 4 + 3)
            for k in tl.static_range(4):
                # Faces 0..3 look along local +z, +x, -z, -x.
                sign = 1.0 if k < 2 else -1.0
                o = oz if k % 2 == 0 else ox
                h = hz if k % 2 == 0 else hx
                if o * sign > h:
                    v = vz if k % 2 == 0 else vx
                    across = ox if k % 2 == 0 else oz
                    slide = vx if k % 2 == 0 else vz
                    wide = hx if k % 2 == 0 else hz
                    share = 0.07 * bs + 0.05 * bc if k % 2 == 0 else 0.07 * bc - 0.05 * bs
                    t = (sign * h - o) / tl.where(v == 0.0, 1.0, v)
                    at = across + t * slide
                    y = eye - slope * t - base
                    hit = (v * sign < 0.0) & (t > 2e-5) & (tl.abs(at) <= wide) & (y >= 0.0) & (y <= tall) & (t < depth)
                    local = at * (0.5 / wide) + 0.5
                    local = 1.0 - local if k == 0 or k == 3 else local
                    column = tl.minimum(tl.maximum(local * 16.0, 0.0), 15.0).to(tl.int32)
                    row = tl.minimum(tl.maximum(y * (16.0 / tall), 0.0), 15.0).to(tl.int32)
                    bits = skins + (tl.load(class_skin + cls * 2 + (0 if k == 0 else 1)) * 16 + column) * 2
                    tone = _paint(tl.load(bits), tl.load(bits + 1), row, p0, p1, p2, p3)
                    colour = tl.where(hit, _shade(tone, _light(0.88 + sign * share, away)), colour)
                    ids = tl.where(hit, mark, ids)
                    depth = tl.where(hit, t, depth)
            above = base + tall < eye
            if above | (base > eye):
                drop = tl.where(above, eye - (base + tall), eye - base)
                t = drop / slope + 0.0 * u
                lx, lz = (ox + t * vx) * (8.0 / hx) + 8.0, (oz + t * vz) * (8.0 / hz) + 8.0
                hit = (t > 2e-5) & (lx >= 0.0) & (lx <= 16.0) & (lz >= 0.0) & (lz <= 16.0) & (t < depth)
                rule = class_top + cls * 6
                patch = (lx >= tl.load(rule + 1)) & (lx < tl.load(rule + 3))
                patch = patch & (lz >= tl.load(rule + 2)) & (lz < tl.load(rule + 4))
                edge = (lx < 1.0) | (lx >= 15.0) | (lz < 1.0) | (lz >= 15.0)
                border = tl.load(box_palette + box * 4 + tl.load(rule).to(tl.int32))
                inner = tl.load(box_palette + box * 4 + tl.load(rule + 5).to(tl.int32))
                tone = tl.where(edge, border, tl.where(patch, inner, p0))
                share = tl.where(above, 1.0, 0.6)
                colour = tl.where(hit, _shade(tone, _light(share, away)), colour)
                ids = tl.where(hit, mark, ids)
                depth = tl.where(hit, t, depth)
    valid = (c < columns) & (r < rows)
    place = (n.to(tl.int64) * rows + r) * columns + c
    if WANT_DEPTH:
        tl.store(depth_out + place, depth, mask=valid)
    if WANT_IDS:
        tl.store(ids_out + place, ids, mask=valid)
    if WANT_RGB:
        tl.store(rgb + place * 3, (colour & 255).to(tl.uint8), mask=valid)
        tl.store(rgb + place * 3 + 1, ((colour >> 8) & 255).to(tl.uint8), mask=valid)
        tl.store(rgb + place * 3 + 2, ((colour >> 16) & 255).to(tl.uint8), mask=valid)
