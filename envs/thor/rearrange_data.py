"""Rearrangement tasks from a file: what was moved and opened, and what that means for the metrics.

One JSON object per line: ``scene``, ``index``, ``agent_position``, ``agent_rotation``, ``objects`` as lists of name,
start pose and goal pose (or null), ``openable``. The published 2023 validation tasks (1,000) are in this form in
``EMBODIED_MEM_DATA/rearrange``. Boxes of objects are not in the file; `states` takes the median box of the type.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.data import VARIABLE, data_folder
from embodied_mem.errors import UsageError
from embodied_mem.metrics.rearrangement import ObjectState

FILE = "rearrange/ithor_2023_val.jsonl.gz"
FALLBACK_SIZE = (0.3, 0.3, 0.3)


@dataclass(frozen=True)
class Pose:
    """Where an object is."""

    position: tuple[float, float, float]
    """Metres, y up."""
    rotation: tuple[float, float, float]
    """Degrees about x, y, z."""


@dataclass(frozen=True)
class Opening:
    """How far something is open at the start and in the goal, 0 to 1."""

    name: str
    object_id: str
    start: float
    goal: float


@dataclass(frozen=True)
class RearrangeTask:
    """One task; poses and openings of all tracked objects."""

    scene: str
    index: int
    agent_position: tuple[float, float, float]
    agent_yaw: float
    """Degrees."""
    start: dict[str, Pose]
    goal: dict[str, Pose]
    openings: tuple[Opening, ...]
    changes: int
    """How many objects are moved or opened."""
    upstream_energy: float
    """Total energy at the start as the original code computed it, from true boxes."""


def default_file() -> Path:
    """Return the validation file in the data folder.

    Raises:
        UsageError: ``EMBODIED_MEM_DATA`` is not set or holds no such file.
    """
    folder = data_folder()
    if folder is None or not (folder / FILE).is_file():
        raise UsageError(f"expected tasks=FILE or {VARIABLE} to name a folder with {FILE} (docs/envs/thor.md)")
    return folder / FILE


@lru_cache(maxsize=2)
def load_tasks(path: str) -> tuple[RearrangeTask, ...]:
    """Return the tasks of a ``.jsonl`` or ``.jsonl.gz`` file.

    Raises:
        UsageError: the file is missing or a line is not a task.
    """
    if not Path(path).is_file():
        raise UsageError(f"expected a file of rearrangement tasks at {path}, found none")
    opener = gzip.open if path.endswith(".gz") else open
    tasks = []
    with opener(path, "rt", encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            try:
                tasks.append(_task(json.loads(line)))
            except (KeyError, TypeError, ValueError, IndexError) as error:
                raise UsageError(f"line {number} of {path} is not a rearrangement task: {error!r}") from error
    if not tasks:
        raise UsageError(f"{path} holds no tasks")
    return tuple(tasks)


def _task(row: dict[str, Any]) -> RearrangeTask:
    start = {name: _pose(before) for name, before, _ in row["objects"]}
    goal = {name: start[name] if after is None else _pose(after) for name, _, after in row["objects"]}
    openings = tuple(
        Opening(item["name"], item["objectId"], float(item["start_openness"]), float(item["target_openness"]))
        for item in row["openable"]
    )
    x, y, z = (float(value) for value in row["agent_position"])
    return RearrangeTask(
        scene=str(row["scene"]),
        index=int(row["index"]),
        agent_position=(x, y, z),
        agent_yaw=float(row["agent_rotation"]),
        start=start,
        goal=goal,
        openings=openings,
        changes=int(row["num_position_changes"]) + int(row["num_open_changes"]),
        upstream_energy=float(row["upstream_start_energy"]),
    )


def _pose(values: Sequence[Sequence[float]]) -> Pose:
    (x, y, z), (rx, ry, rz) = values
    return Pose((float(x), float(y), float(z)), (float(rx), float(ry), float(rz)))


@lru_cache(maxsize=1)
def _median_sizes() -> dict[str, tuple[float, float, float]]:
    from embodied_mem.envs.house.procthor import assets

    sizes: dict[str, list[tuple[float, float, float]]] = {}
    for asset in assets().values():
        sizes.setdefault(asset.type, []).append(asset.size)
    medians = {kind: np.median(np.array(values), axis=0) for kind, values in sizes.items()}
    return {kind: (float(x), float(y), float(z)) for kind, (x, y, z) in medians.items()}


def typical_size(kind: str) -> tuple[float, float, float]:
    """Return the median box x, y, z in metres of an object type in the asset table; a cube of 0.3 m if it has none."""
    return _median_sizes().get(kind, FALLBACK_SIZE)


def kind_of(name: str) -> str:
    """Return the object type in an object's name.

    >>> kind_of("Bowl_524520be")
    'Bowl'
    """
    return name.rsplit("_", 1)[0]


def states(task: RearrangeTask, *, goal: bool) -> list[ObjectState]:
    """Return the state of every tracked object, moved ones by name and then openings, from the file alone.

    Args:
        task: the task.
        goal: True: as it is to be; False: as the unshuffle phase starts.
    """
    poses = task.goal if goal else task.start
    moved = [
        ObjectState(poses[name].position, typical_size(kind_of(name)), poses[name].rotation[1])
        for name in sorted(poses)
    ]
    opened = [
        ObjectState((0.0, 0.0, 0.0), FALLBACK_SIZE, openness=item.goal if goal else item.start, pickupable=False)
        for item in task.openings
    ]
    return moved + opened
