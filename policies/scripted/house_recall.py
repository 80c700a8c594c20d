"""The best that can be done in House's hiding tasks without memory of what was shown: both succeed in 1 of K episodes.

They know the map and where the containers stand, but not the answer. `MemorylessAgent` opens the container that it can
reach first. `PoseMemoryAgent` remembers its own poses and nothing else: it goes to the container that it was led to
last while it watched. A task in which either does better than chance gives its answer away.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from embodied_mem.geometry.grid import Grid
from embodied_mem.policies.scripted._navigator import Navigator, State, demand, grid_of
from embodied_mem.registry import register

NEAR = 1.35
"""Metres from the middle of a container within which it can be opened."""
WATCH = 0
"""Phase in which the agent is led about."""


class _Chooser(ABC):
    """Walks to one container and opens it; a subclass says which."""

    needs_privileged = True

    def __init__(self) -> None:
        self._navigator = Navigator()

    def initial_state(self, n: int, seed: int | None = None) -> State:
        """Return the state of ``n`` rows."""
        return {
            "chosen": np.full(n, -1, np.int64),
            "last": np.full((n, 2), np.nan),
            "picks": np.zeros(n, np.int64),
            **self._navigator.initial_state(n),
        }

    def act(
        self, obs: Any, state: State, reset: np.ndarray, privileged: Mapping[str, np.ndarray] | None = None
    ) -> tuple[np.ndarray, State, dict[str, Any]]:
        """Return actions (B,) int64.

        Raises:
            UsageError: ``privileged`` was not given.
        """
        facts, state = demand(privileged, self), {name: value.copy() for name, value in state.items()}
        state["chosen"][reset], state["last"][reset] = -1, np.nan
        here = facts["pose_world"][:, [0, 2]]
        watching = facts["phase"] == WATCH
        state["last"][watching] = here[watching]
        due = ~facts["idle"] & (state["chosen"] < 0)
        state["chosen"][due] = self._choose(facts, state)[due]
        state["picks"] += due
        rows = np.arange(len(here))
        place = facts["places"][rows, np.maximum(state["chosen"], 0)]
        own = {name: state[name] for name in self._navigator.initial_state(1)}
        actions, moved = self._navigator.act(
            facts,
            own,
            reset,
            goal_of=lambda row: _around(facts, row, place[row]),
            version=state["picks"],
            target=np.column_stack([place[:, 0], facts["pose_world"][:, 1] - 0.8, place[:, 1]]),
            ready=self._ready(facts, state),
        )
        return actions, {**state, **moved}, {}

    @abstractmethod
    def _choose(self, facts: Mapping[str, np.ndarray], state: State) -> np.ndarray:
        """Return (B,) the container that each row goes to."""

    @abstractmethod
    def _ready(self, facts: Mapping[str, np.ndarray], state: State) -> np.ndarray:
        """Return (B,) bool: OpenObject would open what is wanted."""


@register("agent", "house-memoryless", about="hiding tasks without memory: opens what it can reach first")
class MemorylessAgent(_Chooser):
    """Goes to the nearest container and opens whatever opens first."""

    def _choose(self, facts: Mapping[str, np.ndarray], state: State) -> np.ndarray:
        return _nearest(facts, facts["pose_world"][:, [0, 2]])

    def _ready(self, facts: Mapping[str, np.ndarray], state: State) -> np.ndarray:
        return facts["would_open"] >= 0


@register("agent", "house-pose-memory", about="hiding tasks with memory of its own poses only")
class PoseMemoryAgent(_Chooser):
    """Goes to the container before which it stood last while it watched."""

    def _choose(self, facts: Mapping[str, np.ndarray], state: State) -> np.ndarray:
        return _nearest(facts, np.where(np.isnan(state["last"]), facts["pose_world"][:, [0, 2]], state["last"]))

    def _ready(self, facts: Mapping[str, np.ndarray], state: State) -> np.ndarray:
        return (facts["would_open"] >= 0) & (facts["would_open"] == state["chosen"])


def _nearest(facts: Mapping[str, np.ndarray], xz: np.ndarray) -> np.ndarray:
    """Return (B,) the container nearest to points (B, 2)."""
    return np.hypot(*np.moveaxis(facts["places"] - xz[:, None], -1, 0)).argmin(1)


def _around(facts: Mapping[str, np.ndarray], row: int, place: np.ndarray) -> tuple[Grid, np.ndarray]:
    """Return the free floor of a row and its cells near a place (2,)."""
    grid = grid_of(facts, row)
    rows, columns = np.indices(grid.free.shape)
    centres = grid.centres_of(np.stack([rows, columns], axis=-1))
    return grid, grid.free & (np.hypot(*np.moveaxis(centres - place, -1, 0)) <= NEAR)
