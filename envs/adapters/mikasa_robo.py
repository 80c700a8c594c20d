"""MIKASA-Robo (package ``mikasa-robo-suite`` 1.0.0): memory tasks of a robot arm on ManiSkill.

Its own pins (torch 2.2, numpy 1.23, mani_skill 3.0.0b15) neither fit this project nor draw on a CPU; without them it
works on mani_skill 3.0.1. ``info["oracle_info"]``, the hidden answer, goes to ``privileged()`` and never to the policy.
Tasks with meshes (ShellGame and others) ask for a download on stdin; they are refused here with that reason.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from embodied_mem.envs.adapters.mani_skill import BatchedManiSkill, as_array
from embodied_mem.envs.base import SingleEnv
from embodied_mem.errors import UsageError

INSTALL = (
    "pip install 'embodied-mem[envs-sapien]' && pip install --no-deps mikasa-robo-suite==1.0.0 "
    "(its pins do not fit; on a CPU Mesa's lavapipe >= 24.3 is needed)"
)
WITHOUT_ASSETS = {
    "ShellGame": "its meshes (YCB) are a download that the package asks for on stdin",
    "BatteriesChecker": "its mesh folder is missing from the package's wheel",
    "BlinkCountButtonPress": "its mesh folder is missing from the package's wheel",
    "GatherAndRecall": "its mesh folder is missing from the package's wheel",
    "TimedTransfer": "its mesh folder is missing from the package's wheel",
    "TraceShape": "its mesh folder is missing from the package's wheel",
}
"""Beginnings of task names -> why they cannot be played from the wheel."""


class BatchedMikasaRobo(BatchedManiSkill):
    """N copies of one task; joint control (8,) by default, as the suite's own."""

    modules = ("mani_skill.envs", "mikasa_robo_suite.vla.memory_envs")
    install = INSTALL

    def __init__(
        self,
        num_envs: int = 1,
        *,
        task: str = "RememberColor3-VLA-v0",
        control: str | None = None,
        horizon: int = 25,
        **kwargs: Any,
    ) -> None:
        """Set up rows; ``task`` is an id of the suite's VLA set, the rest as in `BatchedManiSkill`.

        Raises:
            UsageError: the task's assets are missing, or a package is.
        """
        for name, reason in WITHOUT_ASSETS.items():
            if task.startswith(name):
                raise UsageError(f"MIKASA-Robo {task} cannot be played: {reason}")
        super().__init__(num_envs, task=task, control=control, horizon=horizon, **kwargs)

    def privileged(self) -> dict[str, np.ndarray]:
        """Return ``oracle_info`` (N, ...), the hidden answer as the package gives it."""
        told = [self._told_by[id(self.copy(row))].get("oracle_info") for row in range(self.num_envs)]
        return {"oracle_info": np.stack([as_array(value).reshape(-1) for value in told])}


class MikasaRobo(SingleEnv):
    """One copy."""

    batched = BatchedMikasaRobo
