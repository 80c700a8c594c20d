"""Random play: uniform draws from the action space, the floor of every table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector.utils import batch_space

from embodied_mem.registry import register


@register("agent", "random", about="uniform draws from the action space")
class RandomAgent:
    """Draws actions (B, ...) from the action space, whatever it observes."""

    needs_privileged = False

    def __init__(self, action_space: gymnasium.Space, seed: int = 0) -> None:
        """Play in ``action_space`` (of one environment); ``seed`` is that of the draws until `initial_state` gives
        one.
        """
        self.action_space = action_space
        self._seed = seed
        self._batched: tuple[int, gymnasium.Space] | None = None

    def initial_state(self, n: int, seed: int | None = None) -> dict[str, Any]:
        """Return an empty state and restart the draws."""
        self._seed = self._seed if seed is None else seed
        self._batched = None
        return {}

    def act(
        self, obs: Any, state: Any, reset: np.ndarray, privileged: Mapping[str, np.ndarray] | None = None
    ) -> tuple[np.ndarray, Any, dict[str, Any]]:
        """Return one draw per row of ``reset`` (B,), the state as it was, and an empty info."""
        n = len(reset)
        if self._batched is None or self._batched[0] != n:
            space = batch_space(self.action_space, n)
            space.seed(self._seed)
            self._batched = (n, space)
        return self._batched[1].sample(), state, {}
