"""N copies of one MuJoCo scene as arrays: state (N, S), stepped by MuJoCo's own batched roll-out (C++, any threads)."""

from __future__ import annotations

from typing import Any

import numpy as np

from embodied_mem.envs.tabletop import _arm_kernels as kernels
from embodied_mem.envs.tabletop.model import (
    FINGERS,
    HAND,
    JOINTS,
    SUBSTEPS,
    TOOL_HEIGHT,
    build,
    load_mujoco,
)

STRIDE = 0.12
"""Radians that a joint target may move in one control step (2.4 rad/s, within the Panda's limits)."""
OPEN = 0.04
"""Metres that each finger is away from the middle of the open gripper."""
# Above the table, tool down; q2 and q4 as in the Panda's usual ready pose.
_READY = np.array([0.0, -0.4, 0.0, -2.1, 0.0, 0.15, 0.0])
HOME = np.array([0.42, 0.0, 0.3])
"""Tool position of the home pose, metres."""


class Physics:
    """State of N copies of a scene, and the arm in them.

    Attributes:
        qpos: (N, nq) float64, a view of the state.
        qvel: (N, nv) float64, a view of the state.
        mocap: (N, M, 3) float64, places of the bodies that the task moves.
        command: (N, 7) float64, joint targets in radians.
        fingers: (N,) float64, finger target in metres: 0 closed, `OPEN` open.
        tool: (N, 3) float64, tool position in metres.
        rotation: (N, 3, 3) float64, tool rotation.
    """

    def __init__(self, num_envs: int, scenery: str, *, size: int = 512, threads: int = 1) -> None:
        """Set up N copies; see `model.build` for ``scenery`` and ``size``. ``threads`` >= 1 share the rows of a step.

        Raises:
            UsageError: a package is missing.
        """
        self.scenery, self.size, self.threads = scenery, size, threads
        self._load()
        mujoco, model = self._mujoco, self.model
        self.nq, self.nv = model.nq, model.nv
        self._full = mujoco.mjtState.mjSTATE_FULLPHYSICS
        self._spec = int(mujoco.mjtState.mjSTATE_CTRL | mujoco.mjtState.mjSTATE_MOCAP_POS)
        data = mujoco.MjData(model)
        first = np.zeros(mujoco.mj_stateSize(model, self._full))
        mujoco.mj_getState(model, data, first, self._full)
        self._chain()
        self._wire()
        self.home, self.home_rotation = self._settle()
        first[1 : 1 + self.nq][self._arm] = self.home
        first[1 : 1 + self.nq][self._finger] = OPEN
        n = num_envs
        self.first = first
        self.state = np.tile(first, (n, 1))
        self.mocap_home = data.mocap_pos.copy()
        self.mocap = np.tile(self.mocap_home, (n, 1, 1))
        self.command = np.tile(self.home, (n, 1))
        self.fingers = np.full(n, OPEN)
        self.tool, self.rotation = np.zeros((n, 3)), np.zeros((n, 3, 3))
        self._view()
        self.read()

    def _load(self) -> None:
        self._mujoco = load_mujoco()
        from mujoco import rollout

        self.model = build(self.scenery, self.size)
        self._rollout = rollout
        self._data = [self._mujoco.MjData(self.model) for _ in range(self.threads)]
        self._pool = rollout.Rollout(nthread=self.threads if self.threads > 1 else 0)

    def _view(self) -> None:
        self.qpos = self.state[:, 1 : 1 + self.nq]
        self.qvel = self.state[:, 1 + self.nq : 1 + self.nq + self.nv]
        self.joints = self.qpos[:, self._arm]

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy needs: arrays and the scene's text; models and threads are made anew."""
        made = ("_mujoco", "model", "_rollout", "_data", "_pool", "qpos", "qvel", "joints")
        return {name: value for name, value in self.__dict__.items() if name not in made}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy."""
        self.__dict__.update(state)
        self._load()
        self._view()

    def _chain(self) -> None:
        model, mujoco = self.model, self._mujoco
        bodies = [model.jnt_bodyid[model.joint(name).id] for name in JOINTS]
        turns = np.zeros((8, 3, 3))
        for i, body in enumerate(bodies):
            flat = np.zeros(9)
            mujoco.mju_quat2Mat(flat, model.body_quat[body])
            turns[i] = flat.reshape(3, 3)
        c = np.sqrt(0.5)
        # The fingers open along the hand's y axis, which is turned by -45 degrees in the last link.
        turns[7] = np.array([[c, c, 0], [-c, c, 0], [0, 0, 1]])
        self.offsets = np.vstack([model.body_pos[bodies], [[0.0, 0.0, TOOL_HEIGHT]]])
        self.turns = turns
        self.limits = np.array([model.joint(name).range for name in JOINTS])

    def _wire(self) -> None:
        model = self.model
        start = model.joint(JOINTS[0]).qposadr[0]
        self._arm = slice(start, start + 7)
        self._arm_v = slice(model.joint(JOINTS[0]).dofadr[0], model.joint(JOINTS[0]).dofadr[0] + 7)
        finger = model.joint(FINGERS[0]).qposadr[0]
        self._finger = slice(finger, finger + 2)
        self._finger_v = slice(model.joint(FINGERS[0]).dofadr[0], model.joint(FINGERS[0]).dofadr[0] + 2)
        self.hand = model.body(HAND).id

    def _settle(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the joints (7,) of the home pose and the tool's rotation (3, 3) there."""
        q, active = _READY[None].copy(), np.ones(1, bool)
        down = np.array([[[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]]])
        for _ in range(60):
            kernels.track(q, active, HOME[None], down, self.limits, _READY, self.offsets, self.turns, 3, 0.2)
        return q[0], down[0]

    # Names to places in the arrays

    def free(self, name: str) -> slice:
        """Return the columns of ``qpos`` of the body ``name`` that moves freely: x, y, z, then a quaternion."""
        start = int(self.model.jnt_qposadr[self.model.body(name).jntadr[0]])
        return slice(start, start + 7)

    def free_speed(self, name: str) -> slice:
        """Return the columns of ``qvel`` of the body ``name`` that moves freely: linear (3), then angular (3)."""
        start = int(self.model.jnt_dofadr[self.model.body(name).jntadr[0]])
        return slice(start, start + 6)

    def slide(self, name: str) -> tuple[int, int]:
        """Return the column of a joint with one degree of freedom in ``qpos``, and that in ``qvel``."""
        joint = self.model.joint(name)
        return int(joint.qposadr[0]), int(joint.dofadr[0])

    def placed(self, name: str) -> int:
        """Return the index in ``mocap`` of the body ``name``, which the task places."""
        return int(self.model.body(name).mocapid[0])

    # Motion

    def clear(self, rows: np.ndarray) -> None:
        """Put everything in ``rows`` (M,) back to where the scene's text has it, arm at home."""
        self.state[rows] = self.first
        self.mocap[rows] = self.mocap_home
        self.rehome(rows)

    def rehome(self, rows: np.ndarray) -> None:
        """Put the arm of ``rows`` (M,) at home, at rest, gripper open."""
        self.qpos[rows, self._arm], self.qpos[rows, self._finger] = self.home, OPEN
        self.qvel[rows, self._arm_v], self.qvel[rows, self._finger_v] = 0.0, 0.0
        self.command[rows], self.fingers[rows] = self.home, OPEN
        self.read()

    def aim(self, positions: np.ndarray, rotations: np.ndarray, active: np.ndarray) -> None:
        """Move the joint targets of ``active`` (N,) rows towards tool positions (N, 3) and rotations (N, 3, 3)."""
        kernels.track(
            self.command, active, positions, rotations, self.limits, self.home, self.offsets, self.turns, 3, STRIDE
        )

    def step(self, rows: np.ndarray) -> None:
        """Advance ``rows`` (M,) int64 by one control step: `SUBSTEPS` physics steps with constant targets."""
        count = len(rows)
        if not count:
            return
        every = count == len(self.state)
        control = np.empty((count, SUBSTEPS, 9 + self.mocap.shape[1] * 3))
        control[:, :, :7] = self.command[rows, None]
        control[:, :, 7:9] = self.fingers[rows, None, None]
        control[:, :, 9:] = self.mocap[rows].reshape(count, 1, -1)
        states, _ = self._pool.rollout(
            self.model, self._data, self.state if every else self.state[rows], control, control_spec=self._spec
        )
        if every:
            self.state[:] = states[:, -1]
        else:
            self.state[rows] = states[:, -1]
        self.read()

    def read(self) -> None:
        """Recompute ``tool`` and ``rotation`` from the joints."""
        kernels.forward(self.joints, self.offsets, self.turns, self.tool, self.rotation)

    def width(self) -> np.ndarray:
        """Return (N,) the opening of the gripper in metres."""
        return self.qpos[:, self._finger].sum(axis=1)
