"""LIBERO (Liu et al. 2023; package ``libero`` or ``hf-libero``): language-conditioned tasks, listed initial states.

Episode e plays initial state e modulo 50 of its task, then ten steps of doing nothing while things settle, as the
public evaluations do. ``vector`` (9,) is hand position, quaternion and fingers; ``rgb`` and ``rgb_wrist`` are the two
cameras (turned upright). Actions (7,): hand displacement, rotation, gripper (-1 opens). Its assets (210 MB) are not in
the wheel and its import asks questions on stdin unless ``LIBERO_CONFIG_PATH`` names a folder with ``config.yaml``.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from embodied_mem.envs.adapters.copies import BatchedCopies, Outcome
from embodied_mem.envs.adapters.packages import need
from embodied_mem.envs.base import SingleEnv
from embodied_mem.errors import UsageError, nearest

INSTALL = (
    "pip install hf-libero==0.1.4 (in an environment of its own: it pins numpy < 2), then its assets; "
    "set LIBERO_CONFIG_PATH and MUJOCO_GL=egl"
)
SUITES: dict[str, tuple[int, int]] = {
    "libero_spatial": (10, 220),
    "libero_object": (10, 280),
    "libero_goal": (10, 300),
    "libero_10": (10, 520),
    "libero_90": (90, 400),
}
"""Suite -> number of tasks, steps of an episode in the public evaluations."""
SETTLING = 10
NOTHING = np.array([0, 0, 0, 0, 0, 0, -1], np.float32)
STATES = 50
CAMERAS = {"rgb": "agentview_image", "rgb_wrist": "robot0_eye_in_hand_image"}
STATE = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")


class BatchedLibero(BatchedCopies):
    """N copies of one task of one suite."""

    known = ("vector", "instruction", "rgb", "rgb_wrist")
    actions = 7

    def __init__(
        self, num_envs: int = 1, *, suite: str = "libero_spatial", task_number: int = 0, **kwargs: Any
    ) -> None:
        """Set up rows.

        Args:
            num_envs: number of rows.
            suite: one of `SUITES`.
            task_number: index of the task in its suite.
            kwargs: see `BatchedCopies`.

        Raises:
            UsageError: a value is out of range, the package is missing, or its import would ask questions.
        """
        if suite not in SUITES:
            raise UsageError(f"unknown suite {suite!r}{nearest(suite, SUITES)}; suites: {', '.join(SUITES)}")
        count, self.horizon = SUITES[suite]
        if not 0 <= task_number < count:
            raise UsageError(f"expected task_number in [0, {count}) for {suite}, got {task_number}")
        need("libero", INSTALL)
        if "LIBERO_CONFIG_PATH" not in os.environ:
            raise UsageError("set LIBERO_CONFIG_PATH to a folder with config.yaml: LIBERO's import asks on stdin else")
        self._bench = need("libero.libero.benchmark", INSTALL).get_benchmark_dict()[suite]()
        self._envs = need("libero.libero.envs", INSTALL)
        self._task = self._bench.get_task(task_number)
        self._states = self._bench.get_task_init_states(task_number)
        self._file = self._bench.get_task_bddl_file_path(task_number)
        super().__init__(num_envs, **kwargs)

    def _vector_size(self) -> int:
        return 9

    def _make(self) -> Any:
        try:
            return self._envs.OffScreenRenderEnv(
                bddl_file_name=self._file, camera_heights=self.height, camera_widths=self.width
            )
        except FileNotFoundError as error:
            raise UsageError(f"LIBERO's assets are missing ({error.filename}): {INSTALL}") from error

    def _restart(self, copy: Any, seed: int, episode: int) -> tuple[dict[str, np.ndarray], str]:
        copy.seed(seed)
        copy.reset()
        observed = copy.set_init_state(self._states[episode % STATES])
        for _ in range(SETTLING):
            observed, *_ = copy.step(NOTHING)
        return self._seen_of(observed), str(self._task.language)

    def _play(self, copy: Any, action: np.ndarray) -> Outcome:
        observed, reward, done, _ = copy.step(action)
        return Outcome(self._seen_of(observed), float(reward), bool(done), False, bool(done or copy.check_success()))

    def _seen_of(self, observed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        seen = {"vector": np.concatenate([observed[name] for name in STATE]).astype(np.float32)}
        pictures = {name: observed[CAMERAS[name]][::-1] for name in self.sensors if name in CAMERAS}
        return {**seen, **pictures}


class Libero(SingleEnv):
    """One copy."""

    batched = BatchedLibero
