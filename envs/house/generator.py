"""Seeded procedural houses: 1 to 10 connected, furnished rooms, every one checked with the agent's own collision test.

`generate(seed, config)` depends on nothing but its arguments. A candidate whose rooms cannot all be walked to, or whose
containers cannot all be reached, loses blocking furniture and at last is drawn again, so what is returned is valid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from embodied_mem.envs.house import classes as K
from embodied_mem.envs.house import recipes
from embodied_mem.envs.house.builder import PlanBuilder
from embodied_mem.envs.house.furnish import Furnisher, Placed
from embodied_mem.envs.house.layout import Layout, add_doors, add_windows, outline, split_floor
from embodied_mem.envs.house.plan import HousePlan
from embodied_mem.errors import UsageError

ATTEMPTS = 40


@dataclass(frozen=True)
class GeneratorConfig:
    """What houses look like."""

    rooms: tuple[int, int] = (4, 4)
    """Fewest and most rooms, 1 to 10."""
    boxes: int = 40
    """Most boxes per house, furniture, objects and trays together."""
    containers: int = 0
    """Fewest openable containers per house."""
    room_area: tuple[float, float] = (11.0, 18.0)
    """Range of the mean floor area of a room, square metres."""
    clutter: float = 0.7
    """Chance of a small object per receptacle and pass, 0 to 1."""
    loops: float = 0.35
    """Chance of a door between neighbours that are joined already."""
    closed_doors: float = 0.0
    """Chance that an inner door starts closed; agents can open it."""
    windows: float = 0.75
    """Chance of a window per outer wall."""

    def __post_init__(self) -> None:
        low, high = self.rooms
        if not 1 <= low <= high <= 10:
            raise UsageError(f"rooms must satisfy 1 <= fewest <= most <= 10, got {self.rooms}")
        if self.boxes < 2 * self.containers or self.boxes < 0:
            raise UsageError(f"{self.containers} containers and their trays need at least {2 * self.containers} boxes")
        if not 7.0 <= self.room_area[0] <= self.room_area[1]:
            raise UsageError(f"room_area must ascend and start at 7 m2 or more, got {self.room_area}")


def generate(seed: int, config: GeneratorConfig | None = None, name: str | None = None) -> HousePlan:
    """Return the house of a seed.

    Args:
        seed: any non-negative integer; equal seeds and configs give equal houses.
        config: what the house looks like.
        name: the plan's name.

    Raises:
        UsageError: no valid house came out of `ATTEMPTS` draws (the config asks for too much on too little floor).
    """
    from embodied_mem.envs.house.check import problems

    config = config or GeneratorConfig()
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([seed, attempt])
        layout = _draw_layout(rng, config)
        furnisher = Furnisher(rng, layout, config.clutter, config.boxes)
        furnisher.furnish(config.containers)
        height, style = round(float(rng.uniform(2.5, 3.0)), 2), rng.integers(2**31)
        pieces = furnisher.pieces
        for _ in range(6):
            plan = _build(name or f"generated:{seed}", layout, pieces, height, int(style))
            found = problems(plan)
            if not found:
                break
            pieces = _thin_out(pieces, found)
        else:
            continue
        openable = int(((plan.box_flags & K.OPENABLE) != 0).sum())
        if openable >= config.containers and plan.num_rooms >= config.rooms[0]:
            return plan
    raise UsageError(f"no valid house for seed {seed} with {config}: ask for fewer containers or more floor")


def _draw_layout(rng: np.random.Generator, config: GeneratorConfig) -> Layout:
    rooms = int(rng.integers(config.rooms[0], config.rooms[1] + 1))
    labels = split_floor(rng, rooms, float(rng.uniform(*config.room_area)))
    count = int(labels.max()) + 1
    sizes = np.bincount(labels[labels >= 0].ravel(), minlength=count)
    kinds = [""] * count
    wanted = recipes.room_kinds(count)
    if count == 1:
        wanted = (str(rng.choice(("LivingRoom", "Kitchen", "Bedroom"))),)
    for kind, room in zip(wanted, np.argsort(-sizes, kind="stable")):
        kinds[int(room)] = kind
    layout = Layout(labels, kinds)
    add_doors(rng, layout, config.loops, config.closed_doors)
    add_windows(rng, layout, config.windows, 2.5)
    return layout


def _thin_out(pieces: list[Placed], found: list[tuple[str, int]]) -> list[Placed]:
    """Drop the least important blocking piece of every room with a problem, with what lies on it."""
    drop: set[int] = set()
    for _, room in found:
        blocking = [k for k, piece in enumerate(pieces) if piece.room == room and piece.rect is not None]
        if blocking:
            drop.add(blocking[-1])
    for k, piece in enumerate(pieces):
        if piece.parent in drop:
            drop.add(k)
    kept = [k for k in range(len(pieces)) if k not in drop]
    index = {old: new for new, old in enumerate(kept)}
    return [replace(pieces[k], parent=index.get(pieces[k].parent, -1)) for k in kept]


def _build(name: str, layout: Layout, pieces: list[Placed], height: float, style: int) -> HousePlan:
    rng = np.random.default_rng(style)
    builder = PlanBuilder(name, height)
    for room, kind in enumerate(layout.kinds):
        wall = recipes.WALL_STYLES_OF[kind]
        floor = recipes.FLOOR_STYLES_OF[kind]
        styles = (int(rng.choice(wall)), int(rng.choice(floor)))
        palette = {0: recipes.WOOD_RGB, 1: recipes.WOOD_RGB, 4: recipes.CARPET_RGB}.get(styles[1], recipes.TILE_RGB)
        builder.room(
            kind,
            outline(layout.labels, room),
            style=styles,
            wall_rgb=recipes.WALL_RGB[int(rng.integers(len(recipes.WALL_RGB)))],
            floor_rgb=palette[int(rng.integers(len(palette)))],
        )
    for door in layout.doors:
        builder.door(*door.ends, *door.rooms, top=door.top, openness=door.openness, openable=door.openable)
    for window in layout.windows:
        builder.window(*window.ends, window.rooms[0], sill=window.sill, top=window.top)
    built: list[int] = []
    for piece in pieces:
        base = np.array(K.BY_NAME[piece.name].rgb)
        rgb = np.clip(base + rng.integers(-10, 11, 3), 0, 255).tolist()
        lies = None if piece.inside else (piece.x, piece.y, piece.z)
        built.append(
            builder.box(
                piece.name,
                piece.room,
                x=lies[0] if lies else None,
                y=lies[1] if lies else None,
                z=lies[2] if lies else None,
                yaw=piece.yaw,
                size=piece.size,
                rgb=rgb,
                parent=built[piece.parent] if piece.parent >= 0 else -1,
                inside=piece.inside,
            )
        )
    return builder.build()
