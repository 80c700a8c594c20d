"""Meta-World (Yu et al. 2019; package ``metaworld`` 3.1.1): a Sawyer arm and fifty tasks.

``vector`` (39,) is the package's observation: hand, gripper and objects now, the same one step before, and the goal's
place (zeros with ``goal="hidden"``, as in its meta-learning benchmarks). Actions (4,) in [-1, 1]: hand displacement and
gripper. Objects and goal of an episode are drawn by the package from the task's own range with the episode's seed,
instead of from a list of fifty. Success at any step is success and ends the episode, as in the package's evaluation.

``rgb`` is the package's camera ``corner2``, turned upright; shadows and multi-sampling are off, which on a software
rasteriser is ten times as fast and changes pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from embodied_mem.envs.adapters.copies import BatchedCopies, Outcome
from embodied_mem.envs.adapters.drawing import need_opengl
from embodied_mem.envs.adapters.metaworld_texts import INSTRUCTIONS
from embodied_mem.envs.adapters.packages import need
from embodied_mem.envs.base import SingleEnv
from embodied_mem.errors import UsageError, nearest

INSTALL = "pip install 'embodied-mem[envs-mujoco]'"
HORIZON, SIZE, GOAL = 500, 39, slice(36, 39)
GOALS = ("shown", "hidden")
CAMERA = "corner2"


class BatchedMetaWorld(BatchedCopies):
    """N copies of one task."""

    metadata = {"render_modes": [], "render_fps": 80}
    actions = 4
    horizon = HORIZON

    def __init__(self, num_envs: int = 1, *, task: str = "reach-v3", goal: str = "shown", **kwargs: Any) -> None:
        """Set up rows.

        Args:
            num_envs: number of rows.
            task: one of Meta-World's tasks.
            goal: "shown" or "hidden" in ``vector``.
            kwargs: see `BatchedCopies`.

        Raises:
            UsageError: a value is unknown, or the package is missing.
        """
        if task not in INSTRUCTIONS:
            raise UsageError(f"unknown task {task!r}{nearest(task, INSTRUCTIONS)}; tasks: {', '.join(INSTRUCTIONS)}")
        if goal not in GOALS:
            raise UsageError(f"expected goal to be one of {list(GOALS)}, got {goal!r}")
        self.task, self.goal = task, goal
        from embodied_mem.envs.tabletop.model import load_mujoco

        load_mujoco()
        self._class = need("metaworld.env_dict", INSTALL).ALL_V3_ENVIRONMENTS[task]
        super().__init__(num_envs, **kwargs)

    def _vector_size(self) -> int:
        return SIZE

    def _make(self) -> Any:
        pictures = "rgb" in self.sensors
        if pictures:
            need_opengl()
        made = self._class(
            render_mode="rgb_array" if pictures else None,
            camera_name=CAMERA,
            width=self.width,
            height=self.height,
        )
        # What the package's own goal-conditioned classes set; the observation space depends on it and is cached.
        made._partially_observable = False
        vars(made).pop("sawyer_observation_space", None)
        made._freeze_rand_vec, made.seeded_rand_vec, made._set_task_called = False, True, True
        made.model.vis.quality.shadowsize, made.model.vis.quality.offsamples = 0, 0
        return made

    def _restart(self, copy: Any, seed: int, episode: int) -> tuple[dict[str, np.ndarray], str]:
        before = np.random.get_state()
        np.random.seed(seed)
        try:
            copy.seed(seed)
            observed, _ = copy.reset()
        finally:
            np.random.set_state(before)
        return self._seen_of(copy, observed), INSTRUCTIONS[self.task]

    def _play(self, copy: Any, action: np.ndarray) -> Outcome:
        observed, reward, terminated, truncated, info = copy.step(action)
        return Outcome(self._seen_of(copy, observed), reward, terminated, truncated, info["success"] > 0.5)

    def _seen_of(self, copy: Any, observed: np.ndarray) -> dict[str, np.ndarray]:
        copy.last_seen = observed
        vector = observed.astype(np.float32)
        if self.goal == "hidden":
            vector[GOAL] = 0.0
        # The camera hangs on its head: turned by 180 degrees, the picture has left and right as they are.
        return {"vector": vector, **({"rgb": copy.render()[::-1, ::-1]} if "rgb" in self.sensors else {})}

    def privileged(self) -> dict[str, np.ndarray]:
        """Return ``observation`` (N, 39) float64, the package's observation with the goal shown."""
        return {"observation": np.stack([self.copy(row).last_seen for row in range(self.num_envs)])}


class MetaWorld(SingleEnv):
    """One copy."""

    batched = BatchedMetaWorld
