"""What a route asks for at its junctions, and routes as people stroll: the facts that instructions are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embodied_mem.envs.street.graph import StreetGraph

TURN = 25
"""Degrees beyond which a junction is turned at."""
BACK = 150
"""Degrees beyond which a link leads back."""
WITH_TRAFFIC = 0.7
"""Share of strolls that begin in the direction of the car that took the first panorama."""
_AHEAD = 14
_STROLL_TRIES = 400


@dataclass(frozen=True)
class Junction:
    """A panorama of more than two links between the ends of a route."""

    place: int
    """Index on the route."""
    turn: int
    """-1 left, 0 straight on, 1 right."""
    left: bool
    """A street leads to the left."""
    straight: bool
    """A street leads straight on."""
    right: bool
    """A street leads to the right."""

    def opens(self, side: int) -> bool:
        """Return whether a street leads to a side, -1 or 1."""
        return self.left if side < 0 else self.right


@dataclass(frozen=True)
class Leg:
    """What lies between two turns of a route."""

    begin: int
    """Index of its first panorama: the start of the route, or the turn before."""
    passed: tuple[Junction, ...]
    """Junctions that are crossed straight on."""
    turn: Junction | None
    """The turn at its end; None for the last leg, which ends at the goal."""


def find_junctions(graph: StreetGraph, route: Sequence[int] | np.ndarray) -> list[Junction]:
    """Return the junctions of a route (L,), in order, its two ends left out."""
    arrays, found = graph.arrays, []
    for place in range(1, len(route) - 1):
        here = int(route[place])
        if graph.out_degree[here] <= 2:
            continue
        arriving = graph.link_heading(int(route[place - 1]), here)
        links = slice(arrays.first[here], arrays.first[here + 1])
        angles = (arrays.heading[links].astype(int) - arriving + 180) % 360 - 180
        chosen = int(angles[np.flatnonzero(arrays.target[links] == int(route[place + 1]))[0]])
        open_ = angles[np.abs(angles) < BACK]
        turn = 1 if chosen > TURN else -1 if chosen < -TURN else 0
        sides = (bool((open_ < -TURN).any()), bool((np.abs(open_) <= TURN).any()), bool((open_ > TURN).any()))
        found.append(Junction(place, turn, *sides))
    return found


def find_legs(graph: StreetGraph, route: Sequence[int] | np.ndarray) -> list[Leg]:
    """Return the legs of a route (L,): one per turn, and the last one."""
    legs, begin = [], 0
    passed: list[Junction] = []
    for junction in find_junctions(graph, route):
        if junction.turn == 0:
            passed.append(junction)
            continue
        legs.append(Leg(begin, tuple(passed), junction))
        begin, passed = junction.place, []
    return [*legs, Leg(begin, tuple(passed), None)]


def junction_ahead(graph: StreetGraph, before: int, here: int) -> int | None:
    """Return how many links straight on the next junction lies, None at a dead end or beyond `_AHEAD`."""
    arrays = graph.arrays
    for steps in range(1, _AHEAD + 1):
        onward = [int(there) for there in arrays.target[arrays.first[here] : arrays.first[here + 1]] if there != before]
        if not onward:
            return None
        before, here = here, onward[0]
        if graph.out_degree[here] > 2:
            return steps
    return None


def stroll(
    graph: StreetGraph, allowed: np.ndarray, hops: int, draw: np.random.Generator, straight: float = 0.35
) -> np.ndarray | None:
    """Return a walk of ``hops`` links that never meets itself, (hops + 1,) int32; None where none was found.

    Shortest ways never go round a block as annotated routes do; a stroll turns at a junction as it likes.

    Args:
        graph: the graph.
        allowed: (N,) bool panoramas that may be used.
        hops: links, >= 1.
        draw: random draws.
        straight: probability of going straight on where that is possible; the default gives annotated routes' share.

    Seven in ten begin with the traffic (`StreetGraph.yaw`).
    """
    arrays = graph.arrays
    starts = np.flatnonzero(allowed & (graph.out_degree == 2))
    for _ in range(_STROLL_TRIES if len(starts) else 0):
        here = int(starts[int(draw.random() * len(starts))])
        route, seen, heading = [here], {here}, None
        while len(route) <= hops:
            links = range(arrays.first[here], arrays.first[here + 1])
            free = [k for k in links if allowed[arrays.target[k]] and int(arrays.target[k]) not in seen]
            if not free:
                break
            if len(free) == 1:
                link = free[0]
            elif heading is None:
                off = [abs((int(arrays.heading[k]) - int(graph.yaw[here]) + 180) % 360 - 180) for k in free]
                along = draw.random() < WITH_TRAFFIC
                link = free[int(np.argmin(off) if along else np.argmax(off))]
            else:
                bends = [abs((int(arrays.heading[k]) - heading + 180) % 360 - 180) for k in free]
                ahead = free[int(np.argmin(bends))]
                others = [k for k in free if k != ahead] if min(bends) <= TURN else free
                link = ahead if draw.random() < straight else others[int(draw.random() * len(others))]
            here, heading = int(arrays.target[link]), int(arrays.heading[link])
            route.append(here)
            seen.add(here)
        if len(route) == hops + 1 and graph.out_degree[route[-1]] >= 2:
            return np.array(route, np.int32)
    return None
