"""Voxel map: a sparse table of tokens, one per visited cell of space, written from depth and pose, read by attention.

    cell of a point p     Morton code of floor(p / cell + 1/2), in a cube of 2^depth cells per side
    write                 m_c <- (1 - g) m_c + g v_c,   v_c = mean over the points in c of W [x, token, place in view]
                          g = sigmoid(W [x, token]) (``update="gated"``), or 1 / (1 + times seen) (``"mean"``);
                          a cell that is new takes v_c itself
    read, before writing  w_h = softmax_s(q_h . m_s / sqrt(V) + b_h . f(r_s), null),   r_h = sum_s w_h,s [m_s, f(r_s)]
    output                y = skip(x) + W [r_1, .., r_H]

r_s is where the cell lies seen from the camera (right, up, forward, by yaw), f a bounded code of it; q and b are
linear in x. So a read can ask for content, for a place in view, or for both. When all S slots are taken, the cells
that were not seen for longest give way. Cells are those of an octree (`morton`): `voxel_queries` reads the same table
exactly, by neighbourhood, radius or ray, and at any coarser level.

Limits: the world is a cube around the episode's start; points outside it are not stored. No parallel form. No
gradient goes through depth or pose, nor through the choice of cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.memory.composition import skip_connection
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, State, StateSpec
from embodied_mem.memory.null_slot import null_slot_softmax
from embodied_mem.memory.slot_loop import SlotLoop, Token, linear_macs
from embodied_mem.memory.spatial import morton
from embodied_mem.memory.spatial.seen import SeenConfig, needs_of, sample_extras, seen_points
from embodied_mem.memory.spatial.slots import EMPTY, merge_voxels, place, write_slots
from embodied_mem.memory.window_memory import check_positive
from embodied_mem.registry import register

__all__ = ["VoxelMap", "VoxelMapConfig", "camera_frame", "place_code"]

PLACE_CODE = 5
"""Width of the code of a relative place."""
_GATE_BIAS = 1.0


@dataclass(frozen=True)
class VoxelMapConfig(SeenConfig):
    """Size of the map, its cells and its reads."""

    slots: int = 128
    """Cells S that a row holds."""
    value_dim: int = 32
    """Width V of a cell's token."""
    cell: float = 0.5
    """Side of a cell, metres."""
    depth: int = 8
    """Levels of the octree: 2^depth cells per side of the cube, centred on the start."""
    update: Literal["gated", "mean"] = "gated"
    """How a cell that is seen again changes."""
    heads: int = 2
    """Reading heads."""
    reach: float = 2.0
    """Metres at which a place counts as half far away."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "slots", "value_dim", "heads")
        morton.check_depth(self.depth)
        if self.cell <= 0 or self.reach <= 0:
            raise UsageError(f"expected cell > 0 and reach > 0 metres, got {self.cell} and {self.reach}")
        if self.slots < self.points:
            raise UsageError(f"expected slots >= {self.points}, the points of a step, got {self.slots}")


@register(
    "memory",
    "voxel_map",
    family="spatial",
    source="sparse octree of tokens as in Mem4Nav, arXiv 2506.19433, bounded and read by attention",
    variants=({"slots": 9, "value_dim": 4, "rows": 2, "columns": 3, "token_dim": 3, "update": "mean", "cell": 0.3},),
)
class VoxelMap(SlotLoop):
    """Table of voxels, see `state_spec`."""

    Config = VoxelMapConfig
    properties = SlotLoop.properties | {"hard_write"}

    def __init__(self, config: VoxelMapConfig) -> None:
        super().__init__(config)
        self.config: VoxelMapConfig = config
        self.needs = needs_of(config)
        V, H = config.value_dim, config.heads
        self.value = nn.Linear(config.in_dim, V)
        self.where = nn.Linear(3, V, bias=False)
        self.patch = nn.Linear(config.token_dim, V, bias=False) if config.token_dim else None
        self.gate: nn.Linear | None = None
        if config.update == "gated":
            self.gate = nn.Linear(config.in_dim + config.token_dim, V)
            nn.init.constant_(self.gate.bias, _GATE_BIAS)
        self.ask = nn.Linear(config.in_dim, H * (V + PLACE_CODE))
        self.out = nn.Linear(H * (V + PLACE_CODE), config.out_dim)
        self.skip = skip_connection(config.in_dim, config.out_dim)

    @classmethod
    def sample_input(cls, config: MemoryConfig, n: int, T: int, generator: torch.Generator) -> MemoryInput:
        """Return random features and a short walk with random depth."""
        drawn = super().sample_input(config, n, T, generator)
        assert isinstance(config, VoxelMapConfig)
        return drawn._replace(**sample_extras(config, n, T, generator))

    def state_spec(self) -> dict[str, StateSpec]:
        """``cells`` (S, 6): Morton code, x, y, z number, times seen, time last seen; ``token`` (S, V); ``clock``."""
        S = self.config.slots
        return {
            "cells": StateSpec((S, 6), torch.int64, "ring"),
            "token": StateSpec((S, self.config.value_dim), role="ring"),
            "clock": StateSpec((), torch.int64, "counter"),
        }

    def starts(self) -> dict[str, Tensor | float]:
        """Return an empty map."""
        return {"cells": EMPTY, "token": 0.0, "clock": 0}

    def macs_per_token(self, t: int | None = None) -> int:
        """Projections, those of points counted per point, and the read."""
        c = self.config
        per_point = linear_macs(self.where) + (linear_macs(self.patch) if self.patch is not None else 0)
        read = 2 * c.heads * c.slots * (c.value_dim + PLACE_CODE)
        return linear_macs(self) + (c.points - 1) * per_point + read + c.points**2 * c.value_dim

    def prepare(self, inputs: MemoryInput) -> Token:
        """Return cells, values and gates of the points, the camera's pose, the questions and the skip."""
        c, x = self.config, inputs.x
        assert inputs.pose is not None
        seen = seen_points(inputs, c)
        cells, inside = morton.cells_of(seen.world, c.cell, c.depth)
        value = self.value(x).unsqueeze(-2) + self.where((seen.local / c.max_depth).to(x.dtype))
        told = x.unsqueeze(-2).expand(*value.shape[:-1], -1)
        if self.patch is not None:
            tokens = self._tokens(inputs)
            value, told = value + self.patch(tokens), torch.cat([told, tokens], -1)
        gate = value[..., :0] if self.gate is None else self.gate(told).sigmoid()
        code = morton.encode(cells)
        # what falls into one cell is one item; done here, for all steps at once
        flat = [item.flatten(0, -3) for item in (value, gate)]
        first, means = merge_voxels(cells.flatten(0, -3), (seen.real & inside).flatten(0, -2), c.depth, *flat)
        value, gate = (mean.view(item.shape) for mean, item in zip(means, (value, gate)))
        number = cells - (1 << (c.depth - 1))
        ask = self.ask(x).unflatten(-1, (c.heads, -1))
        camera = camera_frame(inputs.pose.double())
        return code, number, first.view(code.shape), value, gate, camera, ask, self.skip(x)

    def advance(self, token: Token, state: State, *, donate: bool) -> tuple[Tensor, State]:
        """Read what is held, then write the points."""
        code, number, first, value, gate, camera, ask, _ = token
        cells, clock, S = state["cells"], state["clock"], self.config.slots
        read = self._read(ask, camera, cells, state["token"])
        # an empty slot has time -1, so it comes before every other
        order = cells[..., 5] * S + torch.arange(S, device=cells.device)
        slot, found = place(code, first, cells[..., 0], order)
        times = torch.where(found, cells[..., 4].gather(1, slot), 0) + 1
        share = (1 / times.unsqueeze(-1)).to(value.dtype) if self.gate is None else gate
        share = torch.where(found.unsqueeze(-1), share, 1)
        fresh = torch.cat(
            [code.unsqueeze(-1), number, torch.stack([times, clock.unsqueeze(1).expand_as(code)], -1)], -1
        )
        return read, {
            "cells": write_slots(cells, slot, first, fresh, donate=donate),
            "token": write_slots(state["token"], slot, first, value, share, donate=donate),
            "clock": clock + 1,
        }

    def emit(self, token: Token, read: Tensor) -> Tensor:
        """Map what was read (..., H (V + code)) to the output."""
        return self.out(read) + token[-1]

    def ages(self, state: State) -> dict[str, Tensor]:
        """Return the steps since each cell was last seen, -1 where a slot is empty."""
        code, time = state["cells"][..., 0], state["cells"][..., 5]
        return {"token": torch.where(code == EMPTY, -1, state["clock"].unsqueeze(1) - 1 - time)}

    def _tokens(self, inputs: MemoryInput) -> Tensor:
        assert inputs.tokens is not None
        want = (self.config.points, self.config.token_dim)
        if inputs.tokens.shape[-2:] != want:
            raise UsageError(f"expected tokens (..., {want[0]}, {want[1]}), got {tuple(inputs.tokens.shape)}")
        return inputs.tokens.to(inputs.x.dtype)

    def _read(self, ask: Tensor, camera: Tensor, cells: Tensor, held: Tensor) -> Tensor:
        """ask (n, H, V + code), camera (n, 4, 3), cells (n, S, 6), held (n, S, V) -> (n, H (V + code))."""
        c = self.config
        code = place_code((cells[..., 1:4] * c.cell).to(held.dtype), camera.to(held.dtype), c.reach)
        content, spot = ask.split([c.value_dim, PLACE_CODE], -1)
        logits = torch.baddbmm(torch.bmm(spot, code.mT), content, held.mT, alpha=c.value_dim**-0.5)
        weights = null_slot_softmax(logits, (cells[:, None, :, 0] != EMPTY))
        return torch.cat([torch.bmm(weights, held), torch.bmm(weights, code)], -1).flatten(1)


def camera_frame(pose: Tensor) -> Tensor:
    """Return (..., 4, 3) for pose (..., 5): the camera's place, then its right, up and forward axes by yaw."""
    sin, cos = pose[..., 3].sin(), pose[..., 3].cos()
    zero, one = torch.zeros_like(sin), torch.ones_like(sin)
    axes = torch.stack([cos, zero, -sin, zero, one, zero, sin, zero, cos], -1).unflatten(-1, (3, 3))
    return torch.cat([pose[..., None, :3], axes], -2)


def place_code(points: Tensor, camera: Tensor, reach: float) -> Tensor:
    """Return a bounded code (n, S, 5) of where points (n, S, 3) lie, seen from camera (n, 4, 3) of `camera_frame`.

    Right, up and forward over |r| + reach; closeness exp(-|r|^2 / 2 reach^2); and exp(-8 |r|^2 / reach^2).
    """
    offset = torch.bmm(points - camera[:, :1], camera[:, 1:].mT)
    distance = torch.linalg.vector_norm(offset, dim=-1, keepdim=True)
    square = (distance / reach).square()
    return torch.cat([offset / (distance + reach), (-0.5 * square).exp(), (-8 * square).exp()], -1)
