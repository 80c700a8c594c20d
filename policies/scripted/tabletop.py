"""Tabletop agents: the expert, which demonstrations are generated with, and the best that can be done without memory.

Both move alike, by waypoints. The expert does what is right. The memoryless oracle knows the whole scene, the rules and
its own deeds, but not what was shown: of what it cannot rule out it picks at random, once per sub-goal. A task in which
it does better than chance gives its answer away.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from embodied_mem.envs import rng
from embodied_mem.errors import UsageError
from embodied_mem.policies.scripted import _reach
from embodied_mem.registry import register

TASKS = tuple(
    f"embodied_mem/Tabletop-{name}-v0"
    for name in (
        "RememberColor3",
        "RememberColor5",
        "RememberColor9",
        "RememberShape",
        "ShellGame",
        "Intercept",
        "SequencePress",
        "CountPress",
        "ReopenDrawer",
        "PutBlockBack",
        "RearrangeBlock",
        "ReturnToStart",
    )
)


class _Mover(ABC):
    """Follows plans of waypoints; a subclass says which thing is done."""

    needs_privileged = True

    def initial_state(self, n: int, seed: int | None = None) -> dict[str, np.ndarray]:
        """Return the state of ``n`` rows."""
        return {
            **_reach.initial(n),
            "last": np.zeros(n, np.int64),
            "picked": np.zeros(n, np.int64),
            "picked_for": np.full(n, -1, np.int64),
            "key": rng.seed_keys(np.arange(n, dtype=np.uint64) + np.uint64(seed or 0)),
            "draws": np.zeros(n, np.int64),
        }

    def act(
        self,
        obs: Any,
        state: dict[str, np.ndarray],
        reset: np.ndarray,
        privileged: Mapping[str, np.ndarray] | None = None,
    ) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, Any]]:
        """Return actions (B, 7) float32.

        Raises:
            UsageError: ``privileged`` was not given, or is not that of a tabletop environment.
        """
        if privileged is None or "deed" not in privileged:
            got = None if privileged is None else sorted(privileged)
            raise UsageError(f"{type(self).__name__} needs privileged=env.privileged() of a tabletop task, got {got}")
        state = {name: value.copy() for name, value in state.items()}
        chosen = self._choose(privileged, state, reset)
        return _reach.follow(privileged, state, reset, chosen), state, {}

    @abstractmethod
    def _choose(self, facts: Mapping[str, np.ndarray], state: dict[str, np.ndarray], reset: np.ndarray) -> np.ndarray:
        """Return (B,) which of the things that could be done is done."""


@register(
    "agent",
    "tabletop-expert",
    oracle_for=TASKS,
    expert_for=TASKS,
    about="tabletop: does what is right, by waypoints",
)
class TabletopExpert(_Mover):
    """Knows the answer."""

    def _choose(self, facts: Mapping[str, np.ndarray], state: dict[str, np.ndarray], reset: np.ndarray) -> np.ndarray:
        return facts["right"]


@register(
    "agent",
    "tabletop-memoryless",
    memoryless_for=TASKS,
    about="tabletop: knows the scene and its own deeds, but not what was shown",
)
class TabletopMemoryless(_Mover):
    """Picks at random among what it cannot rule out, anew for every sub-goal."""

    def _choose(self, facts: Mapping[str, np.ndarray], state: dict[str, np.ndarray], reset: np.ndarray) -> np.ndarray:
        state["picked_for"][reset] = -1
        due = facts["deed"] != state["picked_for"]
        things = np.arange(facts["allowed"].shape[1])
        draws = rng.uniform(state["key"][:, None], 0, state["draws"][:, None] * len(things) + things)
        draws = np.where(facts["allowed"], draws, -1.0)
        state["draws"] += due
        state["picked"][due] = draws.argmax(axis=1)[due]
        state["picked_for"][due] = facts["deed"][due]
        return state["picked"]
