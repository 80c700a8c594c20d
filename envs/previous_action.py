"""The action just played as an observation: without it a memory cannot know what it chose, only what it saw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from embodied_mem.envs.autoreset import mode_of
from embodied_mem.errors import UsageError
from embodied_mem.spaces import as_dict_obs, as_dict_space

ENTRY = "previous_action"


class PreviousAction(VectorWrapper):
    """Add the entry ``previous_action`` to the observations of any vector environment.

    It is (F,) float32: one-hot for Discrete and MultiDiscrete actions, the values of a Box; zero at the first step of
    an episode. The other observations take their Dict form (`embodied_mem.spaces.as_dict_space`).
    """

    def __init__(self, env: VectorEnv) -> None:
        """Wrap ``env``.

        Raises:
            UsageError: its autoreset mode is SAME_STEP, it already has such an entry, or its actions have no flat form.
        """
        self._mode = mode_of(env)
        if self._mode is AutoresetMode.SAME_STEP:
            raise UsageError("expected an environment in NEXT_STEP or DISABLED mode for previous_action, got SAME_STEP")
        super().__init__(env)
        self._space, self._actions = env.single_observation_space, env.single_action_space
        shown = as_dict_space(self._space)
        if ENTRY in shown.spaces:
            raise UsageError(f"the environment already observes {ENTRY!r}")
        entry = as_dict_space(spaces.Dict({ENTRY: self._actions}))[ENTRY]
        self.single_observation_space = spaces.Dict({**shown.spaces, ENTRY: entry})
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self._width = int(np.prod(entry.shape or ()))
        self._done = np.zeros(env.num_envs, dtype=bool)
        self._last = np.zeros((env.num_envs, self._width), dtype=np.float32)

    def reset(self, *, seed: Any = None, options: Mapping[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset all rows, or those of ``reset_mask``; their previous action is zero."""
        observed, info = self.env.reset(seed=seed, options=None if options is None else dict(options))
        opened = (options or {}).get("reset_mask", True)
        self._last = np.where(np.reshape(opened, (-1, 1)), np.float32(0), self._last)
        self._done &= ~np.asarray(opened)
        return self._with(observed), info

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step all rows and show each the action it was given; rows whose step was a reset see zero."""
        observed, reward, terminated, truncated, info = self.env.step(actions)
        taken = as_dict_obs(spaces.Dict({ENTRY: self._actions}), {ENTRY: np.asarray(actions)})[ENTRY]
        # NEXT_STEP: the row began an episode; DISABLED: it stays as it was
        idle = np.float32(0) if self._mode is AutoresetMode.NEXT_STEP else self._last
        taken = taken.reshape(self.num_envs, self._width).astype(np.float32)
        self._last = np.where(self._done[:, None], idle, taken)
        self._done = terminated | truncated
        return self._with(observed), reward, terminated, truncated, info

    def _with(self, observed: Any) -> dict[str, np.ndarray]:
        return {**as_dict_obs(self._space, observed), ENTRY: self._last}


def with_previous_action(env: VectorEnv, wanted: Any) -> gymnasium.vector.VectorEnv:
    """Return ``env``, wrapped if ``wanted``; raises UsageError unless that is True or False."""
    if not isinstance(wanted, bool):
        raise UsageError(f"expected previous_action to be true or false, got {wanted!r}")
    return PreviousAction(env) if wanted else env
