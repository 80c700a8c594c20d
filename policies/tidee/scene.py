"""Objects of one house as arrays, the relations between them, and how a tidy house is put into disorder.

Relations are read off upright boxes, for all pairs at once: above, next to, supported by, aligned with, facing
(Sarch et al. 2022 use the same five).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from embodied_mem.envs.house import classes as K
from embodied_mem.envs.house.plan import HousePlan
from embodied_mem.errors import UsageError

RELATIONS = ("above", "next_to", "supported_by", "aligned_with", "facing")
NEXT_TO = 0.6
"""Largest gap in metres between the footprints of things that are next to each other."""
TOUCH = 0.05
"""Largest gap in metres between a thing and what carries it."""
ALIGNED = 5.0
"""Degrees."""
FLOOR_LABEL = K.FLOOR
"""Class id that stands for "it lies on the floor"."""


@dataclass(frozen=True)
class Scene:
    """O objects of one house; trays are left out."""

    kind: np.ndarray
    """(O,) int64 class id."""
    place: np.ndarray
    """(O, 3) float64 centre x, y, z in metres."""
    size: np.ndarray
    """(O, 3) float64."""
    yaw: np.ndarray
    """(O,) float64 radians."""
    room: np.ndarray
    """(O,) int64 room type, an index into `classes.ROOM_TYPES`."""
    holder: np.ndarray
    """(O,) int64 object it lies on or in, -1 = floor or wall."""
    flags: np.ndarray
    """(O,) int64 bits of `classes`."""

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def items(self) -> np.ndarray:
        """(M,) int64: objects that can be carried and lie on or in something."""
        return np.flatnonzero(((self.flags & K.PICKUPABLE) != 0) & (self.holder >= 0))

    def label(self, item: int) -> int:
        """Return the class id of what an object lies on; `FLOOR_LABEL` where it is the floor."""
        holder = int(self.holder[item])
        return int(self.kind[holder]) if holder >= 0 else FLOOR_LABEL


def scene_of(plan: HousePlan) -> Scene:
    """Return the objects of a plan."""
    kept = np.flatnonzero((plan.box_flags & K.TRAY) == 0)
    number = np.full(plan.num_boxes + 1, -1, np.int64)
    number[kept] = np.arange(len(kept))
    size = plan.box_size[kept].astype(np.float64)
    place = plan.box_pose[kept, :3].astype(np.float64)
    place[:, 1] += 0.5 * size[:, 1]
    return Scene(
        kind=plan.box_class[kept].astype(np.int64),
        place=place,
        size=size,
        yaw=plan.box_pose[kept, 3].astype(np.float64),
        room=plan.room_type[plan.box_room[kept]].astype(np.int64),
        holder=number[plan.box_parent[kept]],
        flags=plan.box_flags[kept].astype(np.int64),
    )


def relations(scene: Scene) -> np.ndarray:
    """Return (3, E) int64 edges (j, i, r): object j stands in relation r to object i, no object to itself."""
    place, size = scene.place, scene.size
    sin, cos = np.sin(scene.yaw), np.cos(scene.yaw)
    # Half extents of the footprints along the world axes.
    half = 0.5 * np.stack(
        [np.abs(cos) * size[:, 0] + np.abs(sin) * size[:, 2], np.abs(sin) * size[:, 0] + np.abs(cos) * size[:, 2]], 1
    )
    offset = place[None] - place[:, None]
    apart = np.maximum(np.abs(offset[..., [0, 2]]) - half[None] - half[:, None], 0.0)
    gap = np.hypot(apart[..., 0], apart[..., 1])
    bottom, top = place[:, 1] - 0.5 * size[:, 1], place[:, 1] + 0.5 * size[:, 1]
    # Entry [j, i]: j in relation to i.
    above = (gap == 0) & (bottom[:, None] >= top[None] - TOUCH)
    near = (gap <= NEXT_TO) & (np.minimum(top[:, None], top[None]) > np.maximum(bottom[:, None], bottom[None]))
    touching = np.abs(bottom[:, None] - top[None]) <= TOUCH
    inside = (gap == 0) & (bottom[:, None] >= bottom[None]) & (top[:, None] <= top[None])
    middle = np.abs(offset[..., [0, 2]]).max(axis=2) <= half.max(axis=1)[None] + TOUCH
    supported = middle & ((gap == 0) & touching | inside)
    turn = np.degrees(np.abs((scene.yaw[:, None] - scene.yaw[None] + np.pi) % (2 * np.pi) - np.pi))
    bend = turn % 90.0
    aligned = (np.minimum(bend, 90.0 - bend) <= ALIGNED) & (gap <= NEXT_TO)
    ahead = offset[..., 0] * sin[:, None] + offset[..., 2] * cos[:, None]
    aside = np.abs(offset[..., 0] * cos[:, None] - offset[..., 2] * sin[:, None])
    facing = (ahead > 0) & (aside <= half.max(axis=1)[None]) & (gap <= 3 * NEXT_TO)
    held = np.zeros_like(above)
    carried = np.flatnonzero(scene.holder >= 0)
    held[carried, scene.holder[carried]] = True
    table = np.stack([above, near, supported | held, aligned, facing])
    table[:, np.arange(len(scene)), np.arange(len(scene))] = False
    relation, source, target = np.nonzero(table)
    return np.stack([source, target, relation]).astype(np.int64)


def displace(scene: Scene, count: int, generator: np.random.Generator) -> tuple[Scene, np.ndarray]:
    """Return a messy copy of a tidy scene and the objects (M,) int64 that were moved, M <= count.

    A moved object is dropped on the floor of a random room or laid on a random receptacle of another class than its own
    holder's.

    Raises:
        UsageError: ``count`` is below 1.
    """
    if count < 1:
        raise UsageError(f"expected to displace at least one object, got {count}")
    place, holder, room = scene.place.copy(), scene.holder.copy(), scene.room.copy()
    chosen = generator.permutation(scene.items)[:count]
    bearers = np.flatnonzero((scene.flags & K.RECEPTACLE) != 0)
    for item in chosen:
        others = bearers[scene.kind[bearers] != scene.label(int(item))]
        ground = len(others) == 0 or generator.random() < 0.5
        if ground:
            # Beside some piece of furniture, which lies in a room.
            beside = int(generator.choice(bearers)) if len(bearers) else int(item)
            angle = generator.uniform(0, 2 * np.pi)
            away = 0.5 * float(np.hypot(*scene.size[beside, [0, 2]])) + 0.3
            place[item] = scene.place[beside] + away * np.array([np.sin(angle), 0.0, np.cos(angle)])
            place[item, 1], holder[item], room[item] = 0.5 * scene.size[item, 1], -1, scene.room[beside]
        else:
            target = int(generator.choice(others))
            spread = generator.uniform(-0.3, 0.3, 2) * scene.size[target, [0, 2]]
            place[item] = scene.place[target]
            place[item, [0, 2]] += spread
            place[item, 1] += 0.5 * (scene.size[target, 1] + scene.size[item, 1])
            holder[item], room[item] = target, scene.room[target]
    return replace(scene, place=place, holder=holder, room=room), np.sort(chosen).astype(np.int64)
