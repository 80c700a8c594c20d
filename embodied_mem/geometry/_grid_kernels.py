"""Compiled grid kernels (numba). Imported by `paths` at first use only."""

from __future__ import annotations

import numpy as np
from numba import njit

# Moves (dr, dc) and the cells that must be free as well, so that no move cuts a corner.
MOVES = np.array(
    [(0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, -1), (-1, 1)]
    + [(1, 2), (2, 1), (2, -1), (1, -2), (-1, -2), (-2, -1), (-2, 1), (-1, 2)],
    dtype=np.int64,
)


@njit(cache=True)
def move_is_free(free: np.ndarray, r: int, c: int, dr: int, dc: int) -> bool:
    """Return whether the straight move from free cell (r, c) by (dr, dc) of `MOVES` stays on free cells."""
    rows, columns = free.shape
    r2, c2 = r + dr, c + dc
    if r2 < 0 or c2 < 0 or r2 >= rows or c2 >= columns or not free[r2, c2]:
        return False
    if abs(dr) + abs(dc) == 1:
        return True
    if abs(dr) == 1 and abs(dc) == 1:
        return free[r2, c] and free[r, c2]
    if abs(dc) == 2:
        half = c + dc // 2
        return free[r, half] and free[r2, half]
    half = r + dr // 2
    return free[half, c] and free[half, c2]


@njit(cache=True)
def _sift_up(keys: np.ndarray, items: np.ndarray, pos: int) -> None:
    while pos > 0:
        parent = (pos - 1) // 2
        if keys[parent] <= keys[pos]:
            return
        keys[parent], keys[pos] = keys[pos], keys[parent]
        items[parent], items[pos] = items[pos], items[parent]
        pos = parent


@njit(cache=True)
def _sift_down(keys: np.ndarray, items: np.ndarray, size: int) -> None:
    pos = 0
    while True:
        child = 2 * pos + 1
        if child >= size:
            return
        if child + 1 < size and keys[child + 1] < keys[child]:
            child += 1
        if keys[pos] <= keys[child]:
            return
        keys[child], keys[pos] = keys[pos], keys[child]
        items[child], items[pos] = items[pos], items[child]
        pos = child


@njit(cache=True)
def dijkstra(free: np.ndarray, start_cost: np.ndarray, cell: float, neighbours: int) -> np.ndarray:
    """Return (R, C) float32 metres: least ``start_cost[goal] + path length``; inf where blocked or unreachable.

    Args:
        free: (R, C) bool.
        start_cost: (R, C) float32, finite at goal cells, inf elsewhere.
        cell: cell edge in metres.
        neighbours: 4, 8 or 16 moves per cell.
    """
    rows, columns = free.shape
    lengths = np.empty(neighbours, dtype=np.float32)
    for m in range(neighbours):
        lengths[m] = cell * np.sqrt(float(MOVES[m, 0] ** 2 + MOVES[m, 1] ** 2))
    field = np.full((rows, columns), np.inf, dtype=np.float32)
    capacity = 256
    keys = np.empty(capacity, dtype=np.float32)
    items = np.empty(capacity, dtype=np.int64)
    size = 0
    for r in range(rows):
        for c in range(columns):
            if free[r, c] and start_cost[r, c] < np.inf:
                field[r, c] = start_cost[r, c]
                if size == capacity:
                    keys = np.concatenate((keys, np.empty(capacity, dtype=np.float32)))
                    items = np.concatenate((items, np.empty(capacity, dtype=np.int64)))
                    capacity *= 2
                keys[size] = start_cost[r, c]
                items[size] = r * columns + c
                size += 1
                _sift_up(keys, items, size - 1)
    while size > 0:
        cost = keys[0]
        item = items[0]
        size -= 1
        keys[0] = keys[size]
        items[0] = items[size]
        _sift_down(keys, items, size)
        r = item // columns
        c = item % columns
        if cost > field[r, c]:
            continue
        for m in range(neighbours):
            dr, dc = MOVES[m, 0], MOVES[m, 1]
            if not move_is_free(free, r, c, dr, dc):
                continue
            reach = cost + lengths[m]
            if reach < field[r + dr, c + dc]:
                field[r + dr, c + dc] = reach
                if size == capacity:
                    keys = np.concatenate((keys, np.empty(capacity, dtype=np.float32)))
                    items = np.concatenate((items, np.empty(capacity, dtype=np.int64)))
                    capacity *= 2
                keys[size] = reach
                items[size] = (r + dr) * columns + c + dc
                size += 1
                _sift_up(keys, items, size - 1)
    return field


@njit(cache=True)
def value_at(field: np.ndarray, cell: float, x0: float, z0: float, x: float, z: float) -> float:
    """Return the least ``field + straight distance`` over the 3x3 cells around world point (x, z), metres."""
    rows, columns = field.shape
    column = int(np.floor((x - x0) / cell))
    row = int(np.floor((z - z0) / cell))
    best = np.inf
    for r in range(max(row - 1, 0), min(row + 2, rows)):
        for c in range(max(column - 1, 0), min(column + 2, columns)):
            if field[r, c] < np.inf:
                dx = x0 + (c + 0.5) * cell - x
                dz = z0 + (r + 0.5) * cell - z
                reach = field[r, c] + np.sqrt(dx * dx + dz * dz)
                if reach < best:
                    best = reach
    return best


@njit(cache=True)
def values_at(field: np.ndarray, cell: float, x0: float, z0: float, xz: np.ndarray) -> np.ndarray:
    """Return (M,) float64 of `value_at` for points ``xz`` (M, 2)."""
    out = np.empty(xz.shape[0])
    for i in range(xz.shape[0]):
        out[i] = value_at(field, cell, x0, z0, xz[i, 0], xz[i, 1])
    return out


@njit(cache=True)
def descend(field: np.ndarray, free: np.ndarray, r: int, c: int, cell: float, neighbours: int) -> np.ndarray:
    """Return (L, 2) int64 cells from (r, c) down ``field`` to a goal cell; a single cell when nothing is lower."""
    path = np.empty((field.size, 2), dtype=np.int64)
    length = 0
    while True:
        path[length, 0] = r
        path[length, 1] = c
        length += 1
        best = np.float32(np.inf)
        step = -1
        for m in range(neighbours):
            dr, dc = MOVES[m, 0], MOVES[m, 1]
            if move_is_free(free, r, c, dr, dc) and field[r + dr, c + dc] < field[r, c]:
                total = field[r + dr, c + dc] + np.float32(cell * np.sqrt(float(dr * dr + dc * dc)))
                if total < best:
                    best = total
                    step = m
        if step < 0 or best > field[r, c] + np.float32(1e-3):
            return path[:length].copy()
        r += MOVES[step, 0]
        c += MOVES[step, 1]
