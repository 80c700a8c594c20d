"""Battleship: sink hidden ships, hearing only hit or miss (POPGym's rules).

Easy, medium, hard: boards of 8 x 8, 10 x 10, 12 x 12 cells with four ships of 2, 3, 3 and 4 cells. Ships are placed one
after another, each evenly over the places along a row or a column that are still free. Observation: Discrete(2), 1 if
the last shot hit a ship's cell for the first time, 0 otherwise and at first; where it went, the agent must remember.
Action: MultiDiscrete, [row, column]. With S = 12 ship cells on n cells a hit earns 1 / S, any other shot costs
1 / (n - S): shooting every cell once earns 0. The episode terminates with the last hit and is truncated after n shots.

Correlation horizon: the whole episode, up to n steps. An oracle that sees the board earns 1. Memoryless: shots drawn
from one distribution q over the cells; a cell that holds a ship with chance P is hit with chance P (1 - (1 - q)^n), and
the sum is greatest where P (1 - q)^(n - 1) is the same in all cells: -0.435, -0.404, -0.389 (test). A search over
distributions that depend on the last result found nothing better.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from embodied_mem.envs import rng
from embodied_mem.envs.base import BatchedEnv, SingleEnv
from embodied_mem.envs.probes.cards import level

LEVELS = {"easy": 8, "medium": 10, "hard": 12}
SHIPS = (2, 3, 3, 4)


class BatchedBattleship(BatchedEnv):
    """N boards."""

    fresh = True

    def __init__(self, num_envs: int = 1, *, difficulty: str = "easy", **kwargs: Any) -> None:
        """Set up N boards at ``difficulty`` easy, medium or hard; ``kwargs`` as in `BatchedEnv`."""
        self.size = level(difficulty, LEVELS)
        self.difficulty = difficulty
        self.single_observation_space = spaces.Discrete(2)
        self.single_action_space = spaces.MultiDiscrete([self.size, self.size])
        super().__init__(num_envs, **kwargs)
        n = self.num_envs
        self.cells, self.ship_cells = self.size**2, sum(SHIPS)
        self._places = {length: places(self.size, length) for length in set(SHIPS)}
        self._gain, self._cost = np.float32(1.0 / self.ship_cells), np.float32(1.0 / (self.cells - self.ship_cells))
        self._board = np.zeros((n, self.cells), dtype=bool)
        self._shot = np.zeros((n, self.cells), dtype=bool)
        self._hit = np.zeros(n, dtype=bool)
        self._hits = np.zeros(n, dtype=np.int64)
        self._t = np.zeros(n, dtype=np.int64)
        self._offset = np.arange(n, dtype=np.int64) * self.cells

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        board = np.zeros((len(rows), self.cells), dtype=bool)
        every = np.arange(len(rows))
        for ship, length in enumerate(SHIPS):
            cells = self._places[length]
            free = ~board[:, cells].any(axis=2)
            # The k-th free place, k even below their number.
            rank = free.cumsum(axis=1)
            chosen = (rank > rng.integers(keys, ship, 0, rank[:, -1])[:, None]).argmax(axis=1)
            board[every[:, None], cells[chosen]] = True
        self._board[rows] = board
        self._shot[rows] = False
        self._hit[rows] = False
        self._hits[rows] = 0
        self._t[rows] = 0

    def _advance(self, actions: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        place = self._offset + actions[:, 0] * self.size + actions[:, 1]
        shot = self._shot.reshape(-1)
        hit = self._board.reshape(-1)[place] & ~shot[place]
        reward = np.where(hit, self._gain, -self._cost)
        if self.all_active:
            shot[place] = True
            self._hit = hit
            self._t += 1
        else:
            shot[place[active]] = True
            np.copyto(self._hit, hit, where=active)
            hit = hit & active
            reward *= active
            self._t += active
        self._hits += hit
        terminated, truncated = self._hits == self.ship_cells, self._t >= self.cells
        if not self.all_active:
            terminated &= active
            truncated &= active
        return reward, terminated, truncated

    def _observe(self) -> np.ndarray:
        return self._hit.astype(np.int64)

    def _final_info(self) -> dict[str, np.ndarray]:
        return {"success": self._hits == self.ship_cells, "accuracy": self._hits / self.ship_cells}

    def privileged(self) -> dict[str, np.ndarray]:
        """Return where ships lie and which cells have been shot at, each (N, size, size) bool."""
        shape = (self.num_envs, self.size, self.size)
        return {
            "battleship_board": self._board.reshape(shape).copy(),
            "battleship_shot": self._shot.reshape(shape).copy(),
        }


def places(size: int, length: int) -> np.ndarray:
    """Return the (P, length) int64 cells of every place that a ship of ``length`` cells can take on an empty board."""
    cells = np.arange(size * size).reshape(size, size)
    along = np.lib.stride_tricks.sliding_window_view(cells, length, axis=1).reshape(-1, length)
    down = np.lib.stride_tricks.sliding_window_view(cells, length, axis=0).reshape(-1, length)
    return np.concatenate((along, down))


class Battleship(SingleEnv):
    """N=1 view of `BatchedBattleship`."""

    batched = BatchedBattleship
