"""Shortest ways over a discrete motion model: turns by a fixed angle and moves by a fixed length, as agents have them.

Positions are continuous (a move may end anywhere in a cell), so the search keeps the exact pose of every half cell it
reaches. Free cells say where an agent may stand, not whether every point of a move is clear: whoever plays the plan
checks each move and, where one turns out to be blocked, plans anew with that move ``barred``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embodied_mem.geometry.grid import Grid
from embodied_mem.geometry.paths import distance_field

MOVE, LEFT, RIGHT = 0, 1, 2
"""Codes of the actions of a plan."""


@dataclass(frozen=True)
class MotionModel:
    """How an agent moves, and what a plan avoids."""

    step: float = 0.25
    """Metres per move."""
    turn: float = 30.0
    """Degrees per turn."""
    turn_cost: float = 0.02
    """Metres that a turn is charged with."""
    tight_cost: float = 0.08
    """Metres that a move is charged with where it ends beside a blocked cell."""
    squeeze_cost: float = 0.5
    """The same where it ends on a blocked cell beside a free one, which is planned only where nothing else works."""
    greed: float = 1.05
    """Weight of the estimate of what is left; 1 finds the best way, more is faster."""

    @property
    def headings(self) -> int:
        """Number of headings of a full turn."""
        return max(1, round(360.0 / self.turn))


@dataclass(frozen=True)
class Ground:
    """A grid with goal cells, prepared for plans from anywhere."""

    grid: Grid
    """Free floor."""
    goal: np.ndarray
    """(R, C) bool cells that count as arrived."""
    field: np.ndarray
    """(R, C) float32 metres to the nearest goal cell."""
    wider: np.ndarray
    """(R, C) bool free cells and those beside them."""
    tight: np.ndarray
    """(R, C) bool free cells beside a blocked one."""


def prepare(grid: Grid, goal: np.ndarray) -> Ground:
    """Return the ground for plans to the cells of ``goal`` (R, C) bool."""
    goal = np.ascontiguousarray(goal & grid.free)
    return Ground(
        grid, goal, distance_field(grid, goal), _beside(grid.free, False), _beside(~grid.free, True) & grid.free
    )


def _beside(cells: np.ndarray, outside: bool) -> np.ndarray:
    """Return (R, C) bool: a cell or one of its eight neighbours is in ``cells``; ``outside`` says so of the border."""
    padded = np.pad(cells, 1, constant_values=outside)
    rows, columns = cells.shape
    return np.logical_or.reduce([padded[r : r + rows, c : c + columns] for r in range(3) for c in range(3)])


def plan_motion(
    ground: Ground,
    pose: np.ndarray,
    model: MotionModel | None = None,
    *,
    first: np.ndarray | None = None,
    barred: np.ndarray | None = None,
    limit: int = 1024,
) -> np.ndarray | None:
    """Return the actions (L,) int8 (`MOVE`, `LEFT`, `RIGHT`) to a goal cell, or None when there is no way.

    Args:
        ground: what `prepare` returns.
        pose: (3,) x, z metres, yaw radians.
        model: step, turn and costs.
        first: (H,) bool: whether the move after k right turns is possible here, where that is known.
        barred: (M,) int64 codes (`bar`) of moves known to fail.
        limit: longest plan; a longer one is cut.

    >>> goal = np.zeros((30, 30), bool)
    >>> goal[20, 10] = True
    >>> ground = prepare(Grid(np.ones((30, 30), bool), 0.1), goal)
    >>> plan_motion(ground, np.array([1.05, 1.05, 0.0])).tolist()
    [0, 0, 0, 0]
    """
    from embodied_mem.geometry import _motion_kernels

    model = model or MotionModel()
    grid, out = ground.grid, np.empty(limit, np.int8)
    possible = np.ones(model.headings, bool) if first is None else np.ascontiguousarray(first, bool)
    known = np.empty(0, np.int64) if barred is None else np.asarray(barred, np.int64)
    for free, narrow, cost in (
        (grid.free, ground.tight, model.tight_cost),
        (ground.wider, ground.wider & ~grid.free, model.squeeze_cost),
    ):
        length = _motion_kernels.search(
            free,
            narrow,
            ground.goal,
            ground.field,
            np.array([grid.x0, grid.z0, grid.cell]),
            np.asarray(pose, np.float64),
            float(model.step),
            float(np.radians(model.turn)),
            possible,
            known,
            np.array([model.turn_cost, cost, model.greed]),
            out,
        )
        if length >= 0:
            return out[:length].copy()
    return None


def bar(grid: Grid, pose: np.ndarray) -> int:
    """Return the code of the move ahead at a pose (3,) x, z, yaw (radians), for ``barred``."""
    from embodied_mem.geometry import _motion_kernels

    x, z, yaw = (float(value) for value in pose)
    return int(_motion_kernels.bar_code(x, z, yaw, np.array([grid.x0, grid.z0, grid.cell])))
