"""ManiSkill 3 (package ``mani_skill``): tasks on SAPIEN, one simulated world per copy.

On a machine without a GPU SAPIEN needs Mesa's lavapipe >= 24.3 (``VK_ICD_FILENAMES``), even for state observations.
``vector`` is joint positions and velocities of the arm and, where the task tells it, the pose of its hand (x, y, z in
metres and a quaternion); ``rgb`` is the base camera, ``rgb_wrist`` the hand's where the task has one. Cameras that no
sensor asks for are not drawn. ManiSkill batches everything with a leading 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from embodied_mem.envs.adapters.copies import BatchedCopies, Outcome
from embodied_mem.envs.adapters.packages import need
from embodied_mem.envs.base import SingleEnv

INSTALL = "pip install 'embodied-mem[envs-sapien]'"
CAMERAS = {"rgb": "base_camera", "rgb_wrist": "hand_camera"}


class BatchedManiSkill(BatchedCopies):
    """N copies of one task, one CPU world each."""

    known = ("vector", "instruction", "rgb", "rgb_wrist")
    modules: tuple[str, ...] = ("mani_skill.envs",)
    install = INSTALL

    def __init__(
        self,
        num_envs: int = 1,
        *,
        task: str = "PickCube-v1",
        instruction: str = "",
        control: str | None = "pd_ee_delta_pose",
        horizon: int = 200,
        **kwargs: Any,
    ) -> None:
        """Set up rows.

        Args:
            num_envs: number of rows.
            task: id of the task.
            instruction: what the agent is told, where the task does not say.
            control: ManiSkill's control mode; None: the task's own.
            horizon: steps of an episode.
            kwargs: see `BatchedCopies`.

        Raises:
            UsageError: the package is missing.
        """
        self.task, self.instruction, self.control, self.horizon = task, instruction, control, horizon
        for module in self.modules:
            need(module, self.install)
        self.sensors = tuple(kwargs.get("sensors", ("vector", "instruction")))
        self._told_by: dict[int, dict[str, Any]] = {}
        self._first = self._make()
        with own_tensors():
            observed, _ = self._first.reset(seed=0)
        self._box = self._first.action_space
        self._size = len(self._state(self._first, observed))
        self.actions = self._box.shape[-1]
        super().__init__(num_envs, **{"sensors": self.sensors, **kwargs})
        self._copies[0] = self._first

    def _vector_size(self) -> int:
        return self._size

    def _action_space(self) -> spaces.Box:
        low, high = (np.asarray(end).reshape(-1)[-self.actions :] for end in (self._box.low, self._box.high))
        return spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)

    def _make(self) -> Any:
        mode: dict[str, Any] = {} if self.control is None else {"control_mode": self.control}
        pictures = any(name in CAMERAS for name in self.sensors)
        with own_tensors():
            return gymnasium.make(
                self.task,
                num_envs=1,
                obs_mode="rgb" if pictures else "state_dict",
                sim_backend="cpu",
                render_backend="sapien_cpu",
                **mode,
            )

    def _restart(self, copy: Any, seed: int, episode: int) -> tuple[dict[str, np.ndarray], str]:
        with own_tensors():
            observed, info = copy.reset(seed=seed)
        self._leave_out_cameras(copy)
        self._told_by[id(copy)] = info
        return self._seen_of(copy, observed), _told(info) or self.instruction

    def _play(self, copy: Any, action: np.ndarray) -> Outcome:
        with own_tensors():
            observed, reward, terminated, truncated, info = copy.step(action[None])
        self._told_by[id(copy)] = info
        success = bool(as_array(info["success"]).reshape(-1)[0])
        # ManiSkill's own limit is left to `horizon`: it is registered elsewhere than in the spec.
        ended = bool(as_array(terminated).reshape(-1)[0])
        return Outcome(self._seen_of(copy, observed), float(as_array(reward).reshape(-1)[0]), ended, False, success)

    def _leave_out_cameras(self, copy: Any) -> None:
        # A picture costs more than a step, and ManiSkill has no option to draw some cameras only.
        drawn: dict[str, Any] = getattr(getattr(copy.unwrapped, "scene", None), "sensors", {})
        for name in set(drawn) - {CAMERAS[name] for name in self.sensors if name in CAMERAS}:
            drawn.pop(name)

    def _state(self, copy: Any, observed: dict[str, Any]) -> np.ndarray:
        """Return ``vector`` (S,) float32."""
        return _vector(observed)

    def _seen_of(self, copy: Any, observed: dict[str, Any]) -> dict[str, np.ndarray]:
        seen = {"vector": self._state(copy, observed)}
        for name in self.sensors:
            if name in CAMERAS:
                picture = as_array(observed["sensor_data"][CAMERAS[name]]["rgb"])[0]
                seen[name] = _resized(picture, self.width, self.height)
        return seen


class ManiSkill(SingleEnv):
    """One copy."""

    batched = BatchedManiSkill


@contextmanager
def own_tensors() -> Iterator[None]:
    """Let ManiSkill make ordinary tensors: it writes into them later, which inference mode forbids."""
    import torch

    with torch.inference_mode(False), torch.no_grad():
        yield


def _vector(observed: dict[str, Any]) -> np.ndarray:
    agent = observed["agent"]
    parts = [agent["qpos"], agent["qvel"]]
    if "tcp_pose" in observed.get("extra", {}):
        parts.append(observed["extra"]["tcp_pose"])
    return np.concatenate([as_array(part).reshape(-1) for part in parts]).astype(np.float32)


def _told(info: dict[str, Any]) -> str:
    """Return the instruction as one string: some tasks give a list with one entry per world."""
    told = info.get("language_instruction", "")
    return str(told[0]) if isinstance(told, list | tuple) else str(told)


def as_array(value: Any) -> np.ndarray:
    """Return a tensor or an array as an array on the host."""
    return value.cpu().numpy() if hasattr(value, "cpu") else np.asarray(value)


def _resized(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return a picture (H, W, 3) uint8 of the size asked for, averaged over pixels."""
    if picture.shape[:2] == (height, width):
        return picture
    import cv2

    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
