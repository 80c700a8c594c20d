"""The image sensors: `make_renderer(world, backend, images, threads)` draws rgb, depth and semantic of all rows.

Back ends give the same pictures: `numba` on the CPU (below), `torch` (`reference`, portable and slow) and `triton`
(`render_triton`, CUDA).
"""
# mypy: disable-error-code="arg-type"
# Compiled code: every `float` of a kernel is a float32 at run time.

from __future__ import annotations

import math
from typing import Protocol

import numba
import numpy as np

from embodied_mem.envs.house import textures
from embodied_mem.envs.house.arrays import PlanArrays, WorldArrays
from embodied_mem.envs.house.batch import HouseWorld
from embodied_mem.envs.house.library import MAX_ROOMS
from embodied_mem.envs.house.physics import find_room
from embodied_mem.envs.house.prisms import boxes
from embodied_mem.envs.house.raster import (
    BLOCK,
    HALF,
    ONE,
    ZERO,
    light_at,
    rooms,
    shade,
    turn,
    turn_rgb,
    turn_words,
)

F32 = np.float32
PAD = int(BLOCK)
WALL_CLEARANCE = 1e-4
"""A camera nearer than this many metres to a wall plane (it stands in a doorway) is moved off it for drawing."""


class Renderer(Protocol):
    """Draws the images of all rows."""

    def render(self, out: dict[str, np.ndarray]) -> None:
        """Fill the given buffers: rgb (N, H, W, 3) uint8, depth (N, H, W) float32, semantic (N, H, W) int32."""


def make_renderer(world: HouseWorld, backend: str, images: tuple[str, ...], threads: int = 1) -> Renderer:
    """Return the renderer of a back end: `numba`, `torch` or `triton`."""
    if backend == "numba":
        return NumbaRenderer(world, images, threads)
    from embodied_mem.envs.house.reference import TorchRenderer

    if backend == "torch":
        return TorchRenderer(world, images)
    from embodied_mem.envs.house.render_triton import TritonRenderer

    return TritonRenderer(world, images)


class Paint:
    """Textures and palettes of a library, kept up to date as plans are added."""

    def __init__(self, world: HouseWorld) -> None:
        self._world = world
        self._known = -1
        self.walls = textures.bit_masks(textures.wall_textures())
        self.floors = textures.floor_styles()
        self.skins = textures.bit_masks(textures.box_skins()).astype(np.uint32)
        self.class_skin = textures.class_skins()
        self.class_top = textures.class_tops()
        self.fixed = textures.FIXED_PALETTES
        self.ceiling = np.uint32(textures.pack(np.array(textures.CEILING_RGB)))
        self.rooms = np.zeros((1, 2, 4), np.uint32)
        self.boxes = np.zeros((1, 4), np.uint32)

    def update(self) -> bool:
        """Make the palettes of plans that were added since the last call; return whether there were any."""
        library = self._world.library
        if self._known == len(library):
            return False
        self._known = len(library)
        self.rooms = textures.room_palettes(library.room_rgb.store)
        self.boxes = textures.box_palettes(library.box_rgb.store, library.box_int.store[:, 0])
        return True


class NumbaRenderer:
    """CPU back end: one compiled call per batch, rows spread over ``threads`` threads."""

    def __init__(self, world: HouseWorld, images: tuple[str, ...], threads: int = 1) -> None:
        self.world = world
        self.images = images
        # asking numba for its threads starts its OpenMP layer, which gives torch in this process as many
        self.threads = 1 if threads <= 1 else min(threads, world.num_envs, numba.get_num_threads())
        self.paint = Paint(world)
        height, width = world.config.height, world.config.width
        n = self.threads
        self._colour = np.zeros((n, width, height + PAD), np.uint32)
        self._depth = np.zeros((n, width, height + PAD), np.float32)
        self._ids = np.zeros((n, width, height + PAD), np.int32)
        self._row = np.zeros((n, 3, height + PAD), np.float32)
        self._tone = np.zeros((n, 2, 4, height + PAD), np.uint32)
        self._line = np.zeros((n, 6, width), np.float32)
        self._number = np.zeros((n, 4, width), np.int32)
        self._none: dict[str, np.ndarray] = {
            "rgb": np.zeros((1, 1, 1, 3), np.uint8),
            "words": np.zeros((1, 1, 0), np.uint32),
            "depth": np.zeros((1, 1, 1), np.float32),
            "semantic": np.zeros((1, 1, 1), np.int32),
        }

    def render(self, out: dict[str, np.ndarray]) -> None:
        """Fill the given buffers, see `Renderer`."""
        self.paint.update()
        paint, config = self.paint, self.world.config
        draw = _draw_parallel if self.threads > 1 else _draw_chunk
        if self.threads > 1:
            numba.set_num_threads(self.threads)
        rgb, words = out.get("rgb", self._none["rgb"]), self._none["words"]
        if "rgb" in out and config.width % 16 == 0 and rgb.flags.c_contiguous:
            words = rgb.reshape(*rgb.shape[:2], -1).view(np.uint32)
        draw(
            self.world.plans,
            self.world.arrays,
            0,
            1 if self.threads == 1 else self.threads,
            config.eye,
            self.world.rules.tan_x,
            paint.walls,
            paint.floors,
            paint.skins,
            paint.class_skin,
            paint.class_top,
            paint.rooms,
            paint.boxes,
            paint.fixed,
            paint.ceiling,
            "rgb" in out,
            "depth" in out,
            "semantic" in out,
            rgb,
            words,
            out.get("depth", self._none["depth"]),
            out.get("semantic", self._none["semantic"]),
            self._colour,
            self._depth,
            self._ids,
            self._row,
            self._tone,
            self._line,
            self._number,
        )


_jit = numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")


@_jit
def clear_of_walls(plans: PlanArrays, room: int, x: float, z: float) -> tuple[float, float]:
    """Return a floor point moved inwards from any wall plane of its room that it (nearly) lies on."""
    for e in range(plans.room_int[room, 0], plans.room_int[room, 1]):
        ux, uz = float(plans.edge_float[e, 4]), float(plans.edge_float[e, 5])
        rx, rz = x - plans.edge_float[e, 0], z - plans.edge_float[e, 1]
        along = rx * ux + rz * uz
        inward = rx * uz - rz * ux
        length = (plans.edge_float[e, 2] - plans.edge_float[e, 0]) * ux + (
            plans.edge_float[e, 3] - plans.edge_float[e, 1]
        ) * uz
        if abs(inward) < WALL_CLEARANCE and -WALL_CLEARANCE < along < length + WALL_CLEARANCE:
            x += (WALL_CLEARANCE - inward) * uz
            z -= (WALL_CLEARANCE - inward) * ux
    return x, z


@_jit
def cameras(plans: PlanArrays, world: WorldArrays, focal: float, rows: int, out: np.ndarray) -> None:
    """Write the camera of every row into ``out`` (N, 6) float64: x, z, sine and cosine of yaw, centre row, room."""
    for i in range(out.shape[0]):
        room = find_room(plans, world.plan[i], world.position[i, 0], world.position[i, 1], world.room[i])
        out[i, 0], out[i, 1] = clear_of_walls(plans, room, world.position[i, 0], world.position[i, 1])
        angle = math.radians(world.yaw[i])
        out[i, 2], out[i, 3] = math.sin(angle), math.cos(angle)
        out[i, 4] = 0.5 * rows - focal * math.tan(math.radians(world.horizon[i]))
        out[i, 5] = room


@_jit
def _draw_chunk(
    plans: PlanArrays,
    world: WorldArrays,
    chunk: int,
    chunks: int,
    eye_height: float,
    tan_x: float,
    walls: np.ndarray,
    floors: np.ndarray,
    skins: np.ndarray,
    class_skin: np.ndarray,
    class_top: np.ndarray,
    room_palettes: np.ndarray,
    box_palettes: np.ndarray,
    fixed: np.ndarray,
    ceiling_rgb: np.uint32,
    want_rgb: bool,
    want_depth: bool,
    want_ids: bool,
    out_rgb: np.ndarray,
    out_words: np.ndarray,
    out_depth: np.ndarray,
    out_ids: np.ndarray,
    colours: np.ndarray,
    depths: np.ndarray,
    idss: np.ndarray,
    row_tables: np.ndarray,
    tone_tables: np.ndarray,
    lines: np.ndarray,
    numbers: np.ndarray,
) -> None:
    """Draw every ``chunks``-th row of the batch, starting with row ``chunk``."""
    columns, rows = depths.shape[1], depths.shape[2] - PAD
    focal = F32(0.5 * columns / tan_x)
    centre_x = F32(0.5 * columns)
    eye = F32(eye_height)
    colour, depth, ids = colours[chunk], depths[chunk], idss[chunk]
    line, number, tones = lines[chunk], numbers[chunk], tone_tables[chunk]
    slope, inverse, away = row_tables[chunk, 0], row_tables[chunk, 1], row_tables[chunk, 2]
    sky = np.zeros(rows + PAD, np.uint32)
    visited = np.empty(MAX_ROOMS, np.uint8)
    order, key = np.empty(world.box_pose.shape[1], np.int32), np.empty(world.box_pose.shape[1], np.float32)
    for i in range(chunk, world.plan.shape[0], chunks):
        plan = world.plan[i]
        first_room, ceiling = plans.plan_int[plan, 0], plans.plan_float[plan, 0]
        room = find_room(plans, plan, world.position[i, 0], world.position[i, 1], world.room[i])
        px, pz = clear_of_walls(plans, room, world.position[i, 0], world.position[i, 1])
        angle = math.radians(world.yaw[i])
        sin, cos = F32(math.sin(angle)), F32(math.cos(angle))
        centre_y = F32(0.5 * rows) - focal * F32(math.tan(math.radians(world.horizon[i])))
        per_row = ONE / focal
        for r in range(rows + PAD):
            v = (F32(np.int32(r)) + HALF - centre_y) * per_row
            v = v if abs(v) > F32(1e-7) else F32(1e-7)
            slope[r], inverse[r] = v, ONE / v
            t = (eye if v > ZERO else eye - ceiling) / v
            away[r] = t
            sky[r] = shade(ceiling_rgb, light_at(ONE, t))
        visited[: plans.plan_int[plan, 1]] = 0
        rooms(
            plans, world.door_openness[i], first_room, room, eye, ceiling, px, pz, sin, cos, focal, centre_x, centre_y,
            rows, slope, away, sky, tones, walls, floors, room_palettes, fixed, want_rgb, want_ids, colour, depth, ids,
            visited, line[0], line[2:6], number,
        )  # fmt: skip
        boxes(
            plans, world, i, first_room, eye, px, pz, sin, cos, focal, centre_x, centre_y, rows, slope, inverse, skins,
            class_skin, class_top, box_palettes, want_rgb, want_ids, colour, depth, ids, visited, line[0], line[1],
            order, key,
        )  # fmt: skip
        if want_rgb:
            if out_words.shape[2] > 0:
                turn_words(colour, out_words[i])
            else:
                turn_rgb(colour, out_rgb[i])
        if want_depth:
            turn(depth, out_depth[i])
        if want_ids:
            turn(ids, out_ids[i])


@numba.njit(cache=True, nogil=True, parallel=True, fastmath=True, error_model="numpy")
def _draw_parallel(
    plans: PlanArrays,
    world: WorldArrays,
    chunk: int,
    chunks: int,
    eye_height: float,
    tan_x: float,
    walls: np.ndarray,
    floors: np.ndarray,
    skins: np.ndarray,
    class_skin: np.ndarray,
    class_top: np.ndarray,
    room_palettes: np.ndarray,
    box_palettes: np.ndarray,
    fixed: np.ndarray,
    ceiling_rgb: np.uint32,
    want_rgb: bool,
    want_depth: bool,
    want_ids: bool,
    out_rgb: np.ndarray,
    out_words: np.ndarray,
    out_depth: np.ndarray,
    out_ids: np.ndarray,
    colours: np.ndarray,
    depths: np.ndarray,
    idss: np.ndarray,
    row_tables: np.ndarray,
    tone_tables: np.ndarray,
    lines: np.ndarray,
    numbers: np.ndarray,
) -> None:
    """Draw all rows, one chunk per thread; arguments as `_draw_chunk`."""
    for k in numba.prange(chunks):
        _draw_chunk(
            plans, world, k, chunks, eye_height, tan_x, walls, floors, skins, class_skin, class_top, room_palettes,
            box_palettes, fixed, ceiling_rgb, want_rgb, want_depth, want_ids, out_rgb, out_words, out_depth, out_ids,
            colours, depths, idss, row_tables, tone_tables, lines, numbers,
        )  # fmt: skip
