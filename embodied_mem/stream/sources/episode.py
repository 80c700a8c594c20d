"""An episode of an environment as a stream: the camera of an agent, stamped with the simulator's clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.stream.frames import FrameSource


class EpisodeSource(FrameSource):
    """``rgb`` of one episode; House-Tour walks by itself, other environments take a policy.

    The environment stays readable: after the episode ``source.env.unwrapped.log()`` of House-Tour tells what was seen
    where and when.
    """

    def __init__(
        self,
        env_id: str = "embodied_mem/House-Tour-v0",
        *,
        seed: int = 0,
        step_s: float = 0.1,
        fps: float | None = None,
        policy: Callable[[dict[str, np.ndarray]], Any] | None = None,
        **options: Any,
    ) -> None:
        """Make the environment and reset it.

        Args:
            env_id: Gymnasium id.
            seed: of the reset.
            step_s: seconds of simulator time per step.
            fps: frames per second to give out at most.
            policy: observation to action; None for action 0 at every step.
            options: keywords of the environment.

        Raises:
            UsageError: a step that is not positive, or an environment without ``rgb``.
        """
        super().__init__(f"{env_id}#{seed}", fps)
        if not step_s > 0:
            raise UsageError(f"expected step_s > 0, got {step_s}")
        import embodied_mem.envs  # noqa: F401

        self.env = gymnasium.make(env_id, **options)
        self.step_s, self._policy = step_s, policy
        self._obs, _ = self.env.reset(seed=seed)
        self._over = False
        if not isinstance(self._obs, dict) or "rgb" not in self._obs:
            self.env.close()
            raise UsageError(f"expected observations with rgb from {env_id}; add it to its sensors")

    def _grab(self) -> float | None:
        if self._index == 0:
            return 0.0
        if self._over:
            return None
        action = self.env.action_space.dtype.type(0) if self._policy is None else self._policy(self._obs)  # type: ignore[union-attr]
        self._obs, _, terminated, truncated, _ = self.env.step(action)
        self._over = bool(terminated or truncated)
        return self._index * self.step_s

    def _retrieve(self) -> np.ndarray:
        return np.array(self._obs["rgb"])

    def close(self) -> None:
        """Close the environment."""
        super().close()
        self.env.close()
