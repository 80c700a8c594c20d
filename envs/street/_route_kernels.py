"""Compiled searches on the panorama graph."""

from __future__ import annotations

import numba
import numpy as np

from embodied_mem.envs.street.graph import GraphArrays

_jit = numba.njit(cache=True, nogil=True)


@_jit
def shortest_route(graph: GraphArrays, start: int, goal: int) -> np.ndarray:
    """Return one shortest way (L,) int32 with both ends; (1,) where the goal cannot be reached."""
    n = graph.first.shape[0] - 1
    before = np.full(n, -1, np.int32)
    queue = np.empty(n, np.int32)
    queue[0], head, tail = start, 0, 1
    before[start] = start
    while head < tail and before[goal] < 0:
        here = queue[head]
        head += 1
        for k in range(graph.first[here], graph.first[here + 1]):
            there = graph.target[k]
            if before[there] < 0:
                before[there] = here
                queue[tail] = there
                tail += 1
    return _unwind(before, start, goal)


@_jit
def _unwind(before: np.ndarray, start: int, goal: int) -> np.ndarray:
    if before[goal] < 0:
        return np.full(1, start, np.int32)
    length, here = 1, goal
    while here != start:
        here = before[here]
        length += 1
    route = np.empty(length, np.int32)
    here = goal
    for k in range(length - 1, -1, -1):
        route[k] = here
        here = before[here]
    return route


@_jit
def route_of_length(graph: GraphArrays, allowed: np.ndarray, start: int, hops: int, pick: float) -> np.ndarray:
    """Return a shortest way of exactly ``hops`` links over allowed panoramas, (hops + 1,) int32; (1,) if there is none.

    Args:
        graph: the graph.
        allowed: (N,) bool panoramas that may be used.
        start: first panorama, allowed.
        hops: number of links, >= 1.
        pick: in [0, 1), which of the panoramas at that distance is the goal.
    """
    n = graph.first.shape[0] - 1
    before = np.full(n, -1, np.int32)
    queue = np.empty(n, np.int32)
    queue[0], head, tail = start, 0, 1
    before[start] = start
    for _ in range(hops):
        stop = tail
        while head < stop:
            here = queue[head]
            head += 1
            for k in range(graph.first[here], graph.first[here + 1]):
                there = graph.target[k]
                if before[there] < 0 and allowed[there]:
                    before[there] = here
                    queue[tail] = there
                    tail += 1
    if tail == head:
        return np.full(1, start, np.int32)
    return _unwind(before, start, queue[head + int(pick * (tail - head))])
