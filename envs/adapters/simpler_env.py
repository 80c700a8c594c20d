"""SimplerEnv (Li et al. 2024; package ``simpler_env``, from its repository): real-robot tasks rebuilt in simulation.

Episode e plays layout e modulo 24 of its task. ``rgb`` is the third-person camera, scaled to the size asked for; there
is no state observation, as in the published comparisons. Actions (7,): hand displacement, rotation, gripper.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from embodied_mem.envs.adapters.copies import BatchedCopies, Outcome
from embodied_mem.envs.adapters.packages import need
from embodied_mem.envs.base import SingleEnv
from embodied_mem.errors import UsageError, nearest

INSTALL = (
    "install it from its repository, simpler-env/SimplerEnv, with the submodule ManiSkill2_real2sim, in an environment "
    "of its own (it is not on the package index and pins numpy < 2)"
)
TASKS = {
    "widowx_spoon_on_towel": 60,
    "widowx_carrot_on_plate": 60,
    "widowx_stack_cube": 60,
    "widowx_put_eggplant_in_basket": 120,
}
"""Bridge tasks -> steps of an episode."""
LAYOUTS = 24


class BatchedSimplerEnv(BatchedCopies):
    """N copies of one task."""

    known = ("instruction", "rgb")
    actions = 7

    def __init__(self, num_envs: int = 1, *, task: str = "widowx_spoon_on_towel", **kwargs: Any) -> None:
        """Set up rows.

        Args:
            num_envs: number of rows.
            task: one of `TASKS`.
            kwargs: see `BatchedCopies`; by default both sensors.

        Raises:
            UsageError: the task is unknown, or the package is missing.
        """
        if task not in TASKS:
            raise UsageError(f"unknown task {task!r}{nearest(task, TASKS)}; tasks: {', '.join(TASKS)}")
        self.task, self.horizon = task, TASKS[task]
        self._package = need("simpler_env", INSTALL)
        self._drawing = need("simpler_env.utils.env.observation_utils", INSTALL)
        super().__init__(num_envs, **{"sensors": ("rgb", "instruction"), **kwargs})

    def _make(self) -> Any:
        return self._package.make(self.task)

    def _restart(self, copy: Any, seed: int, episode: int) -> tuple[dict[str, np.ndarray], str]:
        layout = {"obj_init_options": {"episode_id": episode % LAYOUTS}}
        observed, _ = copy.reset(seed=seed, options=layout)
        return self._seen_of(copy, observed), str(copy.get_language_instruction())

    def _play(self, copy: Any, action: np.ndarray) -> Outcome:
        observed, reward, done, truncated, _ = copy.step(action)
        return Outcome(self._seen_of(copy, observed), float(reward), bool(done), bool(truncated), bool(done))

    def _seen_of(self, copy: Any, observed: Any) -> dict[str, np.ndarray]:
        import cv2

        picture = self._drawing.get_image_from_maniskill2_obs_dict(copy, observed)
        return {"rgb": cv2.resize(picture, (self.width, self.height), interpolation=cv2.INTER_AREA)}


class SimplerEnv(SingleEnv):
    """One copy."""

    batched = BatchedSimplerEnv
