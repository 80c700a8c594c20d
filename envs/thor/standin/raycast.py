"""Rays against wall pieces, upright boxes, floor and ceiling: pictures of any camera, and sight lines.

Unlike the House renderers the camera may pitch, lie anywhere and be orthographic. One ray is tested against everything,
which is slow for training (1 ms at 64 x 64) and enough for a stand-in.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np

_jit = numba.njit(cache=True, nogil=True, error_model="numpy")

FAR = 1e9
CEILING, FLOOR, VOID = 2, 1, 0
CEILING_RGB = (236, 236, 232)
SIDE_LIGHT = (0.86, 0.78)
"""Light on vertical faces that look along z and along x; what lies flat is fully lit."""


class Solids(NamedTuple):
    """What rays can hit; W wall pieces, B boxes, C corners of R rooms."""

    wall: np.ndarray
    """(W, 6) float64: x0, z0, x1, z1, lowest and highest y; seen from the right of the way from 0 to 1."""
    wall_id: np.ndarray
    """(W,) int32."""
    wall_rgb: np.ndarray
    """(W, 3) uint8."""
    box: np.ndarray
    """(B, 8) float64: centre x, base y, centre z, half x, height, half z, sine and cosine of yaw."""
    box_id: np.ndarray
    """(B,) int32; -1: not shown."""
    box_rgb: np.ndarray
    """(B, 3) uint8."""
    room_start: np.ndarray
    """(R + 1,) int32."""
    corner: np.ndarray
    """(C, 2) float64."""
    room_rgb: np.ndarray
    """(R, 3) uint8 floor colours."""
    height: float
    """Ceiling, metres."""


@_jit
def cast(
    s: Solids, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float, skip: int
) -> tuple[float, int, int]:
    """Return what a ray meets first: parameter t, kind and index.

    Kinds: 0 nothing, 1 floor (index: room), 2 ceiling, 3 wall piece, 4 box top or bottom, 5 box face along z, 6 along
    x. Boxes with the id ``skip`` are passed through.
    """
    best, kind, index = FAR, 0, -1
    if dy < -1e-12:
        t = -oy / dy
        if 1e-6 < t < best:
            x, z = ox + t * dx, oz + t * dz
            for r in range(len(s.room_start) - 1):
                inside = False
                first, end = s.room_start[r], s.room_start[r + 1]
                for k in range(first, end):
                    j = k + 1 if k + 1 < end else first
                    x0, z0, x1, z1 = s.corner[k, 0], s.corner[k, 1], s.corner[j, 0], s.corner[j, 1]
                    if (z0 > z) != (z1 > z) and x < (x1 - x0) * (z - z0) / (z1 - z0) + x0:
                        inside = not inside
                if inside:
                    best, kind, index = t, 1, r
                    break
    elif dy > 1e-12:
        t = (s.height - oy) / dy
        if 1e-6 < t < best:
            best, kind, index = t, 2, 0
    for k in range(len(s.wall)):
        x0, z0, x1, z1 = s.wall[k, 0], s.wall[k, 1], s.wall[k, 2], s.wall[k, 3]
        ax, az = x1 - x0, z1 - z0
        # The room lies to the right, so the outward normal is (-az, ax); rays leave the room along it.
        out = -az * dx + ax * dz
        if out <= 1e-12:
            continue
        t = (-az * (x0 - ox) + ax * (z0 - oz)) / out
        if t <= 1e-6 or t >= best:
            continue
        share = ((ox + t * dx - x0) * ax + (oz + t * dz - z0) * az) / (ax * ax + az * az)
        y = oy + t * dy
        if 0.0 <= share <= 1.0 and s.wall[k, 4] <= y <= s.wall[k, 5]:
            best, kind, index = t, 3, k
    for k in range(len(s.box)):
        if s.box_id[k] < 0 or s.box_id[k] == skip:
            continue
        sin, cos = s.box[k, 6], s.box[k, 7]
        px, pz = ox - s.box[k, 0], oz - s.box[k, 2]
        low, high, face = 1e-6, best, 0
        for axis in range(3):
            if axis == 0:
                o, v, h, hit = px * cos - pz * sin, dx * cos - dz * sin, s.box[k, 3], 6
            elif axis == 1:
                h = 0.5 * s.box[k, 4]
                o, v, hit = oy - s.box[k, 1] - h, dy, 4
            else:
                o, v, h, hit = px * sin + pz * cos, dx * sin + dz * cos, s.box[k, 5], 5
            if abs(v) < 1e-12:
                if abs(o) > h:
                    high = -1.0
                continue
            t0, t1 = (-h - o) / v, (h - o) / v
            if t0 > t1:
                t0, t1 = t1, t0
            if t0 > low:
                low, face = t0, hit
            high = min(high, t1)
        if face != 0 and low < high:
            best, kind, index = low, face, k
    return best, kind, index


@_jit
def draw(
    s: Solids,
    origin: np.ndarray,
    axes: np.ndarray,
    focal: float,
    half: float,
    rgb: np.ndarray,
    depth: np.ndarray,
    ids: np.ndarray,
) -> None:
    """Draw one camera into ``rgb`` (H, W, 3) uint8, ``depth`` (H, W) float32 and ``ids`` (H, W) int32.

    Args:
        origin: (3,) camera place.
        axes: (3, 3) rows right, up, forward, unit vectors.
        focal: pixels; 0 for an orthographic camera.
        half: half the height in metres that an orthographic camera sees.
    """
    rows, columns = depth.shape
    for r in range(rows):
        for c in range(columns):
            u, v = c + 0.5 - 0.5 * columns, 0.5 * rows - r - 0.5
            if focal > 0.0:
                u, v = u / focal, v / focal
                ox, oy, oz = origin[0], origin[1], origin[2]
                dx = axes[2, 0] + u * axes[0, 0] + v * axes[1, 0]
                dy = axes[2, 1] + u * axes[0, 1] + v * axes[1, 1]
                dz = axes[2, 2] + u * axes[0, 2] + v * axes[1, 2]
            else:
                u, v = 2.0 * half * u / rows, 2.0 * half * v / rows
                ox = origin[0] + u * axes[0, 0] + v * axes[1, 0]
                oy = origin[1] + u * axes[0, 1] + v * axes[1, 1]
                oz = origin[2] + u * axes[0, 2] + v * axes[1, 2]
                dx, dy, dz = axes[2, 0], axes[2, 1], axes[2, 2]
            t, kind, index = cast(s, ox, oy, oz, dx, dy, dz, -2)
            depth[r, c] = t if kind != 0 else 0.0
            number, light = VOID, 1.0
            red, green, blue = 0, 0, 0
            if kind == 1:
                number = FLOOR
                red, green, blue = s.room_rgb[index, 0], s.room_rgb[index, 1], s.room_rgb[index, 2]
            elif kind == 2:
                number = CEILING
                red, green, blue = CEILING_RGB
            elif kind == 3:
                number = s.wall_id[index]
                red, green, blue = s.wall_rgb[index, 0], s.wall_rgb[index, 1], s.wall_rgb[index, 2]
                wide = abs(s.wall[index, 2] - s.wall[index, 0]) > abs(s.wall[index, 3] - s.wall[index, 1])
                light = SIDE_LIGHT[0] if wide else SIDE_LIGHT[1]
            elif kind >= 4:
                number = s.box_id[index]
                red, green, blue = s.box_rgb[index, 0], s.box_rgb[index, 1], s.box_rgb[index, 2]
                if kind > 4:
                    light = SIDE_LIGHT[0] if kind == 5 else SIDE_LIGHT[1]
            ids[r, c] = number
            rgb[r, c, 0] = np.uint8(red * light)
            rgb[r, c, 1] = np.uint8(green * light)
            rgb[r, c, 2] = np.uint8(blue * light)


@_jit
def seen(
    s: Solids,
    origin: np.ndarray,
    axes: np.ndarray,
    tan_x: float,
    tan_y: float,
    limit: float,
    only: int,
    out: np.ndarray,
) -> None:
    """Write into ``out`` (B,) uint8 which boxes show a sample point in view and within ``limit`` floor metres.

    Args:
        only: the one box that is looked for, -1 = all.
    """
    for b in range(len(s.box)):
        out[b] = 0
        if s.box_id[b] < 0 or (only >= 0 and b != only):
            continue
        reach = limit + math.hypot(s.box[b, 3], s.box[b, 5])
        if math.hypot(s.box[b, 0] - origin[0], s.box[b, 2] - origin[2]) > reach:
            continue
        for n in range(27):
            lx = 0.9 * (n % 3 - 1) * s.box[b, 3]
            lz = 0.9 * (n // 3 % 3 - 1) * s.box[b, 5]
            px = s.box[b, 0] + lx * s.box[b, 7] + lz * s.box[b, 6] - origin[0]
            pz = s.box[b, 2] - lx * s.box[b, 6] + lz * s.box[b, 7] - origin[2]
            py = s.box[b, 1] + (0.5 + 0.45 * (n // 9 - 1)) * s.box[b, 4] - origin[1]
            if math.hypot(px, pz) > limit:
                continue
            ahead = axes[2, 0] * px + axes[2, 1] * py + axes[2, 2] * pz
            if ahead <= 1e-3:
                continue
            side = axes[0, 0] * px + axes[0, 1] * py + axes[0, 2] * pz
            rise = axes[1, 0] * px + axes[1, 1] * py + axes[1, 2] * pz
            if abs(side) > tan_x * ahead or abs(rise) > tan_y * ahead:
                continue
            t, _, _ = cast(s, origin[0], origin[1], origin[2], px, py, pz, s.box_id[b])
            if t >= 1.0 - 1e-9:
                out[b] = 1
                break
