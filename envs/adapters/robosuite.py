"""robosuite (package ``robosuite`` 1.4 or 1.5): single-arm tasks with an operational-space controller.

Actions (7,) in [-1, 1]: hand displacement, rotation and gripper. ``vector`` is the arm's own state, ``rgb`` the front
camera (the package's pictures stand on their heads and are turned), ``rgb_wrist`` the hand's. Horizon 500.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from embodied_mem.envs.adapters.copies import BatchedCopies, Outcome
from embodied_mem.envs.adapters.packages import need
from embodied_mem.envs.base import SingleEnv
from embodied_mem.errors import UsageError, nearest

INSTALL = "pip install robosuite==1.4.0 (in an environment of its own: it pins old packages); set MUJOCO_GL=egl"
TASKS = {
    "Lift": "lift the cube",
    "Stack": "put the red cube onto the green cube",
    "PickPlaceCan": "put the can into its bin",
    "NutAssemblySquare": "put the square nut onto the square peg",
    "Door": "open the door",
}
"""Task -> what the agent is told (our words)."""
CAMERAS = {"rgb": "agentview", "rgb_wrist": "robot0_eye_in_hand"}
STATE = "robot0_proprio-state"


class BatchedRobosuite(BatchedCopies):
    """N copies of one task with a Panda."""

    known = ("vector", "instruction", "rgb", "rgb_wrist")
    actions = 7
    horizon = 500

    def __init__(self, num_envs: int = 1, *, task: str = "Lift", robot: str = "Panda", **kwargs: Any) -> None:
        """Set up rows.

        Args:
            num_envs: number of rows.
            task: one of `TASKS`.
            robot: robosuite's name of the arm.
            kwargs: see `BatchedCopies`.

        Raises:
            UsageError: the task is unknown, or the package is missing.
        """
        if task not in TASKS:
            raise UsageError(f"unknown task {task!r}{nearest(task, TASKS)}; tasks: {', '.join(TASKS)}")
        self.task, self.robot = task, robot
        self._suite = need("robosuite", INSTALL)
        self.sensors = tuple(kwargs.get("sensors", ("vector", "instruction")))
        self.width, self.height = kwargs.get("width", 64), kwargs.get("height", 64)
        first = self._make()
        self._size = len(first.reset()[STATE])
        super().__init__(num_envs, **{"sensors": self.sensors, **kwargs})
        self._copies[0] = first

    def _vector_size(self) -> int:
        return self._size

    def _make(self) -> Any:
        cameras = [CAMERAS[name] for name in self.sensors if name in CAMERAS]
        drawn = {"camera_names": cameras, "camera_widths": self.width, "camera_heights": self.height}
        return self._suite.make(
            self.task,
            robots=self.robot,
            controller_configs=self._suite.load_controller_config(default_controller="OSC_POSE"),
            has_renderer=False,
            has_offscreen_renderer=bool(cameras),
            use_camera_obs=bool(cameras),
            ignore_done=True,
            **(drawn if cameras else {}),
        )

    def _restart(self, copy: Any, seed: int, episode: int) -> tuple[dict[str, np.ndarray], str]:
        before = np.random.get_state()
        # Placements are drawn from the global generator.
        np.random.seed(seed)
        try:
            observed = copy.reset()
        finally:
            np.random.set_state(before)
        return self._seen_of(observed), TASKS[self.task]

    def _play(self, copy: Any, action: np.ndarray) -> Outcome:
        observed, reward, _, _ = copy.step(action)
        return Outcome(self._seen_of(observed), float(reward), False, False, bool(copy._check_success()))

    def _seen_of(self, observed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        seen = {"vector": observed[STATE].astype(np.float32)}
        pictures = {name: observed[f"{CAMERAS[name]}_image"][::-1] for name in self.sensors if name in CAMERAS}
        return {**seen, **pictures}


class Robosuite(SingleEnv):
    """One copy."""

    batched = BatchedRobosuite
