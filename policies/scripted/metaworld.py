"""``metaworld-expert``: the scripted policies that Meta-World brings, which know the goal where it is hidden."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from embodied_mem.errors import UsageError
from embodied_mem.registry import register

ENV = ("embodied_mem/MetaWorld-v0",)


@register(
    "agent",
    "metaworld-expert",
    oracle_for=ENV,
    expert_for=ENV,
    about="Meta-World: the package's own scripted policy of the task",
)
class MetaWorldExpert:
    """Plays the policy of the environment's task, one instance per row."""

    needs_privileged = True

    def __init__(self, env: VectorEnv) -> None:
        """Find the policy.

        Raises:
            UsageError: the environment is no Meta-World task, or the package is missing.
        """
        task = getattr(env.unwrapped, "task", None)
        try:
            from metaworld.policies import ENV_POLICY_MAP
        except ModuleNotFoundError as error:
            raise UsageError(
                f"the expert needs the package {error.name!r}: pip install 'embodied-mem[envs-mujoco]'"
            ) from error
        if task not in ENV_POLICY_MAP:
            raise UsageError(f"expected an environment of Meta-World, got {env.unwrapped} with task {task!r}")
        policy: Callable[[], Any] = ENV_POLICY_MAP[task]
        self._policies = [policy() for _ in range(env.num_envs)]

    def initial_state(self, n: int, seed: int | None = None) -> dict[str, Any]:
        """Return an empty state: the policies look at the present only."""
        return {}

    def act(
        self, obs: Any, state: Any, reset: np.ndarray, privileged: Mapping[str, np.ndarray] | None = None
    ) -> tuple[np.ndarray, Any, dict[str, Any]]:
        """Return actions (B, 4) float32, cut to [-1, 1] as the environment would do.

        Raises:
            UsageError: ``privileged`` is not that of a Meta-World environment.
        """
        if privileged is None or "observation" not in privileged:
            raise UsageError("metaworld-expert needs privileged=env.privileged() of a Meta-World environment")
        made = [policy.get_action(seen) for policy, seen in zip(self._policies, privileged["observation"])]
        return np.clip(np.asarray(made, np.float32), -1.0, 1.0), state, {}
