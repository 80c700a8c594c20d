"""Which House plan a scene name stands for, and how ProcTHOR JSON and rearrangement tasks become plans."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from embodied_mem.envs.house import classes as K
from embodied_mem.envs.house.builder import PlanBuilder
from embodied_mem.envs.house.plan import HousePlan
from embodied_mem.envs.house.tasks.walkable import doors_open
from embodied_mem.envs.thor.rearrange_data import kind_of, typical_size

SERIES = (1, 201, 301, 401)
"""First numbers of the four series of 30 single rooms: kitchens, living rooms, bedrooms, bathrooms."""
BOXES = 24
MARGIN = 0.6
"""Metres between the objects of a rearrangement task and the walls of its room."""
HANDLE = 0.15
"""Metres, edge of the cube that stands for a thing that opens in a rearrangement room."""


def scene_names() -> list[str]:
    """Return the names of the scenes that are served: the 120 single rooms and `Procedural`."""
    return [f"FloorPlan{first + k}_physics" for first in SERIES for k in range(30)] + ["Procedural"]


def generated(name: str, rooms: int) -> HousePlan:
    """Return the plan of a scene name: a generated house whose seed is the number in the name.

    Args:
        name: ``FloorPlan<n>_physics``.
        rooms: number of rooms.
    """
    from embodied_mem.envs.house.generator import GeneratorConfig, generate

    seed = int("".join(re.findall(r"\d+", name)) or zlib.crc32(name.encode()))
    return doors_open(generate(seed, GeneratorConfig(rooms=(rooms, rooms), boxes=BOXES * rooms), name=name))


def from_house(house: dict[str, Any]) -> HousePlan:
    """Return the plan of a ProcTHOR house; its doors stand open."""
    from embodied_mem.envs.house.procthor import house_plan

    return doors_open(house_plan(house, "Procedural"))


def rearrangement_room(name: str, tasks: Sequence[dict[str, Any]]) -> tuple[HousePlan, list[str], list[str]]:
    """Return a bare room that holds the objects of a scene's rearrangement tasks, with their names and object ids.

    Nothing but the tasks is known of these scenes, so there is no furniture: objects hang where they stand, and what
    opens is a small cube at its place.

    Args:
        name: scene name.
        tasks: all tasks of the scene (``data/rearrange``).
    """
    starts = {entry[0]: entry for task in reversed(tasks) for entry in task["objects"]}
    opens = {entry["name"]: entry["objectId"] for task in tasks for entry in task["openable"]}
    points = [entry[k][0] for task in tasks for entry in task["objects"] for k in (1, 2) if entry[k]]
    points += [task["agent_position"] for task in tasks]
    places = {label: [float(part) for part in key.split("|")[1:4]] for label, key in opens.items()}
    points += list(places.values())
    low, high = np.min(points, axis=0) - MARGIN, np.max(points, axis=0) + MARGIN
    builder = PlanBuilder(name, max(2.5, float(high[1])))
    room = builder.room("Kitchen", [(low[0], low[2]), (low[0], high[2]), (high[0], high[2]), (high[0], low[2])])
    names, ids = [], []
    for label, entry in sorted(starts.items()):
        (x, y, z), (_, yaw, _) = entry[1]
        kind, size = kind_of(label), typical_size(kind_of(label))
        builder.box(
            kind if kind in K.BY_NAME else "Box", room, x=x, y=y - 0.5 * size[1], z=z, yaw=np.radians(yaw), size=size,
            flags=K.PICKUPABLE | K.FLAT,
        )  # fmt: skip
        names.append(label)
        ids.append("")
    for label, key in sorted(opens.items()):
        x, y, z = places[label]
        kind = key.split("|")[0]
        builder.box(
            kind if kind in K.BY_NAME else "Cabinet", room, x=x, y=max(0.0, y - 0.5 * HANDLE), z=z, size=(HANDLE,) * 3,
            flags=K.OPENABLE | K.RECEPTACLE | K.FLAT,
        )  # fmt: skip
        names += [label, ""]
        ids += [key, ""]
    return builder.build(), names, ids
