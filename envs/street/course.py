"""What a route asks for at its junctions, and routes as people stroll: the facts that instructions are made of.

Panoramas jog at junctions: a street that goes straight on is often left at 40 degrees and back at -40. What a person
calls a turn is the change from the street before a junction, or a group of them close together, to the street behind it
(of 724 Map2Seq dev texts of the seen area 86 % name just these turns; with the bend on the junction itself it is 42 %).
Which link leads to a side is told by the order of links: of three the middle one leads straight on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embodied_mem.envs.street.graph import StreetGraph

TURN = 45
"""Degrees between the streets before and behind a junction beyond which it is turned at."""
BACK = 150
"""Degrees beyond which a link leads back."""
STREET = 2
"""Links before and behind a junction that are passed over to read the direction of a street."""
GROUP = 2
"""Most links between two junctions that are one to a person."""
AHEAD = 60
"""Degrees from the street's direction within which one of two links leads straight on."""
LEADS_BACK, NO_LINK = 2, 3
"""Sides beside -1 left, 0 straight on and 1 right."""
WITH_TRAFFIC = 0.7
"""Share of strolls that begin in the direction of the car that took the first panorama."""
_AHEAD = 14
BEND = 25
"""Degrees up to which a stroll takes a link for one that leads straight on."""
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


def link_sides(bends: np.ndarray, angles: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Return where links lead, (N, L) int8: -1, 0 or 1, `LEADS_BACK` or `NO_LINK`.

    Args:
        bends: (N, L) degrees from the link of arrival, in (-180, 180].
        angles: (N, L) degrees from the direction of the street of arrival.
        there: (N, L) bool, links that exist.
    """
    back = there & (np.abs(bends) >= BACK)
    back &= np.abs(bends) == np.where(back, np.abs(bends), -1).max(1, keepdims=True)
    onward = there & ~back
    rank = (onward[:, None, :] & (bends[:, None, :] < bends[:, :, None])).sum(2)
    count = onward.sum(1, keepdims=True)
    off = np.where(onward, np.abs(angles), 999)
    ahead = off.argmin(1)[:, None]
    straight = np.take_along_axis(rank, ahead, 1)
    fork = (count == 2) & (off.min(1, keepdims=True) > AHEAD)
    found = np.select([count == 3, fork], [rank - 1, 2 * rank - 1], np.sign(rank - straight))
    return np.where(back, LEADS_BACK, np.where(onward, found, NO_LINK)).astype(np.int8)


def find_junctions(graph: StreetGraph, route: Sequence[int] | np.ndarray) -> list[Junction]:
    """Return the junctions of a route (L,), in order, its two ends left out."""
    heads = np.array([graph.link_heading(int(a), int(b)) for a, b in zip(route, route[1:])], dtype=np.int64)
    places = [place for place in range(1, len(route) - 1) if graph.out_degree[int(route[place])] > 2]
    if not places:
        return []
    turns = _turns(heads, places)
    arrays, width = graph.arrays, int(max(graph.out_degree[int(route[place])] for place in places))
    leaving, there = np.zeros((len(places), width), np.int64), np.zeros((len(places), width), bool)
    for row, place in enumerate(places):
        links = arrays.heading[arrays.first[route[place]] : arrays.first[route[place] + 1]]
        leaving[row, : len(links)], there[row, : len(links)] = links, True
    turned = [max((other for other in places if other < place and turns[other]), default=0) for place in places]
    street = [int(heads[max(place - 1 - STREET, since)]) for place, since in zip(places, turned)]
    before = np.array([[heads[place - 1], way] for place, way in zip(places, street)])
    bends, angles = ((leaving - before[:, k, None] + 180) % 360 - 180 for k in (0, 1))
    sides = link_sides(bends, angles, there)
    opens = [(sides == side).any(1) for side in (-1, 0, 1)]
    return [Junction(place, turns[place], *(bool(item[row]) for item in opens)) for row, place in enumerate(places)]


def _turns(heads: np.ndarray, places: Sequence[int]) -> dict[int, int]:
    """Return the side of every junction: of a group that is turned at, the one that bends most has the turn."""
    groups: list[list[int]] = []
    for place in places:
        if groups and place - groups[-1][-1] <= GROUP:
            groups[-1].append(place)
        else:
            groups.append([place])
    turns = dict.fromkeys(places, 0)
    for number, group in enumerate(groups):
        first = groups[number - 1][-1] if number else 0
        last = groups[number + 1][0] - 1 if number + 1 < len(groups) else len(heads) - 1
        into = heads[max(group[0] - 1 - STREET, first)]
        out = heads[min(group[-1] + STREET, last)]
        change = (int(out) - int(into) + 180) % 360 - 180
        if abs(change) > TURN:
            side = 1 if change > 0 else -1
            bends = [side * ((int(heads[place]) - int(heads[place - 1]) + 180) % 360 - 180) for place in group]
            turns[group[int(np.argmax(bends))]] = side
    return turns


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
                others = [k for k in free if k != ahead] if min(bends) <= BEND else free
                link = ahead if draw.random() < straight else others[int(draw.random() * len(others))]
            here, heading = int(arrays.target[link]), int(arrays.heading[link])
            route.append(here)
            seen.add(here)
        if len(route) == hops + 1 and graph.out_degree[route[-1]] >= 2:
            return np.array(route, np.int32)
    return None
