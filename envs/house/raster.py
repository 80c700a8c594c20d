"""Compiled drawing of walls, floors and ceilings into one frame; `prisms` adds the boxes, `render` drives both.

A frame is the picture of a ray cast through every pixel centre, drawn without casting rays: the image plane is upright,
so floors have one depth per row, vertical faces one depth per column, and 1/depth of a vertical face is linear in the
column. Frames are drawn column by column into scratch buffers (W, H + 16) whose rows lie next to each other, so every
span is filled by vector instructions in blocks of 16 rows, and turned once at the end.

Cost model, 64 x 64 with rgb and depth: each of 4,096 pixels is written once by floor, ceiling or wall (8 bytes, about
15 vector operations per 8 pixels), about 2,000 once or twice more by boxes; the turn reads 32 kB and writes 28 kB. All
of it stays in L1 and L2; about 30 thousand instructions per frame. Rooms are walked through their doors (portals), so
only what can be in view is transformed: about 6 wall edges and 10 boxes per visible room. No search per pixel or
column, and no texture look-up per pixel: the 2-bit texels of a wall column sit in two registers, floors follow a rule.

Indices are unsigned where it matters: numba then leaves out the test for Python's negative indices.
"""
# mypy: disable-error-code="arg-type,assignment,operator,index,call-overload"
# Compiled code: every `float` below is a float32 at run time, and mixing in a Python float would widen it.

from __future__ import annotations

import math

import numba
import numpy as np

from embodied_mem.envs.house.arrays import PlanArrays

_inline = numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy", forceinline=True)
_jit = numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")

F32, U32 = np.float32, np.uint32
NEAR = F32(2e-5)
HALF, ONE, ZERO = F32(0.5), F32(1.0), F32(0.0)
FULL_LIGHT, FADE, LEAST = F32(256.0), F32(0.035), F32(0.5)
"""Light is 256 times the face's share times max(LEAST, 1 - FADE * depth)."""
TEXELS_WALL, TEXELS_FLOOR, FLOOR_SHIFT = F32(20.0), F32(16.0), F32(4096.0)
FRAME_WIDTH, FRAME_TOP = F32(0.07), F32(0.07)
"""Metres of door frame beside and above an opening."""
WINDOWS = 64
"""Most room windows waiting to be drawn, and four times that drawn, per frame."""
RB, G, BYTE = U32(0xFF00FF), U32(0x00FF00), U32(255)
EIGHT, SIXTEEN, U24 = U32(8), U32(16), U32(24)
U1, U2, U15, U63 = U32(1), U32(2), U32(15), U32(63)
L0, L1 = np.uint64(0), np.uint64(1)
BLOCK = np.uint64(16)
"""Rows per vector block; scratch columns are padded by one block."""


@_jit
def shade(colour: np.uint32, light: np.uint32) -> np.uint32:
    """Return a packed colour times ``light`` / 256."""
    return (((colour & RB) * light >> EIGHT) & RB) | (((colour & G) * light >> EIGHT) & G)


@_jit
def light_at(share: float, depth: float) -> np.uint32:
    """Return the light 0-256 of a face at a depth in metres."""
    return U32(np.int32(FULL_LIGHT * share * max(LEAST, ONE - FADE * depth)))


@_jit
def row_from(y: float, height: float) -> np.uint64:
    """Return the first pixel row whose centre is at or below image line ``y``, clipped to [0, height]."""
    return np.uint64(np.int64(math.ceil(min(max(y - HALF, ZERO), height))))


@_jit
def floor_rows(palette: np.ndarray, depths: np.ndarray, horizon: int, rows: int, tones: np.ndarray) -> None:
    """Fill ``tones`` (4, H + 16) uint32 with a floor palette (4,) lit for the depth of every row below the horizon."""
    for k in range(4):
        paint, target = palette[k], tones[k]
        for r in range(horizon, rows):
            target[r] = shade(paint, light_at(ONE, depths[r]))


@_inline
def fill_floor(
    column: np.uint64,
    r0: int,
    r1: int,
    start_x: float,
    start_z: float,
    step_x: float,
    step_z: float,
    style: np.ndarray,
    depths: np.ndarray,
    tones: np.ndarray,
    colour: np.ndarray,
) -> None:
    """Paint rows r0..r1 of one column with floor: texel = start + step * depth of the row.

    Args:
        style: (10,) int32, see `textures.floor_styles`.
        depths: (H + 16,) float32 of the rows; tones: (4, H + 16) uint32; colour: (W, H + 16) uint32.
    """
    sx, sz, mx, mz, mask = U32(style[0]), U32(style[1]), U32(style[2]), U32(style[3]), U32(style[4])
    ex, vx, ez, vz, shift = U32(style[5]), U32(style[6]), U32(style[7]), U32(style[8]), U32(style[9])
    end = np.uint64(r1)
    for block in range(np.uint64(r0), end, BLOCK):
        for k in range(BLOCK):
            r = block + k
            d = depths[r]
            ix, iz = U32(np.int32(start_x + step_x * d)), U32(np.int32(start_z + step_z * d))
            cell = ix >> sx
            q = (cell * mx + (iz >> sz) * mz) & mask
            line = ((ix & ex) == vx) | (((iz + shift * cell) & ez) == vz)
            t0, t1, t2, t3 = tones[0, r], tones[1, r], tones[2, r], tones[3, r]
            tone = t1 if q == U1 else t0
            tone = t2 if q == U2 else tone
            tone = t3 if line else tone
            colour[column, r] = tone


@_inline
def fill_face(
    column: np.uint64,
    r0: int,
    r1: int,
    t: float,
    v0: float,
    dv: float,
    low: np.uint64,
    high: np.uint64,
    p0: np.uint32,
    p1: np.uint32,
    p2: np.uint32,
    p3: np.uint32,
    slope: np.ndarray,
    want_rgb: bool,
    colour: np.ndarray,
    depth: np.ndarray,
) -> None:
    """Paint rows r0..r1 of one column with a vertical face: texel row = v0 - dv * slope, clipped to [0, 63].

    Args:
        low, high: bits of the texture column's palette indices, see `textures.bit_masks`.
        p0, p1, p2, p3: lit palette; slope: (H + 16,); colour, depth: (W, H + 16).
    """
    end = np.uint64(r1)
    for block in range(np.uint64(r0), end, BLOCK):
        for k in range(BLOCK):
            r = block + k
            depth[column, r] = t
        if want_rgb:
            for k in range(BLOCK):
                r = block + k
                v = np.uint64(min(U32(np.int32(max(v0 - slope[r] * dv, ZERO))), U63))
                odd = ((low >> v) & L1) != L0
                paint = (p3 if odd else p2) if ((high >> v) & L1) != L0 else (p1 if odd else p0)
                colour[column, r] = paint


@_inline
def fill_rows(column: np.uint64, r0: int, r1: int, source: np.ndarray, target: np.ndarray) -> None:
    """Copy rows r0..r1 of ``source`` (H + 16,) into one column of ``target`` (W, H + 16)."""
    for block in range(np.uint64(r0), np.uint64(r1), BLOCK):
        for k in range(BLOCK):
            target[column, block + k] = source[block + k]


@_inline
def fill_ids(column: np.uint64, r0: int, r1: int, number: int, ids: np.ndarray) -> None:
    """Set rows r0..r1 of one column of ``ids`` (W, H + 16)."""
    for r in range(np.uint64(r0), np.uint64(r1)):
        ids[column, r] = number


@_jit
def rooms(
    plans: PlanArrays,
    openness: np.ndarray,
    first_room: int,
    room: int,
    eye: float,
    ceiling: float,
    x: float,
    z: float,
    sin: float,
    cos: float,
    focal: float,
    centre_x: float,
    centre_y: float,
    rows: int,
    slope: np.ndarray,
    depths: np.ndarray,
    sky: np.ndarray,
    tones: np.ndarray,
    walls: np.ndarray,
    floors: np.ndarray,
    palettes: np.ndarray,
    fixed: np.ndarray,
    want_rgb: bool,
    want_ids: bool,
    colour: np.ndarray,
    depth: np.ndarray,
    ids: np.ndarray,
    visited: np.ndarray,
    reach: np.ndarray,
    line: np.ndarray,
    number: np.ndarray,
) -> None:
    """Draw floor, ceiling and walls of every room in view, going from room to room through open doors.

    Args:
        plans: packed plans.
        openness: (D,) float32 of the row's doors.
        first_room: library-wide index of the plan's first room; room: the one the camera is in.
        slope: (H + 16,) float32 downward slope of every image row; depths: its floor or ceiling depth; sky: (H + 16,)
            uint32 its ceiling colour; tones: (2, 4, H + 16) uint32 scratch for floor colours.
        walls: (9, 16, 2) uint64 texture bits; floors: (F, 10) int32 rules.
        palettes: (R, 2, 4) uint32; fixed: (3, 4) uint32.
        colour: (W, H + 16) uint32, depth: float32, ids: int32.
        visited: (R',) uint8, set to 1 for rooms in view.
        reach: (W,) float32, gets the depth of the wall that ends each column.
        line: (4, W) float32 scratch; number: (4, W) int32 scratch.
    """
    columns = reach.shape[0]
    height = F32(rows)
    best, limit, distance, place = line[0], line[1], line[2], line[3]
    hit, top, first_row, last_row = number[0], number[1], number[2], number[3]
    stack = np.empty((WINDOWS, 3), np.int32)
    tone = np.empty(4, np.uint32)
    kept_depth, kept_colour = np.empty(16, np.float32), np.empty(16, np.uint32)
    edge_y, kind = np.empty(4, np.float32), np.empty(4, np.int32)
    inverse_focal = ONE / focal
    rise, fall = (ceiling - eye) * focal, eye * focal
    start_x, start_z = F32(x) * TEXELS_FLOOR + FLOOR_SHIFT, F32(z) * TEXELS_FLOOR + FLOOR_SHIFT
    horizon = int(row_from(centre_y, height))
    if want_rgb:
        floor_rows(palettes[room, 1], depths, horizon, rows, tones[0])
    for c in range(columns):
        limit[c], top[c], reach[c] = F32(1e9), 0, F32(1e9)
    stack[0, 0], stack[0, 1], stack[0, 2] = room, 0, columns
    waiting, drawn = 1, 0
    while waiting > 0 and drawn < 4 * WINDOWS:
        waiting -= 1
        drawn += 1
        here, c0, c1 = stack[waiting, 0], stack[waiting, 1], stack[waiting, 2]
        visited[here - first_room] = 1
        for c in range(c0, c1):
            best[c], hit[c] = ZERO, -1
        for e in range(plans.room_int[here, 0], plans.room_int[here, 1]):
            rx, rz = F32(plans.edge_float[e, 0] - x), F32(plans.edge_float[e, 1] - z)
            ax, az = rx * cos - rz * sin, rx * sin + rz * cos
            rx, rz = F32(plans.edge_float[e, 2] - x), F32(plans.edge_float[e, 3] - z)
            bx, bz = rx * cos - rz * sin, rx * sin + rz * cos
            # Only the room side of a wall can be met; its start then lies to the left of its end.
            gap = ax * bz - az * bx
            if gap >= ZERO or (az <= NEAR and bz <= NEAR):
                continue
            nx, nz = bz - az, ax - bx
            scale = ONE / (nx * ax + nz * az)
            left = -ONE if az <= NEAR else centre_x + focal * ax / az
            right = F32(columns) if bz <= NEAR else centre_x + focal * bx / bz
            low = max(c0, int(math.ceil(min(max(left - HALF, -ONE), F32(columns)))))
            high = min(c1, int(math.ceil(min(max(right - HALF, -ONE), F32(columns)))))
            slant = nx * scale * inverse_focal
            offset = nz * scale + (HALF - centre_x) * slant
            for c in range(low, high):
                inverse = offset + slant * F32(np.int32(c))
                nearer = (inverse > best[c]) & (inverse < limit[c])
                best[c] = inverse if nearer else best[c]
                hit[c] = e if nearer else hit[c]
        skin_here = plans.room_int[here, 2]
        floor_style = floors[plans.room_int[here, 3]]
        floor_tones = tones[0]
        if want_rgb and here != room:
            floor_tones = tones[1]
            deepest = ZERO
            for c in range(c0, c1):
                deepest = max(deepest, limit[c])
            floor_rows(palettes[here, 1], depths, horizon, int(row_from(centre_y + fall * deepest, height)), tones[1])
        run, run_start = -1, c0
        start = c0
        while start < c1:
            e = hit[start]
            stop = start + 1
            while stop < c1 and hit[stop] == e:
                stop += 1
            if e < 0:
                # A crack between two walls: the ray slips along their common corner; a wall at no distance ends it.
                e = plans.room_int[here, 0]
                for c in range(start, stop):
                    best[c] = min(limit[c], F32(1e6)) * F32(0.999)
            ux, uz = plans.edge_float[e, 4], plans.edge_float[e, 5]
            away_x, away_z = F32(x - plans.edge_float[e, 0]), F32(z - plans.edge_float[e, 1])
            at_zero = away_x * ux + away_z * uz
            ahead, aside = sin * ux + cos * uz, cos * ux - sin * uz
            for c in range(start, stop):
                inverse = best[c]
                t = ONE / inverse
                u = (F32(np.int32(c)) + HALF - centre_x) * inverse_focal
                distance[c] = t
                place[c] = at_zero + t * (ahead + u * aside)
                first_row[c] = np.int32(math.ceil(min(max(centre_y - rise * inverse - HALF, ZERO), height)))
                last_row[c] = np.int32(math.ceil(min(max(centre_y + fall * inverse - HALF, ZERO), height)))
            face_light = F32(0.88) - F32(0.05) * ux + F32(0.07) * uz
            begin, end = plans.edge_int[e, 1], plans.edge_int[e, 2]
            for c in range(start, stop):
                t, along = distance[c], place[c]
                unit = focal * best[c]
                column = np.uint64(c)
                above = top[c]
                wall_row, floor_row = max(above, first_row[c]), max(above, last_row[c])
                end_row = rows if here == room else max(floor_row, int(row_from(centre_y + fall * limit[c], height)))
                # Blocks overshoot the span by up to 15 rows; what is filled later repairs that, and below a passage the
                # rows of the nearer room are put back.
                if here != room:
                    for k in range(BLOCK):
                        kept_depth[k] = depth[column, np.uint64(end_row) + k]
                        kept_colour[k] = colour[column, np.uint64(end_row) + k]
                fill_rows(column, above, wall_row, depths, depth)
                if want_rgb:
                    fill_rows(column, above, wall_row, sky, colour)
                if want_ids:
                    fill_ids(column, above, wall_row, 2, ids)
                    fill_ids(column, floor_row, end_row, 1, ids)
                opening, framed = -1, False
                for k in range(begin, end):
                    low_s, high_s = plans.opening_float[k, 0], plans.opening_float[k, 1]
                    if along >= low_s and along < high_s:
                        opening, framed = k, False
                        break
                    if plans.opening_int[k, 0] == 0 and along >= low_s - FRAME_WIDTH and along < high_s + FRAME_WIDTH:
                        opening, framed = k, True
                # Spans from the ceiling down: wall; wall + pane + wall; wall + frame; wall + frame + panel.
                edge_y[0], edge_y[1], kind[0], spans, share = ceiling, ZERO, 0, 1, ZERO
                beyond = -1
                if opening >= 0:
                    low_s, high_s = plans.opening_float[opening, 0], plans.opening_float[opening, 1]
                    head = plans.opening_float[opening, 3]
                    share = (along - low_s) / (high_s - low_s)
                    if plans.opening_int[opening, 0] == 1:
                        edge_y[1], edge_y[2], edge_y[3] = head, plans.opening_float[opening, 2], ZERO
                        kind[1], kind[2], spans = 2, 0, 3
                    else:
                        edge_y[1], kind[1] = min(head + FRAME_TOP, ceiling), 3
                        edge_y[2], edge_y[3], kind[2] = ZERO, ZERO, 1
                        spans = 2
                        if not framed:
                            edge_y[2] = head
                            closed = ONE - openness[plans.opening_int[opening, 1]]
                            spot = ONE - share if plans.opening_int[opening, 5] == 1 else share
                            if spot >= closed and plans.opening_int[opening, 2] >= 0:
                                beyond = opening
                            else:
                                spans = 3
                light = light_at(face_light, t)
                r0 = wall_row
                for s in range(spans):
                    low_y, sort = edge_y[s + 1], kind[s]
                    r1 = floor_row if low_y == ZERO else int(row_from(centre_y + (eye - low_y) * unit, height))
                    if r1 <= r0:
                        continue
                    skin, base, per_metre, texel = skin_here, ZERO, TEXELS_WALL, U32(0)
                    if sort == 0:
                        texel = U32(np.int32(along * TEXELS_WALL + FLOOR_SHIFT)) & U15
                    else:
                        texel = U32(np.int32(min(F32(15.0), max(ZERO, share * F32(16.0)))))
                        skin = 5 + sort
                        base, per_metre = low_y, F32(64.0) / (edge_y[s] - low_y)
                    if want_rgb:
                        for k in range(4):
                            tone[k] = shade(palettes[here, 0, k] if sort == 0 else fixed[sort - 1, k], light)
                    fill_face(
                        column, r0, r1, t, (eye - base) * per_metre, t * per_metre, walls[skin, texel, 0],
                        walls[skin, texel, 1], tone[0], tone[1], tone[2], tone[3], slope, want_rgb, colour, depth,
                    )  # fmt: skip
                    if want_ids:
                        mark = 3 if sort == 0 or sort == 3 else plans.opening_int[opening, 4]
                        fill_ids(column, r0, r1, mark, ids)
                    r0 = r1
                fill_rows(column, floor_row, end_row, depths, depth)
                if want_rgb:
                    u = (F32(np.int32(c)) + HALF - centre_x) * inverse_focal
                    fill_floor(
                        column, floor_row, end_row, start_x, start_z, (sin + u * cos) * TEXELS_FLOOR,
                        (cos - u * sin) * TEXELS_FLOOR, floor_style, depths, floor_tones, colour,
                    )  # fmt: skip
                if here != room:
                    for k in range(BLOCK):
                        depth[column, np.uint64(end_row) + k] = kept_depth[k]
                        colour[column, np.uint64(end_row) + k] = kept_colour[k]
                if beyond >= 0:
                    top[c] = r0
                    limit[c] = best[c]
                else:
                    reach[c] = t
                if beyond != run:
                    if run >= 0 and waiting < WINDOWS:
                        stack[waiting, 0], stack[waiting, 1], stack[waiting, 2] = (
                            plans.opening_int[run, 2],
                            run_start,
                            c,
                        )
                        waiting += 1
                    run, run_start = beyond, c
            start = stop
        if run >= 0 and waiting < WINDOWS:
            stack[waiting, 0], stack[waiting, 1], stack[waiting, 2] = plans.opening_int[run, 2], run_start, c1
            waiting += 1


@_jit
def turn_rgb(colour: np.ndarray, out: np.ndarray) -> None:
    """Write columns of packed colours (W, H + 16) uint32 as rows into ``out`` (H, W, 3) uint8."""
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            value = colour[c, r]
            out[r, c, 0] = np.uint8(value & BYTE)
            out[r, c, 1] = np.uint8((value >> EIGHT) & BYTE)
            out[r, c, 2] = np.uint8((value >> SIXTEEN) & BYTE)


@_jit
def turn_words(colour: np.ndarray, out: np.ndarray) -> None:
    """As `turn_rgb` for W divisible by 16, into ``out`` (H, 3 W / 4) uint32: four pixels make three words."""
    rows, words = out.shape
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    for strip in range(0, words, 12):
        for r in range(rows):
            for k in range(4):
                o = np.uint64(strip + 3 * k)
                c = np.uint64(strip // 3 * 4 + 4 * k)
                a, b, g, d = colour[c, r], colour[c + one, r], colour[c + two, r], colour[c + three, r]
                out[r, o] = a | (b << U24)
                out[r, o + one] = (b >> EIGHT) | (g << SIXTEEN)
                out[r, o + two] = (g >> SIXTEEN) | (d << EIGHT)


@_jit
def turn(source: np.ndarray, out: np.ndarray) -> None:
    """Write columns (W, H + 16) as rows into ``out`` (H, W)."""
    rows, columns = out.shape
    whole = columns // 16 * 16
    for strip in range(0, whole, 16):
        for r in range(rows):
            for k in range(16):
                c = np.uint64(strip + k)
                out[r, c] = source[c, r]
    for r in range(rows):
        for c in range(whole, columns):
            out[r, c] = source[c, r]
