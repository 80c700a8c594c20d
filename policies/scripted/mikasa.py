"""MIKASA-Robo agents for RememberColor: the expert, and the best that can be done without memory of the cue.

Both move the hand straight to a point above a cube and rest there, which is what the task counts. The expert goes to
the cube of the cue. The memoryless oracle knows where all cubes stand but not which is meant: it goes to one after the
other, in an order drawn per episode, until the episode ends. What it scores above 1/K is what the task gives away.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from embodied_mem.envs import rng
from embodied_mem.errors import UsageError
from embodied_mem.registry import register

ENV = ("embodied_mem/MikasaRobo-v0",)
REACH = 0.1
"""Metres of a full deflection of an action."""
OVER = 0.03
"""Metres over the middle of a cube at which the hand rests; 0.05 from it counts."""
CLEAR = 0.05
"""Metres that the hand is higher on its way, so that it pushes no cube aside."""
NEAR, THERE = 0.04, 0.03
"""Metres in the plane within which the hand comes down, and from the resting point within which it has come."""
CLOSED = -1.0

State = dict[str, np.ndarray]


class _Hand(ABC):
    """Goes to the cubes of an order."""

    needs_privileged = True

    def __init__(self, env: VectorEnv) -> None:
        """Check the environment.

        Raises:
            UsageError: it is no RememberColor task of MIKASA-Robo, or joints are what its actions move.
        """
        task, control = (str(getattr(env.unwrapped, name, "")) for name in ("task", "control"))
        if not task.startswith("RememberColor") or control != "pd_ee_delta_pose":
            raise UsageError(
                "expected a RememberColor task of MIKASA-Robo with control 'pd_ee_delta_pose', "
                f"got {env.unwrapped} with task {task!r} and control {control!r}"
            )

    def initial_state(self, n: int, seed: int | None = None) -> State:
        """Return the state of ``n`` rows: which place of the order is gone to, and what orders are drawn from."""
        keys = rng.seed_keys(np.arange(n, dtype=np.uint64) + np.uint64(seed or 0))
        return {"place": np.zeros(n, np.int64), "key": keys, "episode": np.full(n, -1, np.int64)}

    def act(
        self, obs: Any, state: State, reset: np.ndarray, privileged: Mapping[str, np.ndarray] | None = None
    ) -> tuple[np.ndarray, State, dict[str, Any]]:
        """Return actions (B, 7) float32: x, y, z, three turns, gripper.

        Raises:
            UsageError: ``privileged`` is not that of a RememberColor task.
        """
        if privileged is None or "cubes" not in privileged:
            raise UsageError(f"{type(self).__name__} needs privileged=env.privileged() of a RememberColor task")
        state = {name: value.copy() for name, value in state.items()}
        state["place"][reset] = 0
        state["episode"] += reset
        order = self._order(privileged, state)
        cubes, tcp = privileged["cubes"], privileged["tcp"]
        rows = np.arange(len(tcp))
        rest = cubes[rows, order[rows, state["place"]]] + np.array([0.0, 0.0, OVER])
        come = (np.linalg.norm(rest - tcp, axis=1) < THERE) & privileged["still"] & ~privileged["waits"]
        # An episode that goes on although the hand rests here was not about this cube.
        state["place"] = np.minimum(state["place"] + come, order.shape[1] - 1)
        rest = cubes[rows, order[rows, state["place"]]] + np.array([0.0, 0.0, OVER])
        far = np.linalg.norm((rest - tcp)[:, :2], axis=1) > NEAR
        rest[:, 2] += CLEAR * far
        actions = np.zeros((len(tcp), 7), np.float32)
        actions[:, :3] = np.clip((rest - tcp) / REACH, -1.0, 1.0)
        actions[:, 6] = CLOSED
        actions[privileged["waits"]] = 0.0
        return actions, state, {}

    @abstractmethod
    def _order(self, facts: Mapping[str, np.ndarray], state: State) -> np.ndarray:
        """Return (B, K') which cubes are gone to, one after the other."""


@register(
    "agent", "mikasa-expert", oracle_for=ENV, expert_for=ENV, about="MIKASA-Robo RememberColor: goes to the right cube"
)
class MikasaExpert(_Hand):
    """Knows which cube is meant."""

    def _order(self, facts: Mapping[str, np.ndarray], state: State) -> np.ndarray:
        return facts["oracle_info"].astype(np.int64)[:, :1]


@register(
    "agent",
    "mikasa-memoryless",
    memoryless_for=ENV,
    about="MIKASA-Robo RememberColor: goes to cube after cube, the right one unknown",
)
class MikasaMemoryless(_Hand):
    """Knows where the cubes stand, not which is meant."""

    def _order(self, facts: Mapping[str, np.ndarray], state: State) -> np.ndarray:
        keys = rng.episode_keys(state["key"], state["episode"].astype(np.uint64))
        return rng.permutation(keys, 0, facts["cubes"].shape[1])
