"""Grid map: the floor around the start as R x R cells with free / occupied / unknown and learned channels.

    occupancy   o_c <- clamp(o_c + hit where a point fell into c, - miss where only rays passed, +-limit), log-odds
    channels    m_c <- (1 - g) m_c + g v_c at the cells that were hit, as in `voxel_map`
    read        the K x K cells around the camera, turned to its heading, before writing:
                y = skip(x) + W (U [tanh(o) and m of all K^2 cells] * sig(Q x))

A cell is unknown where nothing was ever observed (log-odds exactly 0). The map itself is allocentric, anchored at the
episode's start; what is read is egocentric, the nearest cell of each place in view. An egocentric *store* would be
resampled at every step and blur, so there is none. `frontiers` finds where known free space borders on the unknown.

Limits: points and rays outside the grid are dropped, and what is read there is 0. One floor: points between
``low`` and ``high`` count as obstacles, others only carve free space. No parallel form. No gradient goes through depth
or pose, and none to the occupancy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.memory.composition import skip_connection
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, State, StateSpec
from embodied_mem.memory.slot_loop import SlotLoop, Token, linear_macs
from embodied_mem.memory.spatial.grid_cells import ego_cells, flat_cells, ray_points
from embodied_mem.memory.spatial.seen import SeenConfig, needs_of, sample_extras, seen_points
from embodied_mem.memory.spatial.slots import merge_items, write_slots
from embodied_mem.memory.window_memory import check_positive
from embodied_mem.registry import register

__all__ = ["GridMap", "GridMapConfig"]

_GATE_BIAS = 1.0


@dataclass(frozen=True)
class GridMapConfig(SeenConfig):
    """Size of the map, its channels and its view."""

    size: int = 24
    """Cells R per side."""
    cell: float = 0.5
    """Side of a cell, metres."""
    channels: int = 16
    """Learned channels C of a cell."""
    view: int = 9
    """Cells K per side of the egocentric view, odd."""
    hidden: int = 64
    """Numbers that the view is summed up in; the features choose among them."""
    update: Literal["gated", "mean"] = "gated"
    """How the channels of a cell that is hit again change."""
    rays: int = 8
    """Places checked along a ray for free space."""
    low: float = -1.3
    """Lowest point that is an obstacle, metres relative to the start's camera."""
    high: float = 0.5
    """Highest point that is an obstacle, metres relative to the start's camera."""
    hit: float = 0.85
    """Log-odds added where a point falls."""
    miss: float = 0.4
    """Log-odds taken away where only rays pass."""
    limit: float = 4.0
    """Largest log-odds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "size", "channels", "view", "rays", "hidden")
        if self.view % 2 == 0:
            raise UsageError(f"expected an odd view, so that the camera has a middle cell, got {self.view}")
        if min(self.cell, self.hit, self.miss, self.limit) <= 0 or self.low >= self.high:
            raise UsageError(
                "expected cell, hit, miss and limit > 0 and low < high, got "
                f"{self.cell}, {self.hit}, {self.miss}, {self.limit}, {self.low}, {self.high}"
            )


@register(
    "memory",
    "grid_map",
    family="spatial",
    source="occupancy grids, Elfes 1989; learned channels and egocentric view as in semantic maps for navigation",
    variants=({"size": 12, "channels": 3, "view": 5, "source": "pose", "update": "mean"},),
)
class GridMap(SlotLoop):
    """Floor grid, see `state_spec`."""

    Config = GridMapConfig
    properties = SlotLoop.properties | {"hard_write"}

    def __init__(self, config: GridMapConfig) -> None:
        super().__init__(config)
        self.config: GridMapConfig = config
        self.needs = needs_of(config)
        C = config.channels
        self.value = nn.Linear(config.in_dim, C)
        self.where = nn.Linear(3, C, bias=False)
        self.patch = nn.Linear(config.token_dim, C, bias=False) if config.token_dim else None
        self.gate: nn.Linear | None = None
        if config.update == "gated":
            self.gate = nn.Linear(config.in_dim + config.token_dim, C)
            nn.init.constant_(self.gate.bias, _GATE_BIAS)
        self.look = nn.Linear(config.view**2 * (C + 1), config.hidden)
        self.ask = nn.Linear(config.in_dim, config.hidden)
        self.out = nn.Linear(config.hidden, config.out_dim)
        self.skip = skip_connection(config.in_dim, config.out_dim)

    @classmethod
    def sample_input(cls, config: MemoryConfig, n: int, T: int, generator: torch.Generator) -> MemoryInput:
        """Return random features and a short walk, with random depth where it is read."""
        drawn = super().sample_input(config, n, T, generator)
        assert isinstance(config, GridMapConfig)
        return drawn._replace(**sample_extras(config, n, T, generator))

    def state_spec(self) -> dict[str, StateSpec]:
        """``channels`` (R^2, C), ``hits`` (R^2, 1) times a cell was written, ``odds`` (R^2,) log-odds of occupancy."""
        cells = self.config.size**2
        return {
            "channels": StateSpec((cells, self.config.channels), role="ring"),
            "hits": StateSpec((cells, 1), torch.int32, "counter"),
            "odds": StateSpec((cells,), role="ring"),
        }

    def starts(self) -> dict[str, Tensor | float]:
        """Return an unknown world."""
        return {"channels": 0.0, "hits": 0, "odds": 0.0}

    def macs_per_token(self, t: int | None = None) -> int:
        """Projections, those of points counted per point."""
        per_point = linear_macs(self.where) + (linear_macs(self.patch) if self.patch is not None else 0)
        return linear_macs(self) + (self.config.points - 1) * per_point

    def prepare(self, inputs: MemoryInput) -> Token:
        """Return cells, values and gates of the points, changes of the occupancy, the cells in view and the skip."""
        c, x = self.config, inputs.x
        assert inputs.pose is not None
        pose = inputs.pose.double()
        seen = seen_points(inputs, c)
        cells, inside = flat_cells(seen.world[..., [0, 2]], c.cell, c.size)
        height = seen.world[..., 1]
        obstacle = seen.real & inside & (height >= c.low) & (height <= c.high)
        value = self.value(x).unsqueeze(-2) + self.where((seen.local / c.max_depth).to(x.dtype))
        told = x.unsqueeze(-2).expand(*value.shape[:-1], -1)
        if self.patch is not None:
            assert inputs.tokens is not None
            tokens = inputs.tokens.to(x.dtype)
            if tokens.shape[-2:] != (c.points, c.token_dim):
                raise UsageError(f"expected tokens (..., {c.points}, {c.token_dim}), got {tuple(tokens.shape)}")
            value, told = value + self.patch(tokens), torch.cat([told, tokens], -1)
        gate = value[..., :0] if self.gate is None else self.gate(told).sigmoid()
        # the agent's own place is written although it is no obstacle
        written = obstacle if c.source == "depth" else seen.real & inside
        flat = [item.flatten(0, -3) for item in (value, gate)]
        first, means = merge_items(cells.flatten(0, -2), written.flatten(0, -2), *flat)
        value, gate = (mean.view(item.shape) for mean, item in zip(means, (value, gate)))
        # gates of no width where the update is a mean
        change = self._evidence(pose, seen.world, seen.real, cells, obstacle).to(x.dtype)
        view, visible = ego_cells(pose, c.cell, c.size, c.view)
        asked = self.ask(x).sigmoid()
        return cells, first.view(cells.shape), value, gate, change, view, visible, asked, self.skip(x)

    def advance(self, token: Token, state: State, *, donate: bool) -> tuple[Tensor, State]:
        """Read the view, then write what was seen."""
        cells, first, value, gate, change, view, visible, _, _ = token
        c, channels, hits, odds = self.config, state["channels"], state["hits"], state["odds"]
        seen = channels.gather(1, view.unsqueeze(-1).expand(-1, -1, c.channels))
        around = torch.cat([odds.gather(1, view).tanh().unsqueeze(-1), seen], -1)
        read = torch.where(visible.unsqueeze(-1), around, 0).flatten(1)
        times = hits.gather(1, cells.unsqueeze(-1)) + 1
        share = (1 / times).to(value.dtype) if self.gate is None else gate
        share = torch.where(times > 1, share, 1)
        return read, {
            "channels": write_slots(channels, cells, first, value, share, donate=donate),
            "hits": write_slots(hits, cells, first, times, donate=donate),
            "odds": (odds + change).clamp(-c.limit, c.limit),
        }

    def emit(self, token: Token, read: Tensor) -> Tensor:
        """Map the view (..., K^2 (1 + C)) to the output."""
        return self.out(self.look(read) * token[-2]) + token[-1]

    def _evidence(self, pose: Tensor, world: Tensor, real: Tensor, cells: Tensor, obstacle: Tensor) -> Tensor:
        """Return the change of the log-odds of every cell, (..., R^2): hit, -miss or 0."""
        c = self.config
        passed = ray_points(pose[..., [0, 2]], world[..., [0, 2]], c.rays)
        crossed, on_grid = flat_cells(passed, c.cell, c.size)
        on_grid = on_grid & real.repeat_interleave(c.rays, -1)
        found = torch.zeros(*cells.shape[:-1], c.size**2, dtype=torch.int64, device=cells.device)
        found.scatter_reduce_(-1, crossed, on_grid.long(), "amax")
        found.scatter_reduce_(-1, cells, 2 * obstacle.long(), "amax")
        if c.source == "pose":
            # the camera's own cell is free, and nothing else is known
            found = found.clamp(max=1)
        return pose.new_tensor([0.0, -c.miss, c.hit])[found]
