"""MIKASA-Robo (package ``mikasa-robo-suite`` 1.0.0): memory tasks of a robot arm on ManiSkill.

Its own pins (torch 2.2, numpy 1.23, mani_skill 3.0.0b15) neither fit this project nor draw on a CPU; without them it
works on mani_skill 3.0.1. ``info["oracle_info"]``, the hidden answer, goes to ``privileged()`` and never to the policy.
Tasks with meshes (ShellGame and others) ask for a download on stdin; they are refused here with that reason.

The package's own evaluation moves the hand (``pd_ee_delta_pose``), counts success at any step, and plays nothing for
the actions that come while the cue is shown and while all is hidden in the short Remember and FindImposter tasks. All
of it is the default here: otherwise an arm could touch the cue itself, which counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from embodied_mem.envs.adapters.copies import Outcome
from embodied_mem.envs.adapters.mani_skill import BatchedManiSkill, as_array, own_tensors
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
HELD = ("RememberColor", "RememberShape", "FindImposter")
"""Beginnings of task names whose short forms hold the arm until there is something to choose."""
STILL = 0.2
"""Highest joint speed, rad/s, at which the tasks call the arm at rest."""
AWAY = 100.0
"""Metres above which a cube is where the tasks put what is hidden."""


class BatchedMikasaRobo(BatchedManiSkill):
    """N copies of one task; actions (7,) move the hand and the gripper, as in the package's own evaluation."""

    modules = ("mani_skill.envs", "mikasa_robo_suite.vla.memory_envs")
    install = INSTALL

    def __init__(
        self,
        num_envs: int = 1,
        *,
        task: str = "RememberColor3-VLA-v0",
        control: str | None = "pd_ee_delta_pose",
        horizon: int = 25,
        hold: bool | None = None,
        objects: bool = False,
        **kwargs: Any,
    ) -> None:
        """Set up rows; what is not named here is as in `BatchedManiSkill`.

        Args:
            num_envs: number of rows.
            task: an id of the suite's VLA set.
            control: ManiSkill's control mode; None: the task's own, joints (8,).
            horizon: steps of an episode.
            hold: zeros are played until the things to choose from are there; None: as the package's own evaluation.
            objects: RememberColor only: ``vector`` ends with x, y in metres and 1 for every colour whose cube is on the
                table, in the order of the colours, and with zeros for those that are not: what a picture shows.
            kwargs: see `BatchedManiSkill`.

        Raises:
            UsageError: the task's assets are missing, or a package is; or the task has no such ``objects``.
        """
        for name, reason in WITHOUT_ASSETS.items():
            if task.startswith(name):
                raise UsageError(f"MIKASA-Robo {task} cannot be played: {reason}")
        if objects and not task.startswith("RememberColor"):
            raise UsageError(f"expected a RememberColor task for objects=True, got {task}")
        self.objects = bool(objects)
        self.hold = task.startswith(HELD) and "-Long-" not in task if hold is None else bool(hold)
        super().__init__(num_envs, task=task, control=control, horizon=horizon, **kwargs)

    def _play(self, copy: Any, action: np.ndarray) -> Outcome:
        held = self.hold and _waits(copy.unwrapped)
        return super()._play(copy, np.zeros_like(action) if held else action)

    def _state(self, copy: Any, observed: dict[str, Any]) -> np.ndarray:
        arm = super()._state(copy, observed)
        return np.concatenate([arm, _on_table(copy.unwrapped)]) if self.objects else arm

    def privileged(self) -> dict[str, np.ndarray]:
        """Return ``oracle_info`` (N, ...), the hidden answer as the package gives it.

        RememberColor adds ``tcp`` (N, 3), where the hand is, ``cubes`` (N, K, 3), where each of the K colours stands
        when all are shown, both in metres, ``waits`` (N,), True before that, and ``still`` (N,), True for an arm at
        rest, as success asks for.
        """
        copies = [self.copy(row) for row in range(self.num_envs)]
        told = [self._told_by[id(made)].get("oracle_info") for made in copies]
        facts = {"oracle_info": np.stack([as_array(value).reshape(-1) for value in told])}
        if self.task.startswith("RememberColor"):
            with own_tensors():
                facts.update(_colours([made.unwrapped for made in copies]))
        return facts


class MikasaRobo(SingleEnv):
    """One copy."""

    batched = BatchedMikasaRobo


def _waits(world: Any) -> bool:
    """Return True while the cue is shown or everything is hidden."""
    until = as_array(world.cue_steps_per_env)[0] + as_array(world.empty_steps_per_env)[0]
    return bool(as_array(world.elapsed_steps)[0] < until)


def _colours(worlds: Sequence[Any]) -> dict[str, np.ndarray]:
    """Return what RememberColor adds to the privileged facts."""
    places = [[as_array(place)[0] for _, place in sorted(world.initial_poses.items())] for world in worlds]
    return {
        "tcp": np.stack([as_array(world.agent.tcp.pose.p)[0] for world in worlds]),
        "cubes": np.array(places),
        "waits": np.array([_waits(world) for world in worlds]),
        "still": np.array([bool(as_array(world.agent.is_static(STILL))[0]) for world in worlds]),
    }


def _on_table(world: Any) -> np.ndarray:
    """Return (3 K,) float32: x, y and 1 of every cube on the table, zeros of every cube that the task has put away."""
    places = np.stack([as_array(cube.pose.p)[0] for _, cube in sorted(world.cubes.items())])
    shown = places[:, 2] < AWAY
    return (np.c_[places[:, :2], np.ones(len(places))] * shown[:, None]).astype(np.float32).reshape(-1)
