"""Compiled hunt-and-kill mazes (numba). Imported by `labyrinth` only."""

from __future__ import annotations

import numpy as np
from numba import njit, uint64

FREE, WALL = 0, 1
_DR = np.array([-2, 2, 0, 0], dtype=np.int64)
_DC = np.array([0, 0, -2, 2], dtype=np.int64)


@njit(cache=True, nogil=True)
def _below(key: np.uint64, counter: int, n: int) -> int:
    """Return draw number ``counter`` of ``key`` in [0, n); the mixing function is that of `envs.rng`."""
    x = uint64(key) + (uint64(counter) + uint64(1)) * uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> uint64(27))) * uint64(0x94D049BB133111EB)
    x = x ^ (x >> uint64(31))
    return int(((x >> uint64(32)) * uint64(n)) >> uint64(32))


@njit(cache=True, nogil=True)
def _open_neighbours(grid: np.ndarray, row: int, column: int, found: np.ndarray) -> int:
    """Write the directions in which a walled-in cell lies two squares away into ``found`` (4,); return their number."""
    size, count = grid.shape[0], 0
    for direction in range(4):
        r, c = row + _DR[direction], column + _DC[direction]
        if 0 < r < size and 0 < c < size and grid[r, c] == WALL:
            found[count] = direction
            count += 1
    return count


@njit(cache=True, nogil=True)
def carve(keys: np.ndarray, grids: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> None:
    """Write one maze per key (M,) uint64 into ``grids`` (M, G, G) int8, G odd, with entrances (M, 2) int64.

    Random walks open the walls between cells (squares of odd row and column) until every cell is open: the open squares
    form a tree. Start and end are squares of opposite outer walls, one step outside of a cell; they stay walls here.
    """
    found = np.empty(4, dtype=np.int64)
    for m in range(len(keys)):
        key, grid, draw = keys[m], grids[m], 0
        size = grid.shape[0]
        cells = size // 2
        grid[:] = WALL
        row, column = 2 * _below(key, 0, cells) + 1, 2 * _below(key, 1, cells) + 1
        grid[row, column] = FREE
        draw, left = 2, cells * cells - 1
        while left > 0:
            count = _open_neighbours(grid, row, column, found)
            if count > 0:
                direction = found[_below(key, draw, count)]
                draw += 1
                grid[row + _DR[direction] // 2, column + _DC[direction] // 2] = FREE
                row += _DR[direction]
                column += _DC[direction]
                grid[row, column] = FREE
                left -= 1
            else:
                # Hunt: any open cell may begin the next walk.
                row, column = 2 * _below(key, draw, cells) + 1, 2 * _below(key, draw + 1, cells) + 1
                draw += 2
                while grid[row, column] == WALL:
                    row, column = 2 * _below(key, draw, cells) + 1, 2 * _below(key, draw + 1, cells) + 1
                    draw += 2
        side = _below(key, draw, 4)
        first, second = 2 * _below(key, draw + 1, cells) + 1, 2 * _below(key, draw + 2, cells) + 1
        near, far = (0, size - 1) if side % 2 == 0 else (size - 1, 0)
        if side < 2:
            starts[m, 0], starts[m, 1], ends[m, 0], ends[m, 1] = near, first, far, second
        else:
            starts[m, 0], starts[m, 1], ends[m, 0], ends[m, 1] = first, near, second, far
