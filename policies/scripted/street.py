"""Scripted walkers of the street environment: floors (stop, forward, random) and oracles (teachers).

They read ``env.privileged()``. Numbers beside them in tables are those of published baselines of the same name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from embodied_mem.errors import UsageError
from embodied_mem.registry import register

FORWARD, LEFT, RIGHT, STOP, TURN_AROUND = range(5)
ENV = "embodied_mem/Street-v0"
ENOUGH = 40
"""Panoramas after which the walkers that count them stop."""

Facts = Mapping[str, np.ndarray]


class Walker(ABC):
    """Base: a reaction to the privileged facts, without a state of its own."""

    needs_privileged = True

    def initial_state(self, n: int, seed: int | None = None) -> dict[str, Any]:
        """Return an empty state and restart the draws."""
        self._rng = np.random.default_rng(seed)
        return {}

    def act(
        self, obs: Any, state: Any, reset: np.ndarray, privileged: Facts | None = None
    ) -> tuple[np.ndarray, Any, dict[str, Any]]:
        """Return actions (B,) int64.

        Raises:
            UsageError: ``privileged`` was not given, or is not that of the street environment.
        """
        if privileged is None or "street_pano" not in privileged:
            raise UsageError(f"{type(self).__name__} plays {ENV} and needs privileged=env.privileged()")
        return self.choose(privileged), state, {}

    @abstractmethod
    def choose(self, facts: Facts) -> np.ndarray:
        """Return the actions (B,) int64 given the privileged facts."""


@register("agent", "stop", about="street: stops at once")
class StopAgent(Walker):
    """The floor of every street table."""

    def choose(self, facts: Facts) -> np.ndarray:
        """Return STOP everywhere."""
        return np.full(len(facts["street_pano"]), STOP, np.int64)


@register("agent", "forward", about="street: always forward")
class ForwardAgent(Walker):
    """Follows the street until it is cut."""

    def choose(self, facts: Facts) -> np.ndarray:
        """Return FORWARD everywhere."""
        return np.full(len(facts["street_pano"]), FORWARD, np.int64)


@register("agent", "forward40", about="street: forward until 40 panoramas, then stop")
class Forward40Agent(Walker):
    """Follows the street for the length of a usual route."""

    def choose(self, facts: Facts) -> np.ndarray:
        """Return STOP where the path has 40 panoramas, else FORWARD."""
        return np.where(facts["street_visited"] >= ENOUGH, STOP, FORWARD).astype(np.int64)


@register("agent", "random4", about="street: uniform over forward, left, right, stop")
class Random4Agent(Walker):
    """Stops after four actions on average."""

    def choose(self, facts: Facts) -> np.ndarray:
        """Return one draw per row."""
        return self._rng.integers(0, 4, len(facts["street_pano"]))


@register("agent", "random3", about="street: uniform over forward, left, right")
class Random3Agent(Walker):
    """Wanders until it is cut."""

    def choose(self, facts: Facts) -> np.ndarray:
        """Return one draw per row."""
        return self._rng.integers(0, 3, len(facts["street_pano"]))


@register("agent", "junction_random", about="street: random moves at junctions, forward between, 40 panoramas")
class JunctionRandomAgent(Walker):
    """Draws from forward, left and right at every panorama of more than two links; stops after 40 panoramas.

    In the "velma" semantics it first draws whether to turn around, unless the episode began with a forced forward.
    """

    def __init__(self, env: VectorEnv | None = None) -> None:
        """Look at the rules of ``env``."""
        street = None if env is None else env.unwrapped
        self._turns_first = getattr(street, "semantics", "") == "velma" and getattr(street, "style", "") != "map2seq"

    def choose(self, facts: Facts) -> np.ndarray:
        """Return one action per row."""
        n = len(facts["street_pano"])
        drawn = self._rng.integers(0, 3, n)
        action = np.where(facts["street_degree"] > 2, drawn, FORWARD)
        if self._turns_first:
            opening = np.where(self._rng.integers(0, 2, n) == 0, FORWARD, TURN_AROUND)
            action = np.where(facts["street_step"] == 0, opening, action)
        return np.where(facts["street_visited"] >= ENOUGH, STOP, action).astype(np.int64)


@register("agent", "teacher", oracle_for=(ENV,), about="street: keeps to the annotated route")
class TeacherAgent(Walker):
    """Plays the teacher's action; off the route, where there is none, it stops."""

    def choose(self, facts: Facts) -> np.ndarray:
        """Return the teacher's actions."""
        return np.where(facts["street_teacher"] < 0, STOP, facts["street_teacher"])


@register("agent", "teacher_shortest", about="street: walks a shortest path to the goal")
class ShortestTeacherAgent:
    """The teacher on a shortest path from the start instead of the annotated route.

    Of several shortest paths it takes the one that a breadth-first search finds first, links in file order.
    """

    needs_privileged = True

    def __init__(self, env: VectorEnv) -> None:
        """Plan on the graph of ``env``.

        Raises:
            UsageError: it is not the street environment.
        """
        self._street: Any = env.unwrapped
        if not hasattr(self._street, "teacher"):
            raise UsageError(f"teacher_shortest plays {ENV}, got {env.unwrapped}")

    def initial_state(self, n: int, seed: int | None = None) -> dict[str, np.ndarray]:
        """Return routes of ``n`` rows, to be planned at their first step."""
        longest = self._street.data.route.shape[1]
        return {"route": np.full((n, longest), -1, np.int32), "length": np.zeros(n, np.int32)}

    def act(
        self, obs: Any, state: dict[str, np.ndarray], reset: np.ndarray, privileged: Facts | None = None
    ) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, Any]]:
        """Return the actions (B,) int64 that keep to the planned routes.

        Raises:
            UsageError: ``privileged`` was not given.
        """
        if privileged is None:
            raise UsageError("ShortestTeacherAgent needs privileged=env.privileged(), got None")
        state = {name: value.copy() for name, value in state.items()}
        for row in np.flatnonzero(reset | (state["length"] == 0)).tolist():
            here, goal = int(privileged["street_pano"][row]), int(privileged["street_goal"][row])
            route = self._street.graph.shortest_route(here, goal)[: state["route"].shape[1]]
            state["route"][row], state["length"][row] = -1, len(route)
            state["route"][row, : len(route)] = route
        action = self._street.teacher(state["route"], state["length"])
        return np.where(action < 0, STOP, action), state, {}


@register("agent", "replay", argument="FILE", about="street: plays the actions recorded in FILE (replay:FILE)")
class ReplayAgent(Walker):
    """Plays recorded rollouts: the file brings starts, routes and actions, see `envs.street.episodes`."""

    def __init__(self, argument: str) -> None:
        """Name the file.

        Raises:
            UsageError: no file is named.
        """
        if not argument:
            raise UsageError("expected a file of recorded rollouts, replay:FILE")

    @staticmethod
    def env_options(argument: str) -> dict[str, Any]:
        """Return what the environment is made with: the episodes of the file."""
        return {"data": argument}

    def choose(self, facts: Facts) -> np.ndarray:
        """Return the recorded actions.

        Raises:
            UsageError: the environment plays a file without recorded actions.
        """
        action = facts["street_recorded"]
        if (action < 0).any():
            raise UsageError("expected recorded actions (JSON lines with id, start, ref_path, actions), found none")
        return action
