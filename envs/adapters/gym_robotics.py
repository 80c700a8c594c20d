"""gymnasium-robotics 1.4: Fetch (Plappert et al. 2018) and point mazes, as goal-conditioned tasks.

``vector`` is the package's ``observation``, ``goal`` its ``desired_goal``. Fetch episodes last 50 steps and count by
what holds at the last of them, as in the paper; a maze ends when its goal is reached.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from embodied_mem.envs.adapters.copies import BatchedCopies, Outcome
from embodied_mem.envs.adapters.drawing import need_opengl
from embodied_mem.envs.adapters.packages import need
from embodied_mem.envs.base import SingleEnv
from embodied_mem.errors import UsageError, nearest

INSTALL = "pip install 'embodied-mem[envs-mujoco]'"
TASKS: dict[str, tuple[int, str]] = {
    "FetchReach-v4": (50, "move the gripper to the goal"),
    "FetchPush-v4": (50, "push the block to the goal"),
    "FetchSlide-v4": (50, "hit the puck so that it stops at the goal"),
    "FetchPickAndPlace-v4": (50, "lift the block and bring it to the goal"),
    "PointMaze_UMaze-v3": (300, "roll the ball to the goal"),
    "PointMaze_Medium-v3": (600, "roll the ball to the goal"),
    "PointMaze_Large-v3": (800, "roll the ball to the goal"),
}
"""Task -> steps of an episode as the package registers them, and what the agent is told (our words)."""


class BatchedGymRobotics(BatchedCopies):
    """N copies of one task."""

    known = ("vector", "goal", "instruction", "rgb")

    def __init__(self, num_envs: int = 1, *, task: str = "FetchReach-v4", **kwargs: Any) -> None:
        """Set up rows.

        Args:
            num_envs: number of rows.
            task: one of `TASKS`.
            kwargs: see `BatchedCopies`; the sensor ``goal`` comes on top of the usual ones.

        Raises:
            UsageError: the task is unknown, or the package is missing.
        """
        if task not in TASKS:
            raise UsageError(f"unknown task {task!r}{nearest(task, TASKS)}; tasks: {', '.join(TASKS)}")
        self.task = task
        self.horizon, self._text = TASKS[task]
        self.ends_at_success = task.startswith("PointMaze")
        from embodied_mem.envs.tabletop.model import load_mujoco

        load_mujoco()
        gymnasium.register_envs(need("gymnasium_robotics", INSTALL))
        self.sensors = tuple(kwargs.get("sensors", ("vector", "goal", "instruction")))
        self.width, self.height = kwargs.get("width", 64), kwargs.get("height", 64)
        first = self._make()
        self._inner = first.observation_space
        self.actions = first.action_space.shape[0]
        super().__init__(num_envs, **{"sensors": self.sensors, **kwargs})
        self._copies[0] = first

    def _vector_size(self) -> int:
        return self._inner["observation"].shape[0]

    def _space(self, name: str) -> spaces.Box:
        if name == "goal":
            return spaces.Box(-np.inf, np.inf, self._inner["desired_goal"].shape, np.float32)
        return super()._space(name)

    def _make(self) -> Any:
        options: dict[str, Any] = {"max_episode_steps": 1_000_000}
        if "rgb" in self.sensors:
            need_opengl()
            options |= {"render_mode": "rgb_array", "width": self.width, "height": self.height}
        if self.task.startswith("PointMaze"):
            options["continuing_task"] = False
        return gymnasium.make(self.task, disable_env_checker=True, **options)

    def _restart(self, copy: Any, seed: int, episode: int) -> tuple[dict[str, np.ndarray], str]:
        observed, _ = copy.reset(seed=seed)
        return self._seen_of(copy, observed), self._text

    def _play(self, copy: Any, action: np.ndarray) -> Outcome:
        observed, reward, terminated, truncated, info = copy.step(action)
        success = bool(info.get("is_success", info.get("success", False)))
        return Outcome(self._seen_of(copy, observed), float(reward), terminated, truncated, success)

    def _seen_of(self, copy: Any, observed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        copy.unwrapped.last_achieved = observed["achieved_goal"]
        seen = {"vector": observed["observation"], "goal": observed["desired_goal"]}
        return {**seen, **({"rgb": copy.render()} if "rgb" in self.sensors else {})}

    def privileged(self) -> dict[str, np.ndarray]:
        """Return ``achieved_goal`` (N, ...) float64: what is where the goal wants it."""
        rows = range(self.num_envs)
        return {"achieved_goal": np.stack([self.copy(row).unwrapped.last_achieved for row in rows])}


class GymRobotics(SingleEnv):
    """One copy."""

    batched = BatchedGymRobotics
