"""One copy of a foreign environment that survives its own failures, so that one crash does not cost its neighbours."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gymnasium

logger = logging.getLogger(__name__)

MAX_FAILURES = 3
"""Failures in a row, without a good step between them, after which the error is passed on."""


class RestartingEnv(gymnasium.Env):
    """Makes its environment anew when `step` or `reset` raises.

    The episode under way ends truncated with its last observation, reward 0 and ``info["env_failure"] = 1``, so
    learners bootstrap there as at any truncation. A hang is no exception and is not noticed.

    Args:
        make: returns a new environment.
    """

    def __init__(self, make: Callable[[], gymnasium.Env]) -> None:
        self._make = make
        self.env = make()
        self.observation_space = self.env.observation_space
        self.action_space = self.env.action_space
        self.metadata = self.env.metadata
        self.spec = self.env.spec
        self.render_mode = self.env.render_mode
        self._last: Any = None
        self._failures = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset, on a new environment where the old one fails."""
        while True:
            try:
                self._last, info = self.env.reset(seed=seed, options=options)
                return self._last, info
            except Exception as error:
                self._renew(error)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step; a failure ends the episode truncated."""
        try:
            self._last, reward, terminated, truncated, info = self.env.step(action)
        except Exception as error:
            self._renew(error)
            return self._last, 0.0, False, True, {"env_failure": 1}
        self._failures = 0
        return self._last, float(reward), terminated, truncated, info

    def render(self) -> Any:
        """Render the present environment."""
        return self.env.render()

    def close(self) -> None:
        """Close the present environment."""
        self.env.close()

    def _renew(self, error: Exception) -> None:
        self._failures += 1
        if self._failures > MAX_FAILURES:
            raise error
        logger.warning("environment failed (%d in a row) and is made anew: %r", self._failures, error)
        try:
            self.env.close()
        except Exception as closing:
            logger.warning("closing the failed environment failed too: %r", closing)
        self.env = self._make()
