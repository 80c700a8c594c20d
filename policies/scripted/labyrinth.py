"""Oracles of the labyrinths: the shortest way out, and the shortest walk through all squares of a tree."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.registry import register

WALL, START, GOAL = 1, 2, 3
FAR = np.iinfo(np.int32).max // 2
# Left, right, up, down as [rows, columns].
MOVES = np.array([[0, -1], [0, 1], [-1, 0], [1, 0]])

State = dict[str, np.ndarray]


class LabyrinthOracle(ABC):
    """Base: keeps one map of the maze per row, made at the start of its episode, and steps to the best neighbour."""

    needs_privileged = True

    def initial_state(self, n: int, seed: int | None = None) -> State:
        """Return a state without maps."""
        return {}

    def act(
        self, obs: Any, state: State, reset: np.ndarray, privileged: Mapping[str, np.ndarray] | None = None
    ) -> tuple[np.ndarray, State, dict[str, Any]]:
        """Return the best action (B,) int64 of every row.

        Raises:
            UsageError: ``privileged`` was not given.
        """
        if privileged is None:
            raise UsageError(f"{type(self).__name__} needs privileged=env.privileged(), got None")
        grid = np.pad(privileged["labyrinth_grid"], ((0, 0), (1, 1), (1, 1)), constant_values=WALL)
        rows = np.arange(len(grid)) if not state else np.flatnonzero(reset)
        if rows.size:
            fresh = self.map(grid[rows])
            state = {name: _replaced(state.get(name), rows, value, len(grid)) for name, value in fresh.items()}
        y, x = privileged["labyrinth_place"].T[:, :, None] + 1
        around = (np.arange(len(grid))[:, None], y + MOVES[:, 0], x + MOVES[:, 1])
        explored = np.pad(privileged["labyrinth_explored"], ((0, 0), (1, 1), (1, 1)))
        costs = self.costs({name: value[around] for name, value in state.items()}, explored[around])
        return np.where(grid[around] == WALL, FAR, costs).argmin(axis=1), state, {}

    @abstractmethod
    def map(self, grid: np.ndarray) -> State:
        """Return maps (M, G, G) of mazes (M, G, G)."""

    @abstractmethod
    def costs(self, maps: State, explored: np.ndarray) -> np.ndarray:
        """Return what each of the four neighbours costs (B, 4), given their map values and if they were visited."""


@register(
    "agent",
    "labyrinth-escape-oracle",
    oracle_for=("embodied_mem/LabyrinthEscape-v0",),
    about="takes the shortest way out of the labyrinth",
)
class LabyrinthEscapeOracle(LabyrinthOracle):
    """Steps to the neighbour nearest to the goal."""

    def map(self, grid: np.ndarray) -> State:
        """Return the number of steps to the goal from every square."""
        return {"distance": distances(grid != WALL, grid == GOAL)}

    def costs(self, maps: State, explored: np.ndarray) -> np.ndarray:
        """Return the distances."""
        return maps["distance"]


@register(
    "agent",
    "labyrinth-explore-oracle",
    oracle_for=("embodied_mem/LabyrinthExplore-v0",),
    about="walks through all of the labyrinth in the fewest steps",
)
class LabyrinthExploreOracle(LabyrinthOracle):
    """Visits the shallow branches first and the deepest last, so that the longest way back is never walked."""

    def map(self, grid: np.ndarray) -> State:
        """Return the steps from the start, and how deep the branch behind every square goes."""
        free = grid != WALL
        distance = distances(free, grid == START)
        depth = np.where(free, 0, -1)
        for far in range(int(distance[free].max()), 0, -1):
            # All squares this far hand the depth of their branch, plus one, to the square before them.
            behind = np.where(distance == far, depth + 1, 0)
            handed = _around(behind, 0).max(axis=0)
            depth = np.where(free & (distance == far - 1), np.maximum(depth, handed), depth)
        return {"distance": distance, "depth": depth}

    def costs(self, maps: State, explored: np.ndarray) -> np.ndarray:
        """Return the depth of branches that are new; where there are none, the way back is the one nearer to the start.

        A branch that was entered has been walked to its end, so the visited neighbour that leads back is the nearest.
        """
        return np.where(explored, FAR // 2 + maps["distance"].clip(max=FAR // 4), maps["depth"])


def distances(free: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Return the number of steps (M, G, G) int64 from the nearest ``source`` square over ``free`` ones, else FAR."""
    distance = np.where(source, 0, FAR)
    while True:
        nearer = np.minimum(distance, _around(distance, FAR).min(axis=0) + 1)
        nearer = np.where(free, nearer, FAR)
        if (nearer == distance).all():
            return distance
        distance = nearer


def _around(values: np.ndarray, rim: int) -> np.ndarray:
    """Return the four neighbours' values (4, M, G, G); ``rim`` outside."""
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1)), constant_values=rim)
    return np.stack((padded[:, 1:-1, :-2], padded[:, 1:-1, 2:], padded[:, :-2, 1:-1], padded[:, 2:, 1:-1]))


def _replaced(old: np.ndarray | None, rows: np.ndarray, value: np.ndarray, n: int) -> np.ndarray:
    new = np.zeros((n, *value.shape[1:]), dtype=value.dtype) if old is None else old.copy()
    new[rows] = value
    return new
