"""Oracles of the probes: they read the hidden state and always earn the best return, 1."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.registry import register

RIGHT, UP, LEFT, DOWN = range(4)


class ProbeOracle(ABC):
    """Base: a reaction to the privileged state, without a state of its own."""

    needs_privileged = True

    def initial_state(self, n: int, seed: int | None = None) -> dict[str, Any]:
        """Return an empty state."""
        return {}

    def act(
        self, obs: Any, state: Any, reset: np.ndarray, privileged: Mapping[str, np.ndarray] | None = None
    ) -> tuple[np.ndarray, Any, dict[str, Any]]:
        """Return the best action (B,) int64 of every row.

        Raises:
            UsageError: ``privileged`` was not given.
        """
        if privileged is None:
            raise UsageError(f"{type(self).__name__} needs privileged=env.privileged(), got None")
        return self.choose(privileged), state, {}

    @abstractmethod
    def choose(self, facts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the best actions (B,) int64 given the privileged state."""


@register("agent", "tmaze-oracle", oracle_for=("embodied_mem/TMaze-v0",), about="best play of the T-Maze")
class TMazeOracle(ProbeOracle):
    """Fetches the cue where it was not shown yet, walks to the junction, takes the arm of the cue."""

    def choose(self, facts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return LEFT before the cue was shown, UP or DOWN at the junction, else RIGHT."""
        arm = np.where(facts["tmaze_goal"] > 0, UP, DOWN)
        walk = np.where(facts["tmaze_cue_shown"], RIGHT, LEFT)
        return np.where(facts["tmaze_x"] == facts["tmaze_junction"], arm, walk)


@register(
    "agent",
    "repeat-oracle",
    oracle_for=("embodied_mem/RepeatPrevious-v0", "embodied_mem/RepeatFirst-v0"),
    about="best play of RepeatPrevious and RepeatFirst",
)
class RepeatOracle(ProbeOracle):
    """Names the suit that is asked for."""

    def choose(self, facts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the target suit, 0 where nothing is asked yet."""
        return np.maximum(facts["suit_target"], 0)
