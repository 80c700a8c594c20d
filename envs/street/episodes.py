"""Episodes as padded arrays: routes, starts, instructions, and recorded actions where a file holds them.

Two line formats are read. Instructions (Touchdown, Map2Seq, a user's own split): ``route_panoids``,
``navigation_text``, ``start_heading`` and one of ``instructions_id``, ``id``, ``route_id``. Recorded rollouts: ``id``,
``start`` [panoid, heading], ``ref_path``, ``actions``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.envs.street.data import read_lines
from embodied_mem.envs.street.graph import StreetGraph
from embodied_mem.errors import UsageError, nearest

ACTIONS = ("forward", "left", "right", "stop", "turn_around")
ID_KEYS = ("instructions_id", "id", "route_id")


@dataclass(frozen=True)
class Episodes:
    """M episodes on one graph."""

    ids: list[Any]
    """What the file calls them."""
    texts: list[str]
    """Instructions; empty where there are none."""
    start: np.ndarray
    """(M,) int32 first panorama."""
    heading: np.ndarray
    """(M,) int32 first heading, degrees."""
    route: np.ndarray
    """(M, L) int32 annotated route, padded with -1."""
    length: np.ndarray
    """(M,) int32 panoramas of the route."""
    actions: np.ndarray | None = None
    """(M, A) int64 recorded actions, padded with -1; None where nothing was recorded."""

    def __len__(self) -> int:
        """Return M."""
        return len(self.ids)

    @property
    def recorded_length(self) -> np.ndarray | None:
        """(M,) int32 recorded actions of each episode, or None."""
        return None if self.actions is None else (self.actions >= 0).sum(axis=1).astype(np.int32)


def make_episodes(
    ids: Sequence[Any],
    texts: Sequence[str],
    routes: Sequence[Sequence[int]] | Sequence[np.ndarray],
    headings: Sequence[int],
    starts: Sequence[int] | None = None,
    actions: Sequence[Sequence[int]] | None = None,
) -> Episodes:
    """Return padded episodes from lists of equal length; a start is the route's first panorama unless given."""
    length = np.array([len(route) for route in routes], dtype=np.int32)
    first = [int(route[0]) for route in routes] if starts is None else list(starts)
    return Episodes(
        ids=list(ids),
        texts=list(texts),
        start=np.array(first, dtype=np.int32),
        heading=np.array(headings, dtype=np.int32) % 360,
        route=_padded(routes, np.int32),
        length=length,
        actions=None if actions is None else _padded(actions, np.int64),
    )


def read_episodes(path: Path, graph: StreetGraph) -> Episodes:
    """Read a file of instructions or of recorded rollouts.

    Raises:
        UsageError: the file is missing, empty or malformed, or names panoramas that the graph lacks; the line is named.
    """
    rows = list(read_lines(path))
    if not rows:
        raise UsageError(f"{path} holds no episodes")
    recorded = "actions" in rows[0][1]
    ids, texts, routes, headings, starts, actions = [], [], [], [], [], []
    for number, row in rows:
        try:
            route = _route(row["ref_path" if recorded else "route_panoids"], graph)
            if recorded:
                start, heading = row["start"]
                starts.append(_panorama(start, graph))
                actions.append(_actions(row["actions"]))
            else:
                heading = row["start_heading"]
                starts.append(route[0])
            ids.append(_identity(row, number))
            headings.append(_whole(heading))
            texts.append(str(row.get("navigation_text", "")))
            routes.append(route)
        except UsageError as error:
            raise UsageError(f"{path}, line {number}: {error}") from error
        except KeyError as error:
            known = (
                "id, start, ref_path, actions"
                if recorded
                else "route_panoids, navigation_text, start_heading and an id"
            )
            raise UsageError(f"{path}, line {number}: the key {error} is missing; expected {known}") from error
        except (TypeError, ValueError) as error:
            raise UsageError(f"{path}, line {number}: {error}") from error
    return make_episodes(ids, texts, routes, headings, starts, actions if recorded else None)


def _identity(row: Mapping[str, Any], number: int) -> Any:
    return next((row[key] for key in ID_KEYS if key in row), number)


def _route(value: Any, graph: StreetGraph) -> list[int]:
    if not isinstance(value, list) or not value:
        raise UsageError(f"expected a route as a list of panorama ids, got {value!r:.60}")
    return [_panorama(item, graph) for item in value]


def _panorama(name: Any, graph: StreetGraph) -> int:
    number = graph.index.get(name) if isinstance(name, str) else None
    if number is None:
        raise UsageError(f"panorama {name!r} is not in the graph")
    return number


def _whole(heading: Any) -> int:
    if isinstance(heading, bool) or not isinstance(heading, int | float) or not np.isfinite(heading):
        raise UsageError(f"expected a heading in degrees, got {heading!r}")
    return int(heading)


def _actions(value: Any) -> list[int]:
    if not isinstance(value, list) or not value:
        raise UsageError(f"expected actions as a list of at least one name, got {value!r:.60}")
    for name in value:
        if name not in ACTIONS:
            raise UsageError(f"unknown action {name!r}{nearest(str(name), ACTIONS)}; known: {', '.join(ACTIONS)}")
    return [ACTIONS.index(name) for name in value]


def _padded(rows: Sequence[Any], dtype: type) -> np.ndarray:
    width = max(len(row) for row in rows)
    table: np.ndarray = np.full((len(rows), width), -1, dtype=dtype)
    for k, row in enumerate(rows):
        table[k, : len(row)] = row
    return table
