"""GPU renderer: all frames of a batch in one Triton launch, the pictures stay on the device.

The state of the rows is sent to the device at every call (some 3 kB per row with 40 boxes), the plans only when plans
were added. Pixels agree with the CPU renderer up to rounding (tests: at most 0.1 % of the pixels differ). On a machine
without a GPU the kernel runs under Triton's interpreter (``TRITON_INTERPRET=1``), for tests at tiny sizes only.
Its rate on a GPU has not been measured.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from embodied_mem.envs.house.batch import HouseWorld
from embodied_mem.envs.house.render import Paint, cameras

COLUMNS = 16
"""Columns of one program's strip."""
MAX_ROWS = 64
"""Rows of one program's block."""
PACKED = (
    "plan_int",
    "plan_float",
    "room_int",
    "edge_float",
    "edge_int",
    "opening_float",
    "opening_int",
    "box_size",
    "box_int",
)


class TritonRenderer:
    """Draws with Triton; `draw` leaves the pictures on the device, `render` copies them into NumPy buffers."""

    def __init__(self, world: HouseWorld, images: tuple[str, ...], device: str | None = None) -> None:
        self.world = world
        self.images = images
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.paint = Paint(world)
        n, rows, columns = world.num_envs, world.config.height, world.config.width
        self.pictures = {
            "rgb": torch.zeros((n, rows, columns, 3), dtype=torch.uint8, device=self.device),
            "depth": torch.zeros((n, rows, columns), device=self.device),
            "semantic": torch.zeros((n, rows, columns), dtype=torch.int32, device=self.device),
        }
        self._plans: list[Tensor] = []

    def render(self, out: dict[str, np.ndarray]) -> None:
        """Fill the given buffers, see `render.Renderer`."""
        pictures = self.draw()
        for name, buffer in out.items():
            buffer[:] = pictures[name].cpu().numpy()

    def _send(self, array: np.ndarray) -> Tensor:
        if array.dtype in (np.uint32, np.uint64):
            array = array.view(np.int32 if array.dtype == np.uint32 else np.int64)
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device, non_blocking=True)

    def _send_plans(self) -> None:
        paint, plans = self.paint, self.world.plans
        tables = [paint.rooms, paint.boxes, paint.fixed, paint.walls, paint.floors, paint.skins, paint.class_skin]
        packed = [getattr(plans, name) for name in PACKED]
        self._plans = [self._send(array) for array in (*packed, *tables, paint.class_top)]

    def draw(self) -> dict[str, Tensor]:
        """Return the wanted pictures: rgb (N, H, W, 3) uint8, depth (N, H, W) float32, semantic (N, H, W) int32.

        The tensors are the renderer's own: the next call overwrites them.
        """
        from embodied_mem.envs.house import _triton_kernel

        if self.paint.update() or not self._plans:
            self._send_plans()
        state, config = self.world.arrays, self.world.config
        views = np.zeros((self.world.num_envs, 6))
        cameras(self.world.plans, state, 0.5 * config.width / self.world.rules.tan_x, config.height, views)
        rows = [state.plan, views[:, :5].astype(np.float32), state.door_openness, state.box_pose, state.box_shown]
        height = min(MAX_ROWS, 1 << max(4, math.ceil(math.log2(config.height))))
        grid = (self.world.num_envs, -(-config.width // COLUMNS), -(-config.height // height))
        _triton_kernel.draw[grid](
            *(self._send(array) for array in rows),
            *self._plans,
            *self.pictures.values(),
            int(self.paint.ceiling),
            float(config.eye),
            0.5 * config.width / self.world.rules.tan_x,
            config.height,
            config.width,
            state.door_openness.shape[1],
            state.box_shown.shape[1],
            WANT_RGB="rgb" in self.images,
            WANT_DEPTH="depth" in self.images,
            WANT_IDS="semantic" in self.images,
            COLUMNS=COLUMNS,
            ROWS=height,
        )
        return {name: self.pictures[name] for name in self.images}
