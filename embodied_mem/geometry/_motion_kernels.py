"""Compiled search over the discrete motion model (numba). Imported by `motion` at first use only."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from embodied_mem.geometry._grid_kernels import _sift_down, _sift_up, value_at

MOVE, LEFT, RIGHT = 0, 1, 2
SAMPLES = 3
"""Points of a move that must lie on free cells."""


@njit(cache=True)
def _on_free(free: np.ndarray, cell: float, x0: float, z0: float, x: float, z: float) -> bool:
    r, c = int(math.floor((z - z0) / cell)), int(math.floor((x - x0) / cell))
    return 0 <= r < free.shape[0] and 0 <= c < free.shape[1] and free[r, c]


@njit(cache=True)
def search(
    free: np.ndarray,
    tight: np.ndarray,
    goal: np.ndarray,
    field: np.ndarray,
    frame: np.ndarray,
    pose: np.ndarray,
    step: float,
    turn: float,
    first: np.ndarray,
    barred: np.ndarray,
    costs: np.ndarray,
    out: np.ndarray,
) -> int:
    """Write the actions to a goal cell into ``out`` and return their number, -1 when there is no way.

    Nodes are half cells, each with the exact pose in which it was first reached; an edge turns on the spot and moves
    once. The search is A* with the distance field as estimate.

    Args:
        free, tight, goal: (R, C) bool: may be stood on; lies next to a blocked cell; counts as arrived.
        field: (R, C) float32 metres to the nearest goal cell.
        frame: (3,) x0, z0, cell.
        pose: (3,) x, z, yaw (radians).
        step: metres per move.
        turn: radians per turn.
        first: (H,) bool: the move after k right turns from the start is known to be possible.
        barred: (M,) int64 `bar_code` of moves known to fail, -1 = unused.
        costs: (3,) metres charged per turn, per move on tight cells, and weight of the estimate.
        out: (L,) int8.
    """
    x0, z0, cell = frame[0], frame[1], frame[2]
    half = 0.5 * cell
    rows, columns = 2 * free.shape[0], 2 * free.shape[1]
    headings = len(first)
    spent = np.full(rows * columns, np.inf, np.float32)
    parent = np.full(rows * columns, -1, np.int32)
    heading = np.zeros(rows * columns, np.int16)
    xs, zs = np.zeros(rows * columns), np.zeros(rows * columns)
    closed = np.zeros(rows * columns, np.bool_)
    sines, cosines = np.empty(headings), np.empty(headings)
    for k in range(headings):
        sines[k], cosines[k] = math.sin(pose[2] + k * turn), math.cos(pose[2] + k * turn)
    keys, items = np.empty(1024, np.float32), np.empty(1024, np.int64)
    start = min(max(int((pose[1] - z0) / half), 0), rows - 1) * columns
    start += min(max(int((pose[0] - x0) / half), 0), columns - 1)
    spent[start], xs[start], zs[start] = 0.0, pose[0], pose[1]
    keys[0], items[0] = 0.0, start
    size = 1
    found = -1
    while size > 0:
        node = items[0]
        size -= 1
        keys[0], items[0] = keys[size], items[size]
        _sift_down(keys, items, size)
        if closed[node]:
            continue
        closed[node] = True
        x, z = xs[node], zs[node]
        r, c = int(math.floor((z - z0) / cell)), int(math.floor((x - x0) / cell))
        if 0 <= r < goal.shape[0] and 0 <= c < goal.shape[1] and goal[r, c]:
            found = node
            break
        for k in range(headings):
            if node == start and not first[k]:
                continue
            turns = abs(k - heading[node])
            turns = min(turns, headings - turns)
            nx, nz = x + step * sines[k], z + step * cosines[k]
            if not _on_free(free, cell, x0, z0, nx, nz):
                continue
            passable = True
            if node != start:
                for s in range(1, SAMPLES):
                    t = s * step / SAMPLES
                    if not _on_free(free, cell, x0, z0, x + t * sines[k], z + t * cosines[k]):
                        passable = False
                        break
                if passable and len(barred):
                    code = bar_code(x, z, pose[2] + k * turn, frame)
                    for b in barred:
                        if b == code:
                            passable = False
                            break
            if not passable:
                continue
            after = int((nz - z0) / half) * columns + int((nx - x0) / half)
            if closed[after]:
                continue
            reach = spent[node] + step + turns * costs[0]
            if tight[int((nz - z0) / cell), int((nx - x0) / cell)]:
                reach += costs[1]
            if reach >= spent[after]:
                continue
            left = value_at(field, cell, x0, z0, nx, nz)
            if left == np.inf:
                continue
            spent[after], parent[after], heading[after] = reach, node, k
            xs[after], zs[after] = nx, nz
            if size == len(keys):
                keys = np.concatenate((keys, np.empty(size, np.float32)))
                items = np.concatenate((items, np.empty(size, np.int64)))
            keys[size], items[size] = reach + costs[2] * left, after
            size += 1
            _sift_up(keys, items, size - 1)
    if found < 0:
        return -1
    return _unroll(found, start, parent, heading, headings, out)


@njit(cache=True)
def _unroll(found: int, start: int, parent: np.ndarray, heading: np.ndarray, headings: int, out: np.ndarray) -> int:
    """Write turns and moves from ``start`` to ``found`` into ``out`` (cut at its length) and return their number."""
    moves = 0
    node = found
    while node != start:
        moves += 1
        node = parent[node]
    order = np.empty(moves, np.int64)
    node = found
    for k in range(moves):
        order[moves - 1 - k] = heading[node]
        node = parent[node]
    count, facing = 0, 0
    for k in range(moves):
        right = (order[k] - facing) % headings
        turns = min(right, headings - right)
        for _ in range(turns):
            if count < len(out):
                out[count] = RIGHT if right <= headings - right else LEFT
                count += 1
        if count < len(out):
            out[count] = MOVE
            count += 1
        facing = order[k]
    return count


@njit(cache=True)
def bar_code(x: float, z: float, yaw: float, frame: np.ndarray) -> int:
    """Return a number for "moving along ``yaw`` (radians) from around (x, z)": half cells and steps of 5 degrees."""
    half = 0.5 * frame[2]
    r, c = int(math.floor((z - frame[1]) / half)), int(math.floor((x - frame[0]) / half))
    k = int(math.floor(yaw * 36.0 / math.pi + 0.5)) % 72
    return (r * 65536 + c) * 72 + k
