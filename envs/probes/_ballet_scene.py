"""What Ballet shows: the dances as offsets, the looks of the dancers, and the compiled renderer of the picture."""

from __future__ import annotations

import numba
import numpy as np

CELL = 9
GRID = 11
VIEW = CELL * GRID
"""Pixels per cell, cells of the map and of the view, pixels of the picture."""

MOVES = {
    "N": (-1, 0),
    "NE": (-1, 1),
    "E": (0, 1),
    "SE": (1, 1),
    "S": (1, 0),
    "SW": (1, -1),
    "W": (0, -1),
    "NW": (-1, -1),
}
"""The eight moves in the order of the actions, as (row, column)."""

_CIRCLE = "N E S S W W N N E E S S W W N E"
_CHEVRON = "NW S SE NE N SW NE SW NE S SW NW N SE NW SE"
_HALF_TURN = {"N": "S", "S": "N", "E": "W", "W": "E"}


def _swap(steps: str, pairs: dict[str, str]) -> str:
    return "".join(pairs.get(letter, letter) for letter in steps)


DANCES = {
    "circle_cw": _CIRCLE,
    "circle_ccw": _swap(_CIRCLE, {"E": "W", "W": "E"}),
    "up_and_down": "N S S N " * 4,
    "left_and_right": "E W W E " * 4,
    "diagonal_uldr": "NW SE SE NW " * 4,
    "diagonal_urdl": "NE SW SW NE " * 4,
    "plus_cw": "N S E W S N W E " * 2,
    "plus_ccw": "N S W E S N E W " * 2,
    "times_cw": "NE SW SE NW SW NE NW SE " * 2,
    "times_ccw": "NW SE SW NE SE NW NE SW " * 2,
    "zee": "NE W W E E SW NE SW SW E E W W NE SW NE",
    "chevron_down": _CHEVRON,
    "chevron_up": _swap(_CHEVRON, _HALF_TURN),
}
"""The 13 dances, each of 16 moves."""

DANCE_STEPS = 16


def dance_offsets() -> np.ndarray:
    """Return (13, 17, 2) int64: (row, column) from the dancer's spot after 0 .. 16 moves of every dance."""
    steps = np.array([[MOVES[move] for move in dance.split()] for dance in DANCES.values()])
    return np.concatenate([np.zeros((len(DANCES), 1, 2), dtype=np.int64), np.cumsum(steps, axis=1)], axis=1)


def shapes() -> np.ndarray:
    """Return (15, 9, 9) bool: where a dancer of each shape is coloured."""
    y, x = np.mgrid[-4:5, -4:5]
    ay, ax, square, diamond, disc = abs(y), abs(x), np.maximum(abs(y), abs(x)), abs(y) + abs(x), y * y + x * x
    drawn = [
        square <= 3,
        (square <= 4) & (square >= 3),
        disc <= 16,
        (disc <= 18) & (disc >= 8),
        diamond <= 4,
        (diamond <= 4) & (diamond >= 3),
        (ay <= 1) | (ax <= 1),
        abs(ay - ax) <= 1,
        2 * ax <= y + 4,
        2 * ax <= 4 - y,
        ay <= 1,
        ax <= 1,
        ax <= ay,
        ay <= ax,
        (y + x) % 2 == 0,
    ]
    return np.stack(drawn)


def colours() -> np.ndarray:
    """Return (19, 3) uint8: the colours of the dancers, none of them black, white or the grey of the wall."""
    ring = [(255, 0, 0), (255, 128, 0), (255, 255, 0), (128, 255, 0), (0, 255, 0), (0, 255, 128), (0, 255, 255)]
    ring += [(0, 128, 255), (0, 0, 255), (128, 0, 255), (255, 0, 255), (255, 0, 128)]
    muted = [(128, 0, 0), (128, 128, 0), (0, 128, 0), (0, 128, 128), (80, 80, 160), (128, 0, 128), (160, 160, 160)]
    return np.array(ring + muted, dtype=np.uint8)


def backdrop() -> np.ndarray:
    """Return (189, 567) uint8: map and black surroundings in pixels, channels last in a row; a view is a part of it."""
    cells = np.zeros((2 * GRID - 1, 2 * GRID - 1), dtype=np.uint8)
    edge = GRID // 2
    inner = cells[edge : edge + GRID, edge : edge + GRID]
    inner[[0, -1]] = 40
    inner[:, [0, -1]] = 40
    return np.repeat(np.repeat(cells, CELL, axis=0), 3 * CELL, axis=1)


@numba.njit(cache=True, nogil=True)
def render(
    out: np.ndarray,
    scene: np.ndarray,
    masks: np.ndarray,
    palette: np.ndarray,
    agent: np.ndarray,
    spot: np.ndarray,
    offset: np.ndarray,
    dancing: np.ndarray,
    shape: np.ndarray,
    colour: np.ndarray,
    count: np.ndarray,
) -> None:
    """Draw every row's view, the agent in its middle.

    Args:
        out: (N, 99, 297) uint8, written.
        scene: (189, 567) uint8, see `backdrop`.
        masks: (15, 9, 9) bool.
        palette: (19, 3) uint8.
        agent: (N, 2) int64, its cell (row, column).
        spot: (N, 8, 2) int64, cells of the dancers.
        offset: (N, 2) int64, where the dancing one stands beside its spot.
        dancing: (N,) int64, which one dances, -1 for none.
        shape: (N, 8) int64.
        colour: (N, 8) int64.
        count: (N,) int64, number of dancers.
    """
    middle = GRID // 2 * CELL
    for i in range(out.shape[0]):
        top, left = agent[i, 0] * CELL, agent[i, 1] * CELL * 3
        for y in range(VIEW):
            line, source = out[i, y], scene[top + y, left : left + 3 * VIEW]
            for x in range(3 * VIEW):
                line[x] = source[x]
        for k in range(count[i]):
            row, column = spot[i, k, 0], spot[i, k, 1]
            if k == dancing[i]:
                row += offset[i, 0]
                column += offset[i, 1]
            # A view holds the cells at most five away from the agent.
            y0 = (row - agent[i, 0]) * CELL + middle
            x0 = (column - agent[i, 1]) * CELL + middle
            if y0 < 0 or x0 < 0 or y0 >= VIEW or x0 >= VIEW:
                continue
            for y in range(CELL):
                for x in range(CELL):
                    if masks[shape[i, k], y, x]:
                        for c in range(3):
                            out[i, y0 + y, 3 * (x0 + x) + c] = palette[colour[i, k], c]
        out[i, middle : middle + CELL, 3 * middle : 3 * (middle + CELL)] = 255
