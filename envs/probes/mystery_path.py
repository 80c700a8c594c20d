"""Mystery Path: cross an invisible path; who falls off starts again and must remember where it went wrong.

Rules of Memory Gym's grid form (Pleines et al. 2023), own implementation (`free_mystery_path` moves freely). On a grid
of 7 x 7 an invisible path leads from the origin, shown, on one border to the goal, not shown, on the opposite one. The
step that leaves the path shows the fall (a red cross) and at the next one, whose action is ignored, the agent
stands on the origin again. Reaching the goal earns 1 and terminates; ``reward_progress`` is paid for every new farthest
cell of the path. Truncated after ``max_steps``. Paths are ours: from one line of cells across the way to the next they
shift by -2 to 2 cells, evenly (mirrored at the border), and never turn back.

Endless form (``EndlessMysteryPath-v0``): the path goes on to the right for ever. Every new farthest cell earns 0.1 and
nothing else is paid. Terminated where the agent falls before its farthest cell, or from that cell in the same direction
again (it forgot), or takes more than 20 steps, plus 3 for every cell it must walk again, without a new cell. These
conditions are in the spirit of the published ones; their exact form and numbers are ours.

Actions: 0 stay, 1 turn left, 2 turn right, 3 forward; the border stops the agent. Pixels: (84, 84, 3) uint8, 12 per
cell; the endless view goes with the agent. Vector: (10,) float32: row and column of the agent / 6 (endless: column /
100), heading one-hot (right, down, left, up), 1 where it has fallen, row and column of the origin / 6 (endless: column
0), and 1 in the endless form.

Correlation horizon: up to the whole episode, as what the first attempts found serves until the goal. Oracle 1; endless
0.1 per cell until the limit. The optimum without memory is not known; the best of a family of scripted policies, which
draw every move anew and drift away from the origin's side, scores what the registration says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from embodied_mem.envs import rng
from embodied_mem.envs.base import BatchedEnv, SingleEnv
from embodied_mem.envs.probes._board import paint
from embodied_mem.envs.probes.stream import whole
from embodied_mem.errors import UsageError

STAY, TURN_LEFT, TURN_RIGHT, FORWARD = range(4)
GRID = 7
TILE = 12
OBSERVATIONS = ("pixels", "vector")
_DR = np.array([0, 1, 0, -1])
_DC = np.array([1, 0, -1, 0])
_ENTRY, _SHIFT, _SIDE = range(3)
_LIGHT, _DARK, _ORIGIN, _AGENT, _CROSS = (
    np.array(colour, dtype=np.uint8)
    for colour in ((90, 90, 90), (60, 60, 60), (40, 110, 200), (250, 250, 250), (230, 40, 40))
)


class BatchedMysteryPath(BatchedEnv):
    """N boards. Inside, every path leads to the right; the finite form is turned by the side of its origin."""

    metadata = {"render_modes": ["rgb_array"]}
    fresh = True

    def __init__(
        self,
        num_envs: int = 1,
        *,
        endless: bool = False,
        obs: str = "pixels",
        max_steps: int = 128,
        reward_progress: float | None = None,
        **kwargs: Any,
    ) -> None:
        """Set up N boards.

        Args:
            num_envs: number of rows N.
            endless: the endless form.
            obs: "pixels" or "vector".
            max_steps: steps after which an episode is truncated, >= 1.
            reward_progress: reward of a new path cell; None: 0, endless 0.1.
            kwargs: see `BatchedEnv`.

        Raises:
            UsageError: a value is out of range.
        """
        if obs not in OBSERVATIONS:
            raise UsageError(f"expected obs 'pixels' or 'vector', got {obs!r}")
        self.endless, self.obs, self.max_steps = bool(endless), obs, whole("max_steps", max_steps, 1)
        self.reward_progress = float(reward_progress if reward_progress is not None else 0.1 if endless else 0.0)
        self.single_observation_space = self._vector_space()
        if obs == "pixels":
            self.single_observation_space = spaces.Box(0, 255, (GRID * TILE, GRID * TILE, 3), np.uint8)
        self.single_action_space = self._action_space()
        super().__init__(num_envs, **kwargs)
        n = self.num_envs
        # Where each path enters every column that can be reached, and one more.
        columns = (self.max_steps if self.endless else GRID) + 2
        self._path = np.zeros((n, columns), dtype=np.int64)
        self._offset = np.arange(n, dtype=np.int64) * columns
        self._row, self._column, self._heading, self._t, self._side = (np.zeros(n, dtype=np.int64) for _ in range(5))
        # Farthest path cell and how many lie up to it; where it fell there, as a set of headings; steps left.
        self._far_row, self._far_column, self._cells, self._falls, self._left = (
            np.zeros(n, dtype=np.int64) for _ in range(5)
        )
        self._fallen, self._success = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        self._looks = _draw()

    def _vector_space(self) -> spaces.Box:
        return spaces.Box(0.0, np.inf if self.endless else 1.0, (10,), np.float32)

    def _action_space(self) -> spaces.Space[Any]:
        return spaces.Discrete(4)

    def _entry(self, column: np.ndarray | int) -> np.ndarray:
        """Return the row in which each path comes into ``column`` (N,); where it leaves is the next one's entry."""
        return self._path.reshape(-1).take(self._offset + column)

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        columns = self._path.shape[1]
        shift = rng.integers(keys[:, None], _SHIFT, -2, 3, np.arange(columns))
        shift[:, 0] = rng.integers(keys, _ENTRY, 0, GRID)
        # A walk mirrored at rows 0 and 6 is a walk on the line folded up.
        folded = np.cumsum(shift, axis=1) % (2 * GRID - 2)
        self._path[rows] = np.minimum(folded, 2 * GRID - 2 - folded)
        start = self._path[rows, 0]
        self._row[rows] = self._far_row[rows] = start
        self._side[rows] = 0 if self.endless else rng.integers(keys, _SIDE, 0, 4)
        for item in (self._column, self._far_column, self._heading, self._t, self._falls, self._cells):
            item[rows] = 0
        self._left[rows] = 20
        self._fallen[rows] = self._success[rows] = False

    def _advance(self, actions: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        returns = self._fallen & active
        acts = active & ~self._fallen
        walks = self._move(actions, acts, returns)
        here, there = self._entry(self._column), self._entry(self._column + 1)
        on_path = (self._row >= np.minimum(here, there)) & (self._row <= np.maximum(here, there))
        falls = walks & ~on_path
        # Farther: in a later column, or in the same one nearer to where the path leaves it.
        onward = np.sign(self._entry(self._far_column + 1) - self._far_row)
        ahead = (self._column > self._far_column) | ((self._row - self._far_row) * onward > 0)
        new = walks & on_path & ahead & (self._column >= self._far_column)
        reward = new * np.float32(self.reward_progress)
        self._t += active
        self._left -= acts
        terminated = np.zeros(self.num_envs, dtype=bool)
        if self.endless:
            was_row, was_column = self._row - _DR[self._heading], self._column - _DC[self._heading]
            at_far = (was_row == self._far_row) & (was_column == self._far_column)
            again = (self._falls >> self._heading) & 1 == 1
            terminated = falls & (~at_far | again) | acts & ~new & (self._left <= 0)
            self._falls = np.where(falls, self._falls | 1 << self._heading, self._falls)
            self._falls[new] = 0
            self._left = np.where(new, 20, np.where(falls, 20 + 3 * self._cells, self._left))
        self._far_row = np.where(new, self._row, self._far_row)
        self._far_column = np.where(new, self._column, self._far_column)
        self._cells += new
        if not self.endless:
            won = walks & on_path & (self._column == GRID - 1) & (self._row == self._entry(GRID))
            reward = reward + won
            self._success |= won
            terminated = won
        self._fallen = np.where(active, falls, self._fallen)
        truncated = active & (self._t >= self.max_steps) & ~terminated
        if self.endless:
            self._success |= truncated
        return reward.astype(np.float32), terminated, truncated

    def _move(self, actions: np.ndarray, acts: np.ndarray, returns: np.ndarray) -> np.ndarray:
        """Move the agents of the rows that act, put those that return on the origin; return (N,) who walked."""
        turn = (actions == TURN_RIGHT).astype(np.int64) - (actions == TURN_LEFT)
        self._heading = (self._heading + turn * acts) & 3
        walks = acts & (actions == FORWARD)
        row, column = self._row + _DR[self._heading], self._column + _DC[self._heading]
        walks &= (row >= 0) & (row < GRID) & (column >= 0)
        if not self.endless:
            walks &= column < GRID
        self._row = np.where(returns, self._entry(0), np.where(walks, row, self._row))
        self._column = np.where(returns, 0, np.where(walks, column, self._column))
        return walks

    def _places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return cell of origin (N, 2), cell of agent (N, 2), heading (N,) and the columns passed (N,), as shown."""
        start = self._entry(0)
        passed = np.maximum(self._column - 3, 0) if self.endless else np.zeros_like(self._column)
        places = []
        for row, column in ((start, -passed), (self._row, self._column - passed)):
            for turns in range(1, 4):
                turned = self._side >= turns
                row, column = np.where(turned, column, row), np.where(turned, GRID - 1 - row, column)
            places.append(np.stack([row, column], axis=1))
        return places[0], places[1], (self._heading + self._side) & 3, passed

    def _observe(self) -> np.ndarray:
        if self.obs == "pixels":
            return self._pictures()
        origin, agent, heading, passed = self._places()
        out = np.zeros((self.num_envs, 10), dtype=np.float32)
        out[:, :2] = agent / np.float32(GRID - 1)
        out[np.arange(self.num_envs), 2 + heading] = 1
        out[:, 6] = self._fallen
        out[:, 7:9] = origin / np.float32(GRID - 1)
        if self.endless:
            out[:, 1], out[:, 8], out[:, 9] = self._column / np.float32(100), 0, 1
        return out

    def _pictures(self) -> np.ndarray:
        origin, agent, heading, passed = self._places()
        out = np.empty((self.num_envs, GRID * TILE, 3 * GRID * TILE), dtype=np.uint8)
        gone = ((origin < 0) | (origin >= GRID)).any(axis=1)
        kind = np.stack([np.where(gone, -1, 0), 1 + heading + 4 * self._fallen], axis=1)
        corner = np.stack([origin, agent], axis=1) * TILE
        floors, sprites = self._looks
        paint(out, floors, passed & 1, sprites, kind, corner)
        return out.reshape(self.num_envs, GRID * TILE, GRID * TILE, 3)

    def _render(self, row: int) -> np.ndarray:
        return self._pictures()[row]

    def _final_info(self) -> dict[str, np.ndarray]:
        return {"success": self._success, "cells": self._cells}

    def privileged(self) -> dict[str, np.ndarray]:
        """Return (N,) the heading that leads along the path from here, the agent's heading, and whether it has fallen.

        All in the frame in which the path leads to the right: 0 right, 1 down, 2 left, 3 up.
        """
        leave = self._entry(self._column + 1)
        along = np.where(leave == self._row, 0, np.where(leave > self._row, 1, 3))
        return {"path_onward": along, "path_heading": self._heading.copy(), "path_fallen": self._fallen.copy()}


class MysteryPath(SingleEnv):
    """N=1 view of `BatchedMysteryPath`."""

    batched = BatchedMysteryPath


def _draw() -> tuple[np.ndarray, np.ndarray]:
    """Return the floors (2, 84, 252) and the sprites (9, 12, 36): origin, agent by heading, agent fallen by heading."""
    cells = np.add.outer(np.arange(GRID), np.arange(GRID)) % 2
    floors = np.stack([np.where((cells == phase)[..., None], _LIGHT, _DARK) for phase in (0, 1)])
    floors = floors.repeat(TILE, axis=1).repeat(TILE, axis=2).reshape(2, GRID * TILE, 3 * GRID * TILE)
    y, x = np.mgrid[:TILE, :TILE] - (TILE - 1) / 2
    sprites = np.zeros((9, TILE, TILE, 3), dtype=np.uint8)
    sprites[0, 1:-1, 1:-1] = _ORIGIN
    for heading, (along, across) in enumerate(((x, y), (y, x), (-x, y), (-y, x))):
        arrow = (along >= -4) & (2 * abs(across) <= 4.6 - along)
        sprites[1 + heading, arrow] = sprites[5 + heading, arrow] = _AGENT
        sprites[5 + heading, abs(abs(x) - abs(y)) < 1.2] = _CROSS
    return np.ascontiguousarray(floors), sprites.reshape(9, TILE, 3 * TILE)
