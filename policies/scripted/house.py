"""Oracles of the House tasks: the shortest way to the goal over the actions there are, from ``env.privileged()``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from embodied_mem.geometry.grid import Grid
from embodied_mem.policies.scripted._navigator import Navigator, State, demand, grid_of
from embodied_mem.registry import register

MARGIN = 0.08
"""Metres kept from the limit of reach: a pose may lie anywhere in its cell."""
GOAL_TASKS = (
    "embodied_mem/House-ObjectNav-v0",
    "embodied_mem/House-MultiObjectNav-v0",
    "embodied_mem/House-InstructionFollowing-v0",
    "embodied_mem/House-HideAndRecall-v0",
    "embodied_mem/House-Rewrite-v0",
)


@register("agent", "house-oracle", oracle_for=GOAL_TASKS, about="shortest way to the goal of a House task")
class HouseOracle:
    """Walks the shortest way to where the goal can be reached, faces it and acts."""

    needs_privileged = True

    def __init__(self) -> None:
        self._navigator = Navigator()

    def initial_state(self, n: int, seed: int | None = None) -> State:
        """Return the state of ``n`` rows."""
        return self._navigator.initial_state(n)

    def act(
        self, obs: Any, state: State, reset: np.ndarray, privileged: Mapping[str, np.ndarray] | None = None
    ) -> tuple[np.ndarray, State, dict[str, Any]]:
        """Return the best actions (B,) int64.

        Raises:
            UsageError: ``privileged`` was not given.
        """
        facts = demand(privileged, self)
        actions, state = self._navigator.act(
            facts,
            state,
            reset,
            goal_of=lambda row: _goal_cells(facts, row),
            version=facts["goal_version"],
            target=facts["target"],
            ready=facts["ready"],
        )
        return actions, state, {}


def _goal_cells(facts: Mapping[str, np.ndarray], row: int) -> tuple[Grid, np.ndarray]:
    grid = grid_of(facts, row)
    costs = facts["goal_costs"][row, : grid.free.size].reshape(grid.free.shape)
    reached = np.isfinite(costs)
    if not reached.any():
        return grid, reached
    safe = costs <= float(costs[reached].max()) - MARGIN
    return grid, safe if safe.any() else reached


@register("agent", "house-tour-oracle", oracle_for=("embodied_mem/House-Tour-v0",), about="watches the tour")
class TourOracle:
    """Plays the only action there is."""

    needs_privileged = False

    def initial_state(self, n: int, seed: int | None = None) -> dict[str, Any]:
        """Return an empty state."""
        return {}

    def act(
        self, obs: Any, state: Any, reset: np.ndarray, privileged: Mapping[str, np.ndarray] | None = None
    ) -> tuple[np.ndarray, Any, dict[str, Any]]:
        """Return action 0 for every row of ``reset`` (B,)."""
        return np.zeros(len(reset), np.int64), state, {}
