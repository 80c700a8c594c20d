"""Which scenes the episodes of a split play in: iTHOR's rooms, or the houses of a ProcTHOR file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from embodied_mem.errors import UsageError

SPLITS = ("train", "val", "test")
SERIES = (1, 201, 301, 401)
ROOMS = {"train": range(0, 20), "val": range(20, 25), "test": range(25, 30)}
"""Numbers within each of iTHOR's four series of 30 rooms (kitchens, living rooms, bedrooms, bathrooms)."""
FIFTHS = {"train": (0, 1, 2), "val": (3,), "test": (4,)}
"""Lines of a ProcTHOR file, by their number modulo 5."""


def scene_list(split: str, procthor: str = "", limit: int = 0) -> list[str | dict[str, Any]]:
    """Return the scenes of a split: names, or houses as JSON objects.

    Args:
        split: "train", "val" or "test".
        procthor: ``.jsonl`` or ``.jsonl.gz`` file of houses (schema 1.0.0 for Unity); empty = iTHOR's rooms.
        limit: at most this many of them; 0 = all.

    Raises:
        UsageError: there is no such split or file, or the file holds no house of the split.

    >>> scene_list("val", limit=3)
    ['FloorPlan21', 'FloorPlan221', 'FloorPlan321']
    """
    if split not in SPLITS:
        raise UsageError(f"expected split to be one of {SPLITS}, got {split!r}")
    if limit < 0:
        raise UsageError(f"expected scenes >= 0 (0 = all), got {limit}")
    if not procthor:
        names: list[str | dict[str, Any]] = [f"FloorPlan{first + k}" for k in ROOMS[split] for first in SERIES]
        return names[: limit or None]
    from embodied_mem.envs.house.procthor import read_lines

    houses: list[str | dict[str, Any]] = []
    for number, line in enumerate(read_lines(Path(procthor))):
        if number % 5 not in FIFTHS[split]:
            continue
        try:
            houses.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise UsageError(f"line {number + 1} of {procthor} is not JSON: {error}") from error
        if len(houses) == limit:
            break
    if not houses:
        raise UsageError(f"{procthor} holds no house of split {split!r}")
    return houses
