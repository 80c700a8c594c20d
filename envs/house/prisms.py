"""Compiled drawing of boxes into one frame: sides, tops and undersides of upright prisms, against the depth buffer."""
# mypy: disable-error-code="arg-type,assignment,operator,index,call-overload"
# Compiled code: every `float` below is a float32 at run time, and mixing in a Python float would widen it.

from __future__ import annotations

import math

import numba
import numpy as np

from embodied_mem.envs.house.arrays import PlanArrays, WorldArrays
from embodied_mem.envs.house.raster import BLOCK, HALF, NEAR, ONE, U1, U32, ZERO, light_at, row_from, shade

_inline = numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy", forceinline=True)
_jit = numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")

F32 = np.float32
SIXTEEN, FIFTEEN, EIGHT = F32(16.0), F32(15.0), F32(8.0)
U0, U15 = U32(0), U32(15)
TOP_LIGHT, UNDER_LIGHT = F32(1.0), F32(0.6)


@_inline
def fill_side(
    column: np.uint64,
    r0: int,
    r1: int,
    t: float,
    v0: float,
    dv: float,
    low: np.uint32,
    high: np.uint32,
    p0: np.uint32,
    p1: np.uint32,
    p2: np.uint32,
    p3: np.uint32,
    number: int,
    slope: np.ndarray,
    want_rgb: bool,
    want_ids: bool,
    colour: np.ndarray,
    depth: np.ndarray,
    ids: np.ndarray,
) -> None:
    """Paint rows r0..r1 of one column with the side of a box where it is nearer; arguments as `raster.fill_face`."""
    end = np.uint64(r1)
    for block in range(np.uint64(r0), end, BLOCK):
        if want_rgb:
            for k in range(BLOCK):
                r = block + k
                v = min(U32(np.int32(max(v0 - slope[r] * dv, ZERO))), U15)
                odd = ((low >> v) & U1) != U0
                paint = (p3 if odd else p2) if ((high >> v) & U1) != U0 else (p1 if odd else p0)
                colour[column, r] = paint if (r < end) & (t < depth[column, r]) else colour[column, r]
        if want_ids:
            for k in range(BLOCK):
                r = block + k
                ids[column, r] = number if (r < end) & (t < depth[column, r]) else ids[column, r]
        for k in range(BLOCK):
            r = block + k
            depth[column, r] = t if (r < end) & (t < depth[column, r]) else depth[column, r]


@_inline
def fill_top(
    column: np.uint64,
    r0: int,
    r1: int,
    drop: float,
    x0: float,
    dx: float,
    z0: float,
    dz: float,
    rule: np.ndarray,
    base: np.uint32,
    border: np.uint32,
    patch: np.uint32,
    number: int,
    inverse: np.ndarray,
    want_rgb: bool,
    want_ids: bool,
    colour: np.ndarray,
    depth: np.ndarray,
    ids: np.ndarray,
) -> None:
    """Paint rows r0..r1 of one column with a level face ``drop`` metres below the eye where it is nearer.

    Args:
        x0, dx, z0, dz: texel (x, z) of the face at depth t is (x0 + dx t, z0 + dz t).
        rule: (6,) float32, see `textures.class_tops`; base, border, patch: colours.
        inverse: (H + 16,) float32, 1 / slope of every row; colour, depth, ids: (W, H + 16).
    """
    ax, az, bx, bz = rule[1], rule[2], rule[3], rule[4]
    end = np.uint64(r1)
    for block in range(np.uint64(r0), end, BLOCK):
        if want_rgb:
            for k in range(BLOCK):
                r = block + k
                t = drop * inverse[r]
                lx, lz = x0 + dx * t, z0 + dz * t
                paint = patch if (lx >= ax) & (lx < bx) & (lz >= az) & (lz < bz) else base
                paint = border if (lx < ONE) | (lx >= FIFTEEN) | (lz < ONE) | (lz >= FIFTEEN) else paint
                colour[column, r] = paint if (r < end) & (t < depth[column, r]) else colour[column, r]
        if want_ids:
            for k in range(BLOCK):
                r = block + k
                near = (r < end) & (drop * inverse[r] < depth[column, r])
                ids[column, r] = number if near else ids[column, r]
        for k in range(BLOCK):
            r = block + k
            t = drop * inverse[r]
            depth[column, r] = t if (r < end) & (t < depth[column, r]) else depth[column, r]


@_jit
def boxes(
    plans: PlanArrays,
    world: WorldArrays,
    i: int,
    first_room: int,
    eye: float,
    x: float,
    z: float,
    sin: float,
    cos: float,
    focal: float,
    centre_x: float,
    centre_y: float,
    rows: int,
    slope: np.ndarray,
    inverse_slope: np.ndarray,
    skins: np.ndarray,
    class_skin: np.ndarray,
    class_top: np.ndarray,
    palettes: np.ndarray,
    want_rgb: bool,
    want_ids: bool,
    colour: np.ndarray,
    depth: np.ndarray,
    ids: np.ndarray,
    visited: np.ndarray,
    reach: np.ndarray,
    front: np.ndarray,
    order: np.ndarray,
    key: np.ndarray,
) -> None:
    """Draw every shown box of the rooms in view, nearest first.

    Args:
        plans: packed plans.
        world: state of the batch; i: the row.
        slope, inverse_slope: (H + 16,) float32.
        skins: (S, 16, 2) uint32 texture bits; class_skin: (classes, 2) int32; class_top: (classes, 6) float32.
        palettes: (B, 4) uint32 of the library's boxes.
        colour, depth, ids: (W, H + 16).
        visited: (R',) uint8 rooms in view; reach: (W,) float32 depth of the wall that ends each column.
        front: (W,) float32 scratch; order: (B',) int32 scratch; key: (B',) float32 scratch.
    """
    columns = reach.shape[0]
    height = F32(rows)
    inverse_focal = ONE / focal
    tone = np.empty(4, np.uint32)
    plan = world.plan[i]
    first = plans.plan_int[plan, 6]
    widest = max(centre_x, F32(columns) - centre_x) / focal
    secant = math.sqrt(ONE + widest * widest)
    found = 0
    for b in range(plans.plan_int[plan, 7]):
        if world.box_shown[i, b] == 0 or visited[world.box_room[i, b] - first_room] == 0:
            continue
        rx, rz = F32(world.box_pose[i, b, 0] - x), F32(world.box_pose[i, b, 2] - z)
        mx, mz = rx * cos - rz * sin, rx * sin + rz * cos
        hx, hz = HALF * plans.box_size[first + b, 0], HALF * plans.box_size[first + b, 2]
        radius = hx + hz
        if mz < -radius or abs(mx) > widest * mz + secant * radius:
            continue
        k = found
        while k > 0 and key[k - 1] > mz:
            key[k], order[k] = key[k - 1], order[k - 1]
            k -= 1
        key[k], order[k] = mz, b
        found += 1
    px, pz = np.empty(5, np.float32), np.empty(5, np.float32)
    for n in range(found):
        b = order[n]
        box = first + b
        pose_x, pose_z = F32(world.box_pose[i, b, 0] - x), F32(world.box_pose[i, b, 2] - z)
        angle = world.box_pose[i, b, 3]
        mx, mz = pose_x * cos - pose_z * sin, pose_x * sin + pose_z * cos
        bs, bc = math.sin(angle), math.cos(angle)
        # Camera-frame directions of the box's local x and z axes.
        xx, xz = bc * cos + bs * sin, bc * sin - bs * cos
        zx, zz = bs * cos - bc * sin, bs * sin + bc * cos
        hx, hz = HALF * plans.box_size[box, 0], HALF * plans.box_size[box, 2]
        # A box is lit for the depth of its centre, all over.
        away = max(mz, ZERO)
        base = world.box_pose[i, b, 1]
        tall = plans.box_size[box, 1]
        cls, mark = plans.box_int[box, 0], plans.box_int[box, 1]
        for k in range(4):
            sx = hx if k == 1 or k == 2 else -hx
            sz = hz if k < 2 else -hz
            px[k], pz[k] = mx + sx * xx + sz * zx, mz + sx * xz + sz * zz
        px[4], pz[4] = px[0], pz[0]
        low_all, high_all = columns, 0
        for k in range(4):
            if pz[k] <= NEAR:
                low_all, high_all = 0, columns
            else:
                edge = min(max(centre_x + focal * px[k] / pz[k] - HALF, -ONE), F32(columns))
                low_all, high_all = min(low_all, max(0, int(math.ceil(edge)))), max(high_all, int(math.ceil(edge)))
        if low_all >= high_all:
            continue
        for c in range(low_all, high_all):
            front[c] = F32(1e6)
        # Corners 0..3 run clockwise from above, so faces 0..3 look along local +z, +x, -z, -x.
        for sweep in range(2):
            for k in range(4):
                ax, az, bx, bz = px[k], pz[k], px[k + 1], pz[k + 1]
                gap = ax * bz - az * bx
                outer = gap > ZERO
                if outer == (sweep == 1) or gap == ZERO or (az <= NEAR and bz <= NEAR):
                    continue
                if outer:
                    ax, az, bx, bz = bx, bz, ax, az
                nx, nz = bz - az, ax - bx
                scale = ONE / (nx * ax + nz * az)
                left = F32(-1.0) if az <= NEAR else centre_x + focal * ax / az
                right = F32(columns) if bz <= NEAR else centre_x + focal * bx / bz
                low = max(low_all, int(math.ceil(min(max(left - HALF, -ONE), F32(columns)))))
                high = min(high_all, int(math.ceil(min(max(right - HALF, -ONE), F32(columns)))))
                slant = nx * scale * inverse_focal
                offset = nz * scale + (HALF - centre_x) * slant
                if sweep == 0:
                    skin = class_skin[cls, 0 if k == 0 else 1]
                    side = ONE if k < 2 else -ONE
                    share = F32(0.88) + side * (
                        F32(0.07) * bs + F32(0.05) * bc if k % 2 == 0 else F32(0.07) * bc - F32(0.05) * bs
                    )
                    wide = hx if k == 0 or k == 2 else hz
                    dir_x, dir_z = (xx, xz) if k == 0 or k == 2 else (zx, zz)
                    backwards = k == 0 or k == 3
                    for m in range(4):
                        tone[m] = shade(palettes[box, m], light_at(share, away))
                    per_metre = SIXTEEN / tall
                    across = HALF / wide
                    for c in range(low, high):
                        inverse = offset + slant * F32(np.int32(c))
                        front[c] = inverse
                        t = ONE / inverse
                        if t >= reach[c]:
                            continue
                        unit = focal * inverse
                        r0 = int(row_from(centre_y + (eye - base - tall) * unit, height))
                        r1 = int(row_from(centre_y + (eye - base) * unit, height))
                        if r0 >= r1:
                            continue
                        u = (F32(np.int32(c)) + HALF - centre_x) * inverse_focal
                        local = ((t * u - mx) * dir_x + (t - mz) * dir_z) * across + HALF
                        if backwards:
                            local = ONE - local
                        texel = U32(np.int32(min(FIFTEEN, max(ZERO, local * SIXTEEN))))
                        fill_side(
                            np.uint64(c), r0, r1, t, (eye - base) * per_metre, t * per_metre, skins[skin, texel, 0],
                            skins[skin, texel, 1], tone[0], tone[1], tone[2], tone[3], mark, slope, want_rgb, want_ids,
                            colour, depth, ids,
                        )  # fmt: skip
                    continue
                if base <= eye and base + tall >= eye:
                    continue
                above = base + tall < eye
                drop = eye - (base + tall) if above else eye - base
                share = TOP_LIGHT if above else UNDER_LIGHT
                rule = class_top[cls]
                light = light_at(share, away)
                base_tone = shade(palettes[box, 0], light)
                border_tone = shade(palettes[box, np.int32(rule[0])], light)
                patch_tone = shade(palettes[box, np.int32(rule[5])], light)
                step_x, step_z = EIGHT / hx, EIGHT / hz
                x0, z0 = EIGHT - (mx * xx + mz * xz) * step_x, EIGHT - (mx * zx + mz * zz) * step_z
                for c in range(low, high):
                    inverse = offset + slant * F32(np.int32(c))
                    if front[c] * reach[c] <= ONE:
                        continue
                    near_row = int(row_from(centre_y + drop * focal * front[c], height))
                    far_row = int(row_from(centre_y + drop * focal * inverse, height))
                    r0, r1 = (far_row, near_row) if above else (near_row, far_row)
                    if r0 >= r1:
                        continue
                    u = (F32(np.int32(c)) + HALF - centre_x) * inverse_focal
                    fill_top(
                        np.uint64(c), r0, r1, drop, x0, (u * xx + xz) * step_x, z0, (u * zx + zz) * step_z, rule,
                        base_tone, border_tone, patch_tone, mark, inverse_slope, want_rgb, want_ids, colour, depth,
                        ids,
                    )  # fmt: skip
