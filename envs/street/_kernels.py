"""Compiled steps of the street environment: both semantics, the teacher, observations."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from embodied_mem.envs.street.graph import GraphArrays
from embodied_mem.geometry._hop_kernels import hop
from embodied_mem.geometry.hops import HopArrays

_jit = numba.njit(cache=True, nogil=True)

FORWARD, LEFT, RIGHT, STOP, TURN_AROUND = range(5)
TOUCHDOWN, VELMA, INDOOR = range(3)
LIMIT = 55.0
"""Published number of actions, by which the step counter is divided."""


class World(NamedTuple):
    """State of N rows; S is the longest history that is kept."""

    pano: np.ndarray
    """(N,) int32 panorama."""
    heading: np.ndarray
    """(N,) int32 degrees."""
    before: np.ndarray
    """(N,) int32 panorama before the last action that had an effect, -1 at the start."""
    turned: np.ndarray
    """(N,) int32 change of heading by the last action, (-180, 180]."""
    last: np.ndarray
    """(N,) int32 last action, -1 at the start."""
    step: np.ndarray
    """(N,) int32 actions played."""
    stopped: np.ndarray
    """(N,) bool, the episode ended by stop."""
    path: np.ndarray
    """(N, S) int32 panoramas visited, without repeats in a row."""
    length: np.ndarray
    """(N,) int32 entries of ``path``."""
    states: np.ndarray
    """(N, S, 2) int32 panorama and heading at the start and after each action."""
    noted: np.ndarray
    """(N,) int32 entries of ``states``."""
    goal: np.ndarray
    """(N,) int32 last panorama of the route."""
    limit: np.ndarray
    """(N,) int32 actions after which the episode is cut."""


@_jit
def apart(a: int, b: int) -> int:
    """Return the angle between two headings, degrees in [0, 180]."""
    return 180 - abs(abs(a - b) - 180)


@_jit
def signed(a: int, b: int) -> int:
    """Return the turn from heading ``a`` to heading ``b``, degrees in (-180, 180], clockwise positive."""
    angle = (b - a) % 360
    return angle - 360 if angle > 180 else angle


@_jit
def link_at(graph: GraphArrays, pano: int, heading: int) -> int:
    """Return the link of a panorama that has a heading, -1 where none has."""
    for k in range(graph.first[pano], graph.first[pano + 1]):
        if graph.heading[k] == heading:
            return k
    return -1


@_jit
def nearest_link(graph: GraphArrays, pano: int, heading: int) -> int:
    """Return the link nearest to a heading, the first of several, -1 for a panorama without links."""
    best, found = 361, -1
    for k in range(graph.first[pano], graph.first[pano + 1]):
        gap = apart(graph.heading[k], heading)
        if gap < best:
            best, found = gap, k
    return found


@_jit
def _next_link(graph: GraphArrays, pano: int, heading: int, clockwise: bool, skip: int) -> int:
    """Return the link with the smallest turn from a heading to one side, other than that heading; -1 if none.

    ``skip`` is a link that does not count, -1 for none.
    """
    best, found = 361, -1
    for k in range(graph.first[pano], graph.first[pano + 1]):
        if k == skip or graph.heading[k] == heading:
            continue
        turn = (graph.heading[k] - heading) % 360 if clockwise else (heading - graph.heading[k]) % 360
        if turn < best:
            best, found = turn, k
    return found


@_jit
def touchdown_move(graph: GraphArrays, pano: int, heading: int, action: int, border: bool) -> tuple[int, int, bool]:
    """Return (panorama, heading, effect) of a move in the Touchdown semantics.

    ``border``: a move has no effect where it would leave the agent on a panorama of fewer than two links.
    """
    there, turned = pano, heading
    if action == FORWARD:
        link = link_at(graph, pano, heading)
        if link >= 0:
            there = graph.target[link]
        nearest = nearest_link(graph, there, heading)
        if nearest >= 0:
            turned = graph.heading[nearest]
    else:
        link = _next_link(graph, pano, heading, action == RIGHT, -1)
        if link >= 0:
            turned = graph.heading[link]
    if border and graph.first[there + 1] - graph.first[there] < 2:
        return pano, heading, False
    return there, turned, True


@_jit
def velma_filter(graph: GraphArrays, pano: int, action: int) -> int:
    """Return the action that the VELMA semantics plays instead of ``action``."""
    degree = graph.first[pano + 1] - graph.first[pano]
    if degree <= 1 and action != TURN_AROUND:
        return STOP
    if degree == 2 and (action == LEFT or action == RIGHT):
        return FORWARD
    return action


@_jit
def _velma_junction(graph: GraphArrays, pano: int, heading: int, before: int, action: int) -> int:
    """Return the link that an action means at a panorama of more than two links; -1 where there is none."""
    start, stop = graph.first[pano], graph.first[pano + 1]
    back, straight_heading = -1, heading
    if before >= 0 and before != pano:
        for k in range(start, stop):
            if graph.target[k] == before:
                back = k
                break
        order = np.empty(stop - start, np.int64)
        count = 0
        for k in range(start, stop):
            if k == back:
                continue
            # Insertion keeps links of one angle in file order.
            place = count
            while place > 0 and signed(heading, graph.heading[order[place - 1]]) > signed(heading, graph.heading[k]):
                order[place] = order[place - 1]
                place -= 1
            order[place] = k
            count += 1
        if stop - start == 3 and action == LEFT:
            return order[0]
        if stop - start == 3 and action == RIGHT:
            return order[count - 1]
        middle = order[count // 2]
        if count % 2 == 0:
            low = order[count // 2 - 1]
            if apart(heading, graph.heading[low]) <= apart(heading, graph.heading[middle]):
                middle = low
        if action == FORWARD:
            return middle
        straight_heading = graph.heading[middle]
    elif action == FORWARD:
        return link_at(graph, pano, heading)
    return _next_link(graph, pano, straight_heading, action == RIGHT, back)


@_jit
def velma_move(graph: GraphArrays, pano: int, heading: int, before: int, action: int) -> tuple[int, int]:
    """Return (panorama, heading) after a filtered action other than stop in the VELMA semantics."""
    if action == FORWARD:
        link = link_at(graph, pano, heading)
        if link >= 0:
            return graph.target[link], heading
    if action == TURN_AROUND:
        link = nearest_link(graph, pano, (heading - 180) % 360)
        return (pano, heading) if link < 0 else (pano, graph.heading[link])
    degree = graph.first[pano + 1] - graph.first[pano]
    if degree <= 1:
        return pano, heading
    link = nearest_link(graph, pano, heading) if degree == 2 else _velma_junction(graph, pano, heading, before, action)
    if link < 0:
        return pano, heading
    return (graph.target[link] if action == FORWARD else pano), graph.heading[link]


@_jit
def _move(graph: GraphArrays, world: World, semantics: int, i: int, action: int) -> None:
    """Play a move other than stop in row ``i`` and write its history."""
    pano, heading = world.pano[i], world.heading[i]
    if semantics != VELMA:
        there, turned, effect = touchdown_move(graph, pano, heading, action, semantics == TOUCHDOWN)
    else:
        there, turned = velma_move(graph, pano, heading, world.before[i], action)
        effect = True
    if effect:
        world.before[i] = pano
        world.pano[i], world.heading[i] = there, turned
        if there != pano:
            world.path[i, world.length[i]] = there
            world.length[i] += 1
    world.turned[i] = signed(heading, world.heading[i])


@_jit
def note_state(world: World, i: int) -> None:
    """Append the state of row ``i`` to its history."""
    world.states[i, world.noted[i], 0] = world.pano[i]
    world.states[i, world.noted[i], 1] = world.heading[i]
    world.noted[i] += 1


@_jit
def reached(graph: GraphArrays, pano: int, goal: int) -> bool:
    """Return True at the goal or next to it."""
    if pano == goal:
        return True
    for k in range(graph.near_first[goal], graph.near_first[goal + 1]):
        if graph.near[k] == pano:
            return True
    return False


@_jit
def successes(graph: GraphArrays, world: World, ended: np.ndarray) -> np.ndarray:
    """Return (N,) bool, True in the rows of ``ended`` (N,) bool that stand at the goal or next to it."""
    found = np.zeros(ended.shape[0], np.bool_)
    for i in range(ended.shape[0]):
        found[i] = ended[i] and reached(graph, world.pano[i], world.goal[i])
    return found


@_jit
def force_forward(graph: GraphArrays, world: World, semantics: int, rows: np.ndarray) -> None:
    """Play a forward that is not counted as an action in ``rows`` (M,) int64."""
    for i in rows:
        _move(graph, world, semantics, i, FORWARD)
        world.last[i] = FORWARD
        note_state(world, i)


@_jit
def advance(
    graph: GraphArrays,
    world: World,
    hops: HopArrays,
    shaping: float,
    semantics: int,
    actions: np.ndarray,
    active: np.ndarray,
    reward: np.ndarray,
    terminated: np.ndarray,
    truncated: np.ndarray,
) -> None:
    """Play ``actions`` (N,) int64 in the rows of ``active`` (N,) bool; the last three (N,) are filled."""
    for i in range(active.shape[0]):
        reward[i], terminated[i], truncated[i] = 0.0, False, False
        if not active[i]:
            continue
        action = actions[i]
        if semantics == VELMA:
            action = velma_filter(graph, world.pano[i], action)
        start = world.pano[i]
        if action == STOP:
            world.stopped[i] = True
            world.before[i] = start
            world.turned[i] = 0
        else:
            _move(graph, world, semantics, i, action)
        world.last[i] = action
        world.step[i] += 1
        note_state(world, i)
        if shaping != 0.0 and world.pano[i] != start:
            gain = hop(hops, start, world.goal[i]) - hop(hops, world.pano[i], world.goal[i])
            reward[i] += shaping * gain
        terminated[i] = action == STOP
        truncated[i] = action != STOP and world.step[i] >= world.limit[i]
        if (terminated[i] or truncated[i]) and reached(graph, world.pano[i], world.goal[i]):
            reward[i] += 1.0


@_jit
def observe(graph: GraphArrays, world: World, links: int, out: np.ndarray) -> None:
    """Fill ``out`` (N, 11 + 2 * links) float32, see `sensors.vector_names`."""
    order = np.empty(links, np.int64)
    for i in range(out.shape[0]):
        pano, heading = world.pano[i], world.heading[i]
        degree = graph.first[pano + 1] - graph.first[pano]
        for k in range(out.shape[1]):
            out[i, k] = 0.0
        out[i, min(max(degree - 2, 0), 3)] = 1.0
        count = 0
        for k in range(graph.first[pano], graph.first[pano + 1]):
            if count == links:
                break
            angle = signed(heading, graph.heading[k])
            place = count
            while place > 0 and order[place - 1] > angle:
                order[place] = order[place - 1]
                place -= 1
            order[place] = angle
            count += 1
        for k in range(count):
            out[i, 4 + k] = order[k] / 180.0
            out[i, 4 + links + k] = 1.0
        out[i, 4 + 2 * links] = world.turned[i] / 180.0
        if world.last[i] >= 0:
            out[i, 5 + 2 * links + world.last[i]] = 1.0
        out[i, 10 + 2 * links] = world.step[i] / LIMIT


@_jit
def observe_landmarks(
    first: np.ndarray, name: np.ndarray, bearing: np.ndarray, names: int, world: World, out: np.ndarray
) -> None:
    """Fill ``out`` (N, 5 * names) float32: 1 where a landmark shows in a view bin, left to right; nothing behind."""
    for i in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[i, k] = 0.0
        for k in range(first[world.pano[i]], first[world.pano[i] + 1]):
            angle = signed(world.heading[i], bearing[k])
            if abs(angle) <= 112:
                view = (angle + 112) // 45
                out[i, min(view, 4) * names + name[k]] = 1.0


@_jit
def teach(
    graph: GraphArrays, world: World, semantics: int, routes: np.ndarray, lengths: np.ndarray, out: np.ndarray
) -> None:
    """Fill ``out`` (N,) int64 with the action that keeps to ``routes`` (N, L), ``lengths`` (N,); -1 off the route."""
    for i in range(out.shape[0]):
        place = _place(routes[i], lengths[i], world, i)
        if place < 0:
            out[i] = -1
        elif place == lengths[i] - 1:
            out[i] = STOP
        elif semantics != VELMA:
            out[i] = _turn_to(graph, world.pano[i], world.heading[i], routes[i, place + 1])
        else:
            out[i] = _search(graph, world, i, routes[i, place + 1])


@_jit
def _place(route: np.ndarray, length: int, world: World, i: int) -> int:
    """Return where on the route a row is: of several visits, the one its path has come to; -1 off the route."""
    place = -1
    for k in range(world.length[i]):
        if place + 1 < length and route[place + 1] == world.path[i, k]:
            place += 1
        elif place < 0 or route[place] != world.path[i, k]:
            place = -1
            for j in range(length):
                if route[j] == world.path[i, k]:
                    place = j
                    break
    return place


@_jit
def _turn_to(graph: GraphArrays, pano: int, heading: int, there: int) -> int:
    for k in range(graph.first[pano], graph.first[pano + 1]):
        if graph.target[k] == there:
            turn = (graph.heading[k] - heading) % 360
            return FORWARD if turn == 0 else (RIGHT if turn < 180 else LEFT)
    return -1


@_jit
def _search(graph: GraphArrays, world: World, i: int, there: int) -> int:
    """Return the first action of the fewest turns after which forward leads to ``there``; -1 if no turns do."""
    pano = world.pano[i]
    best, found = 100, -1
    for first in (FORWARD, LEFT, RIGHT, TURN_AROUND):
        for side in (LEFT, RIGHT):
            heading, before = world.heading[i], world.before[i]
            for turns in range(7):
                action = FORWARD if first == FORWARD else (first if turns == 0 else side)
                if turns > 0 or first == FORWARD:
                    if velma_filter(graph, pano, FORWARD) == FORWARD:
                        ahead, _ = velma_move(graph, pano, heading, before, FORWARD)
                        if ahead == there and turns < best:
                            best, found = turns, first
                if first == FORWARD or velma_filter(graph, pano, action) != action:
                    break
                _, heading = velma_move(graph, pano, heading, before, action)
                before = pano
    return found
