"""The same pictures by ray casting in plain torch: the reference of the other renderers, a fallback on any device.

Every pixel's ray is tested against every wall edge and every box of its house; the nearest hit wins. Nothing is culled
and nothing is shared between pixels, so the code says what a picture is: walls seen from their room's side, door
openings (their sliding panel, the lintel above), windows, floor by room, ceiling, and upright prisms. All houses of a
batch are padded to the largest one. Cost: about 300 passes over (N, H, W) per frame; use it to check, not to train.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from embodied_mem.envs.house import textures
from embodied_mem.envs.house.batch import HouseWorld
from embodied_mem.envs.house.raster import FADE, FLOOR_SHIFT, FRAME_TOP, FRAME_WIDTH, LEAST, TEXELS_FLOOR, TEXELS_WALL
from embodied_mem.envs.house.render import Paint, cameras

FAR = 1e9


class TorchRenderer:
    """Draws with torch; `draw` leaves the pictures on the device, `render` copies them into NumPy buffers."""

    def __init__(self, world: HouseWorld, images: tuple[str, ...], device: str | None = None) -> None:
        self.world = world
        self.images = images
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.paint = Paint(world)

    def render(self, out: dict[str, np.ndarray]) -> None:
        """Fill the given buffers, see `render.Renderer`."""
        pictures = self.draw()
        for name, buffer in out.items():
            buffer[:] = pictures[name].cpu().numpy()

    def draw(self) -> dict[str, Tensor]:
        """Return rgb (N, H, W, 3) uint8, depth (N, H, W) float32 and semantic (N, H, W) int32 on the device."""
        self.paint.update()
        scene = _Scene(self.world, self.paint, self.device)
        scene.draw_floor()
        scene.draw_walls()
        scene.draw_boxes()
        colour = scene.colour
        rgb = torch.stack([colour & 255, colour >> 8 & 255, colour >> 16 & 255], -1).to(torch.uint8)
        return {"rgb": rgb, "depth": scene.depth, "semantic": scene.ids.to(torch.int32)}


class _Scene:
    """Rays of one batch and the pictures so far; every tensor has axes (N, H, W) or broadcasts to them."""

    def __init__(self, world: HouseWorld, paint: Paint, device: torch.device) -> None:
        self.world, self.paint, self.device = world, paint, device
        self.plans, state, config = world.plans, world.arrays, world.config
        n, rows, columns = world.num_envs, config.height, config.width
        focal = np.float32(0.5 * columns / world.rules.tan_x)
        views = np.zeros((n, 6))
        cameras(self.plans, state, 0.5 * columns / world.rules.tan_x, rows, views)
        self.spot = views[:, :2]
        centre_y = views[:, 4]
        self.sin, self.cos = self.rows(views[:, 2]), self.rows(views[:, 3])
        self.x, self.z = self.rows(self.spot[:, 0]), self.rows(self.spot[:, 1])
        self.eye = float(np.float32(config.eye))
        self.ceiling = self.rows(self.plans.plan_float[state.plan, 0])
        self.u = ((torch.arange(columns, device=device) + 0.5 - 0.5 * columns) / float(focal)).view(1, 1, -1)
        slope = (torch.arange(rows, device=device).view(1, -1, 1) + 0.5 - self.rows(centre_y)) / float(focal)
        self.slope = torch.where(slope.abs() > 1e-7, slope, torch.full_like(slope, 1e-7))
        self.dx, self.dz = self.sin + self.u * self.cos, self.cos - self.u * self.sin
        shape = (n, rows, columns)
        self.depth = torch.full(shape, FAR, device=device)
        self.ids = torch.zeros(shape, dtype=torch.int64, device=device)
        self.colour = torch.zeros(shape, dtype=torch.int64, device=device)

    def rows(self, values: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return one number per batch row (N,) as a tensor (N, 1, 1)."""
        return torch.as_tensor(np.ascontiguousarray(values), device=self.device).to(dtype).view(-1, 1, 1)

    def keep(self, mask: Tensor, t: Tensor, colour: Tensor, number: Tensor | int) -> None:
        """Write a surface where ``mask`` holds and it is nearer than what is there."""
        nearer = mask & (t < self.depth)
        self.depth = torch.where(nearer, t, self.depth)
        self.colour = torch.where(nearer, colour, self.colour)
        self.ids = torch.where(nearer, torch.as_tensor(number, device=self.device), self.ids)

    def draw_floor(self) -> None:
        """Draw the ceiling, then the floor in the style of the room each point lies in."""
        down = self.slope > 0
        t = torch.where(down, self.eye / self.slope, (self.eye - self.ceiling) / self.slope).expand_as(self.depth)
        light = lit(1.0, t)
        self.keep(~down.expand_as(t), t, shaded(torch.tensor(int(self.paint.ceiling), device=self.device), light), 2)
        px, pz = self.x + t * self.dx, self.z + t * self.dz
        state, plans = self.world.arrays, self.plans
        first, count = plans.plan_int[state.plan, 0], plans.plan_int[state.plan, 1]
        ix = (px * float(TEXELS_FLOOR) + float(FLOOR_SHIFT)).to(torch.int64)
        iz = (pz * float(TEXELS_FLOOR) + float(FLOOR_SHIFT)).to(torch.int64)
        for k in range(int(count.max())):
            room = np.where(k < count, first + k, first)
            inside = self._inside(room, px, pz) & self.rows(k < count, torch.bool) & down
            rule = [self.rows(self.paint.floors[plans.room_int[room, 3], c], torch.int64) for c in range(10)]
            sx, sz, mx, mz, m, ex, vx, ez, vz, shift = rule
            cell = ix >> sx
            q = (cell * mx + (iz >> sz) * mz) & m
            line = ((ix & ex) == vx) | (((iz + shift * cell) & ez) == vz)
            index = torch.where(line, 3, torch.where(q < 3, q, 0))
            self.keep(inside, t, shaded(self._paint(self.paint.rooms[room, 1], index), light), 1)

    def _inside(self, room: np.ndarray, px: Tensor, pz: Tensor) -> Tensor:
        low, high = self.plans.room_int[room, 0], self.plans.room_int[room, 1]
        inside = torch.zeros_like(px, dtype=torch.bool)
        for k in range(int((high - low).max())):
            edge = self.plans.edge_float[np.where(low + k < high, low + k, low)]
            x0, z0, x1, z1 = (self.rows(edge[:, c]) for c in range(4))
            span = torch.where(z1 == z0, torch.ones_like(z0), z1 - z0)
            crosses = ((z0 > pz) != (z1 > pz)) & (px < (x1 - x0) * (pz - z0) / span + x0)
            inside ^= crosses & self.rows(low + k < high, torch.bool)
        return inside

    def _paint(self, palette: np.ndarray, index: Tensor) -> Tensor:
        """Return palette (N, 4) colours at ``index`` (N, H, W)."""
        table = torch.as_tensor(palette.astype(np.int64), device=self.device).view(len(palette), 1, 1, 4)
        return torch.gather(table.expand(*index.shape, 4), -1, index.unsqueeze(-1)).squeeze(-1)

    def draw_walls(self) -> None:
        """Draw every wall edge with its openings."""
        plans, state = self.plans, self.world.arrays
        first, count = plans.plan_int[state.plan, 2], plans.plan_int[state.plan, 3]
        for k in range(int(count.max())):
            edge = np.where(k < count, first + k, first)
            self._draw_edge(edge, k < count)

    def _draw_edge(self, edge: np.ndarray, exists: np.ndarray) -> None:
        plans = self.plans
        table = plans.edge_float[edge]
        ux, uz = self.rows(table[:, 4]), self.rows(table[:, 5])
        ox = self.rows((self.spot[:, 0] - table[:, 0]).astype(np.float32))
        oz = self.rows((self.spot[:, 1] - table[:, 1]).astype(np.float32))
        length = self.rows(np.hypot(table[:, 2] - table[:, 0], table[:, 3] - table[:, 1]))
        # Depth at which the ray leaves the room through this edge: the outward normal is (-uz, ux).
        outward = self.dz * ux - self.dx * uz
        t = (ox * uz - oz * ux) / torch.where(outward == 0, torch.ones_like(outward), outward)
        along = ox * ux + oz * uz + t * (self.dx * ux + self.dz * uz)
        hit = (outward > 0) & (t > 2e-5) & (along >= 0) & (along <= length) & self.rows(exists, torch.bool)
        t, along = t.expand_as(self.depth), along.expand_as(self.depth)
        y = self.eye - self.slope * t
        hit = hit & (y >= 0) & (y <= self.ceiling)
        opening, framed, rule = self._opening(edge, along)
        light = lit(0.88 - 0.05 * ux + 0.07 * uz, t)
        room = plans.edge_int[edge, 0]
        texel = (along * float(TEXELS_WALL) + float(FLOOR_SHIFT)).to(torch.int64) & 15
        v = (y * float(TEXELS_WALL)).to(torch.int64).clamp(0, 63)
        style = self.rows(plans.room_int[room, 2], torch.int64)
        colour = self._paint(self.paint.rooms[room, 0], self._texel(style, texel, v))
        number = torch.full_like(texel, 3)
        low, high, sill, head, is_window, mark, free_low, free_high = rule
        share = (along - low) / torch.where(high > low, high - low, torch.ones_like(high))
        column = (share * 16.0).clamp(0.0, 15.0).to(torch.int64)
        door = opening & ~is_window
        frame_top = torch.minimum(head + float(FRAME_TOP), self.ceiling)
        strip = (door | framed) & (y < frame_top) & (framed | (y >= head))
        panel, pane = door & (y < head), opening & is_window & (y < head) & (y >= sill)
        ground = torch.zeros_like(head)
        for mask, skin, base, top in ((strip, 2, ground, frame_top), (panel, 0, ground, head), (pane, 1, sill, head)):
            rise = ((y - base) * (64.0 / torch.where(top > base, top - base, torch.ones_like(top)))).to(torch.int64)
            index = self._texel(torch.full_like(texel, 6 + skin), column, rise.clamp(0, 63))
            palette = np.broadcast_to(self.paint.fixed[skin], (self.world.num_envs, 4))
            colour = torch.where(mask, self._paint(palette, index), colour)
        number = torch.where(panel | pane, mark, number)
        passage = panel & (share >= free_low) & (share < free_high)
        self.keep(hit & ~passage, t, shaded(colour, light), number)

    def _texel(self, skin: Tensor, column: Tensor, row: Tensor) -> Tensor:
        walls = torch.as_tensor(textures.wall_textures().astype(np.int64), device=self.device)
        return walls[skin.expand_as(row), row, column]

    def _opening(self, edge: np.ndarray, along: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Return where an opening is (N, H, W), where only a door's frame is, and the numbers of that opening."""
        plans, state = self.plans, self.world.arrays
        low, high = plans.edge_int[edge, 1], plans.edge_int[edge, 2]
        inside = torch.zeros_like(along, dtype=torch.bool)
        framed = torch.zeros_like(inside)
        chosen = [torch.zeros_like(along) for _ in range(8)]
        everyone = np.arange(self.world.num_envs)
        for k in range(int((high - low).max(initial=0))):
            exists = self.rows(low + k < high, torch.bool)
            number = np.where(low + k < high, low + k, 0)
            table, facts = plans.opening_float[number], plans.opening_int[number]
            window = facts[:, 0] == 1
            openness = np.where(window, 0.0, state.door_openness[everyone, np.where(window, 0, facts[:, 1])])
            openness = np.where(facts[:, 2] >= 0, openness, 0.0)
            closed = (1.0 - openness).astype(np.float32)
            start = np.where(facts[:, 5] == 1, -1.0, closed)
            stop = np.where(facts[:, 5] == 1, 1.0 - closed, 2.0)
            stop = np.where(openness > 0, stop, -2.0)
            values = [*(self.rows(table[:, c]) for c in range(4)), self.rows(window), self.rows(facts[:, 4])]
            values += [self.rows(start), self.rows(stop)]
            within = exists & (along >= values[0]) & (along < values[1]) & ~inside
            near = exists & ~self.rows(window, torch.bool) & ~inside & ~within
            near &= (along >= values[0] - float(FRAME_WIDTH)) & (along < values[1] + float(FRAME_WIDTH))
            chosen = [torch.where(within | near, new, old) for new, old in zip(values, chosen)]
            inside |= within
            framed = (framed | near) & ~inside
        low_s, high_s, sill, head, is_window, mark, start_t, stop_t = chosen
        rule = (low_s, high_s, sill, head, is_window > 0, mark.to(torch.int64), start_t, stop_t)
        return inside, framed, rule

    def draw_boxes(self) -> None:
        """Draw every shown box."""
        plans, state = self.plans, self.world.arrays
        first, count = plans.plan_int[state.plan, 6], plans.plan_int[state.plan, 7]
        for b in range(int(count.max(initial=0))):
            exists = (b < count) & (state.box_shown[:, min(b, state.box_shown.shape[1] - 1)] != 0)
            self._draw_box(b, np.where(b < count, first + b, 0), exists)

    def _draw_box(self, b: int, box: np.ndarray, exists: np.ndarray) -> None:
        plans, pose = self.plans, self.world.arrays.box_pose[:, b]
        bs, bc = self.rows(np.sin(pose[:, 3])), self.rows(np.cos(pose[:, 3]))
        half = 0.5 * plans.box_size[box]
        hx, hz, tall = self.rows(half[:, 0]), self.rows(half[:, 2]), self.rows(plans.box_size[box, 1])
        base = self.rows(pose[:, 1])
        wx = self.rows((self.spot[:, 0] - pose[:, 0]).astype(np.float32))
        wz = self.rows((self.spot[:, 1] - pose[:, 2]).astype(np.float32))
        away = torch.clamp(-(wx * self.sin + wz * self.cos), min=0.0)
        ox, oz = wx * bc - wz * bs, wx * bs + wz * bc
        vx, vz = self.dx * bc - self.dz * bs, self.dx * bs + self.dz * bc
        shown = self.rows(exists, torch.bool)
        cls = plans.box_int[box, 0]
        mark = self.rows(plans.box_int[box, 1], torch.int64)
        palette = self.paint.boxes[box]
        skins = torch.as_tensor(textures.box_skins().astype(np.int64), device=self.device)
        shades = (0.07 * bs + 0.05 * bc, 0.07 * bc - 0.05 * bs)
        for k in range(4):
            # Faces 0..3 look along local +z, +x, -z, -x.
            sign = 1.0 if k < 2 else -1.0
            o, v, h, across, slide, wide = (oz, vz, hz, ox, vx, hx) if k % 2 == 0 else (ox, vx, hx, oz, vz, hz)
            facing = (v * sign < 0) & (o * sign > h)
            t = (sign * h - o) / torch.where(v == 0, torch.ones_like(v), v)
            at = across + t * slide
            y = self.eye - self.slope * t - base
            mask = shown & facing & (t > 2e-5) & (at.abs() <= wide) & (y >= 0) & (y <= tall)
            local = at * (0.5 / wide) + 0.5
            local = 1.0 - local if k in (0, 3) else local
            column = (local * 16.0).clamp(0.0, 15.0).to(torch.int64)
            row = (y * (16.0 / tall)).clamp(0.0, 15.0).to(torch.int64)
            skin = self.rows(self.paint.class_skin[cls, 0 if k == 0 else 1], torch.int64).expand_as(row)
            colour = self._paint(palette, skins[skin, row, column.expand_as(row)])
            t = t.expand_as(self.depth)
            self.keep(mask, t, shaded(colour, lit(0.88 + sign * shades[k % 2], away)), mark)
        drop = torch.where(base + tall < self.eye, self.eye - (base + tall), self.eye - base)
        level = (base + tall < self.eye) | (base > self.eye)
        t = (drop / self.slope).expand_as(self.depth)
        lx, lz = (ox + t * vx) * (8.0 / hx) + 8.0, (oz + t * vz) * (8.0 / hz) + 8.0
        mask = shown & level & (t > 2e-5) & (lx >= 0) & (lx <= 16) & (lz >= 0) & (lz <= 16)
        rule = self.paint.class_top[cls]
        ax, az, bx, bz = (self.rows(rule[:, c]) for c in range(1, 5))
        patch = (lx >= ax) & (lx < bx) & (lz >= az) & (lz < bz)
        edge = (lx < 1) | (lx >= 15) | (lz < 1) | (lz >= 15)
        indices = [self.rows(rule[:, c], torch.int64) for c in (0, 5)]
        index = torch.where(edge, indices[0], torch.where(patch, indices[1], torch.zeros_like(indices[0])))
        share = torch.where(base + tall < self.eye, 1.0, 0.6)
        self.keep(mask, t, shaded(self._paint(palette, index), lit(share, away)), mark)


def lit(share: float | Tensor, t: Tensor) -> Tensor:
    """Return the light 0-256 (int64) of a face at depth ``t``."""
    return (256.0 * share * torch.clamp(1.0 - float(FADE) * t, min=float(LEAST))).to(torch.int64)


def shaded(colour: Tensor, light: Tensor) -> Tensor:
    """Return packed colours (int64 0x00BBGGRR) times light / 256."""
    both = ((colour & 0xFF00FF) * light >> 8) & 0xFF00FF
    return both | (((colour & 0x00FF00) * light >> 8) & 0x00FF00)
