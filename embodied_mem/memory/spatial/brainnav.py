"""BrainNav's two maps in one hub: a coordinate map of things, a topological map of places, kept consistent.

After arXiv 2504.08806; a reconstruction, since no code is published and the paper fixes few details.

* the topological map holds places with their metric position and edges with the metres walked and the action taken;
* the coordinate map holds things, each as an offset from the place it was last seen at, a running mean while it is
  seen from there; so moving a place moves what was seen from it;
* history is the sequence of places with the pose at each.

`close_loop` says that the robot is at an earlier place: the drift is spread evenly over the places visited since, as a
chain of equal springs would, and from then on the odometry is read in the corrected frame. An edge is never shorter
than the straight line between its ends, so a path is never shorter than the distance it bridges.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.geometry.graphs import graph_path
from embodied_mem.memory.spatial.orientation import absolute_angle, bearing, relative_angle, word

__all__ = ["BrainNavMaps", "Direction", "Thing"]


@dataclass
class Thing:
    """An entry of the coordinate map."""

    place: int
    """Place it was last seen from."""
    offset: np.ndarray
    """(2,) x, z metres from that place, mean of what was seen from there."""
    seen: int = 1
    """Times it was seen from that place."""


@dataclass(frozen=True)
class Direction:
    """Where something is, in both frames."""

    metres: float
    """Straight distance."""
    relative: float
    """Radians clockwise from ahead."""
    absolute: float
    """Radians clockwise from +z."""

    def words(self) -> str:
        """Return it in words, as in "2.0 m to the left (west)"."""
        return f"{self.metres:.1f} m to the {word(self.relative)} ({word(self.absolute, 'absolute')})"


@dataclass
class BrainNavMaps:
    """Memory hub of one robot; poses are (3,) x, z metres and yaw radians from odometry."""

    places: list[np.ndarray] = field(default_factory=list)
    """(2,) x, z of each place."""
    things: dict[str, Thing] = field(default_factory=dict)
    """Coordinate map, by name."""
    edges: dict[tuple[int, int], tuple[float, str]] = field(default_factory=dict)
    """Topological map: metres walked and action label, by (from, to)."""
    history: list[tuple[int, np.ndarray]] = field(default_factory=list)
    """Places in the order of visits, with the corrected pose at each."""

    def __post_init__(self) -> None:
        self._drift = np.zeros(2)
        self._walked = 0.0
        self._last: np.ndarray | None = None

    @property
    def here(self) -> int:
        """The current place.

        Raises:
            UsageError: no place was visited yet.
        """
        if not self.history:
            raise UsageError("expected a place to stand at; call visit first")
        return self.history[-1][0]

    def corrected(self, pose: np.ndarray) -> np.ndarray:
        """Return an odometry pose (3,) in the frame of the maps."""
        pose = np.asarray(pose, np.float64)
        if pose.shape != (3,):
            raise UsageError(f"expected a pose (3,) as x, z, yaw, got {pose.shape}")
        return np.concatenate([pose[:2] + self._drift, pose[2:]])

    def move(self, pose: np.ndarray) -> None:
        """Follow the robot to ``pose``; the metres of an edge are those of the moves in between."""
        now = self.corrected(pose)
        if self._last is not None:
            self._walked += float(np.linalg.norm(now[:2] - self._last[:2]))
        self._last = now

    def visit(self, pose: np.ndarray, action: str = "", place: int | None = None) -> int:
        """Arrive at a place and return its number.

        Args:
            pose: (3,) odometry. action: label of the edge from the last place.
            place: number of a known place, None for a new one; `close_loop` also corrects the drift.

        Raises:
            UsageError: there is no such place.
        """
        if place is not None and not 0 <= place < len(self.places):
            raise UsageError(f"expected a place in [0, {len(self.places) - 1}], got {place}")
        self.move(pose)
        assert self._last is not None
        if place is None:
            place = len(self.places)
            self.places.append(self._last[:2].copy())
        if self.history and self.here != place:
            self.edges[self.here, place] = (self._walked, action)
        self.history.append((place, self._last.copy()))
        self._walked = 0.0
        return place

    def close_loop(self, pose: np.ndarray, place: int, action: str = "") -> float:
        """Arrive at the known ``place``, spread the drift over the places since, and return its metres."""
        self.visit(pose, action, place)
        since = next((k for k in range(len(self.history) - 2, -1, -1) if self.history[k][0] == place), None)
        error = self.places[place] - self.history[-1][1][:2]
        if since is None:
            raise UsageError(f"expected place {place} in the history, got one that was never visited")
        steps = len(self.history) - 1 - since
        shifts: dict[int, np.ndarray] = {}
        for k in range(since + 1, len(self.history)):
            number, then = self.history[k]
            share = error * (k - since) / steps
            then[:2] += share
            # a place that is met again on the way moves once, as at its first visit; the loop's end stays
            if number != place:
                shifts.setdefault(number, share)
        for number, shift in shifts.items():
            self.places[number] = self.places[number] + shift
        self._drift = self._drift + error
        self._last = self.history[-1][1].copy()
        return float(np.linalg.norm(error))

    def see(self, name: str, pose: np.ndarray, metres: float, relative: float) -> None:
        """Note a thing that is ``metres`` away at ``relative`` radians, seen from the current place."""
        if metres < 0:
            raise UsageError(f"expected metres >= 0, got {metres}")
        at = self.corrected(pose)
        angle = absolute_angle(at[2], relative)
        offset = at[:2] + metres * np.array([np.sin(angle), np.cos(angle)]) - self.places[self.here]
        held = self.things.get(name)
        if held is None or held.place != self.here:
            self.things[name] = Thing(self.here, offset)
        else:
            held.seen += 1
            held.offset = held.offset + (offset - held.offset) / held.seen

    def position(self, name: str) -> np.ndarray:
        """Return x, z (2,) metres of a thing.

        Raises:
            UsageError: it was never seen.
        """
        if name not in self.things:
            raise UsageError(f"expected a thing that was seen, got {name!r}; known: {sorted(self.things)}")
        thing = self.things[name]
        return self.places[thing.place] + thing.offset

    def direction(self, name: str, pose: np.ndarray) -> Direction:
        """Return where a thing is for a robot at the odometry ``pose`` (3,)."""
        at, target = self.corrected(pose), self.position(name)
        angle = bearing(at[:2], target)
        return Direction(float(np.linalg.norm(target - at[:2])), float(relative_angle(at[2], angle)), float(angle))

    def route(self, place: int) -> tuple[list[int], float]:
        """Return the places from here to ``place`` over known edges (both ways), and metres; ([], inf) if none."""
        pairs = list(self.edges)
        metres = [self.length(a, b) for a, b in pairs]
        if not pairs:
            return ([place], 0.0) if place == self.here else ([], float("inf"))
        path = graph_path(len(self.places), np.array(pairs), self.here, place, np.array(metres))
        if not path:
            return [], float("inf")
        between = {frozenset(pair): value for pair, value in sorted(zip(pairs, metres), key=lambda item: -item[1])}
        return path, sum(between[frozenset(step)] for step in zip(path, path[1:]))

    def length(self, a: int, b: int) -> float:
        """Return the metres of the edge from a to b: what was walked, at least the straight line."""
        straight = float(np.linalg.norm(self.places[a] - self.places[b]))
        return max(self.edges[a, b][0], straight, 1e-9)
