"""The compiled MuJoCo model: the Franka Panda of the installed ``gymnasium-robotics``, a table, lamps, cameras, a task.

The arm is the package's own description (link geometry and masses, joint limits, actuators), read from its files when
an environment is made; nothing of it is copied. What is changed on the loaded description, and why:

- Links before the hand touch nothing, and are drawn with the package's coarse meshes: steps and frames are cheaper.
- Gravity on the arm is compensated, as the real controller does; else the servos sag by 2 degrees.
- Joint damping is 10 (link servos) and fingers weigh less: the arm follows a target within about two control steps.

World: metres, x away from the arm's base, y to its left, z up; the top of the table is z = 0.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from embodied_mem.errors import UsageError

TIMESTEP = 0.005
"""Seconds of one physics step."""
SUBSTEPS = 10
"""Physics steps per control step: the control frequency is 20 Hz."""
JOINTS = tuple(f"robot:panda0_joint{i}" for i in range(1, 8))
FINGERS = ("robot:panda0_finger_joint1", "robot:panda0_finger_joint2")
HAND = "panda0_link7"
TOOL_HEIGHT = 0.247
"""Metres from the last link's origin to the point between the finger tips."""
FAR = (0.0, 0.0, -3.0)
"""Where a body is that is not there."""
INSTALL = "pip install 'embodied-mem[envs-mujoco]'"
GO, LAMP = "go", "lamp"
"""Bodies that show that the arm obeys, and that the button has been pressed."""

_SCENE = """
<mujoco model="tabletop">
  <include file="{arm}/assets.xml"/>
  <compiler angle="radian" meshdir="{arm}/meshes"/>
  <option timestep="{timestep}" integrator="implicitfast" cone="elliptic" impratio="10"/>
  <visual>
    <quality shadowsize="0" offsamples="0"/>
    <map znear="0.01" zfar="10"/>
    <global offwidth="{size}" offheight="{size}"/>
    <headlight ambient="0.45 0.45 0.45" diffuse="0.35 0.35 0.35" specular="0 0 0"/>
  </visual>
  <worldbody>
    <light pos="0.2 0.5 2" dir="0.15 -0.25 -1" directional="true" diffuse="0.4 0.4 0.4" specular="0 0 0"/>
    <geom name="floor" type="plane" size="3 3 0.1" pos="0 0 -0.42" rgba="0.55 0.57 0.6 1" contype="0" conaffinity="0"/>
    <geom name="table" type="box" size="0.45 0.55 0.02" pos="0.55 0 -0.02" rgba="0.76 0.7 0.6 1"
          contype="0" conaffinity="1" friction="1 0.01 0.001"/>
    <camera name="front" pos="1.25 0 0.72" xyaxes="0 1 0 -0.66 0 0.75" fovy="45"/>
    <include file="{arm}/chain.xml"/>
    <body name="go" mocap="true" pos="0.2 0.45 -3">
      <geom type="sphere" size="0.025" rgba="0.1 0.9 0.2 1" contype="0" conaffinity="0"/>
    </body>
    <body name="lamp" mocap="true" pos="0.2 -0.45 -3">
      <geom type="sphere" size="0.025" rgba="1 0.9 0.1 1" contype="0" conaffinity="0"/>
    </body>
    {scenery}
  </worldbody>
  <include file="{arm}/actuator.xml"/>
</mujoco>
"""


def load_mujoco() -> Any:
    """Return the module ``mujoco``; without a display it is told to draw through EGL before it is imported.

    Raises:
        UsageError: it is not installed.
    """
    if "mujoco" not in sys.modules and sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")
    if importlib.util.find_spec("mujoco") is None:
        raise UsageError(f"expected the package mujoco for tabletop environments, got none; {INSTALL}")
    import mujoco

    return mujoco


def arm_folder() -> Path:
    """Return the folder of the Panda's description in the installed ``gymnasium-robotics`` (which is not imported).

    Raises:
        UsageError: the package is not installed, or holds no such folder.
    """
    found = importlib.util.find_spec("gymnasium_robotics")
    if found is None or not found.submodule_search_locations:
        raise UsageError(
            f"expected the package gymnasium-robotics, which brings the arm of the tabletop, got none; {INSTALL}"
        )
    folder = Path(found.submodule_search_locations[0]) / "envs" / "assets" / "kitchen_franka" / "franka_assets"
    missing = [name for name in ("assets.xml", "chain.xml", "actuator.xml") if not (folder / name).is_file()]
    if missing:
        raise UsageError(f"expected {', '.join(missing)} in {folder} (gymnasium-robotics 1.4.2), got none; {INSTALL}")
    return folder


@functools.lru_cache(maxsize=32)
def build(scenery: str, size: int = 512) -> Any:
    """Return the ``MjModel`` of the scene with the bodies of ``scenery`` (MJCF, inside ``worldbody``).

    Args:
        scenery: bodies of the task; those with ``mocap="true"`` are placed by the task, others are moved by physics.
        size: largest width and height in pixels of a picture.

    Raises:
        UsageError: a package is missing.
    """
    mujoco = load_mujoco()
    text = _SCENE.format(arm=arm_folder().as_posix(), timestep=TIMESTEP, scenery=scenery, size=size)
    spec = mujoco.MjSpec.from_string(text)
    names = {f"panda0_link{i}" for i in range(8)}
    for body in spec.bodies:
        if body.name in names or "finger" in body.name:
            body.gravcomp = 1.0
    for geom in spec.geoms:
        if geom.meshname.endswith("_col"):
            # The coarse meshes carry the mass; they are drawn in place of the fine ones. Only the hand touches.
            geom.group, geom.rgba = 1, [0.93, 0.94, 0.92, 1.0]
            geom.contype, geom.conaffinity = int(geom.meshname == "hand_col"), 0
        elif geom.meshname.endswith("_viz") and not geom.meshname.startswith("finger"):
            geom.group = 4
    for joint in spec.joints:
        if joint.name in JOINTS:
            joint.damping, joint.armature = (60.0 if joint.name in JOINTS[:4] else 8.0), 0.1
        elif joint.name in FINGERS:
            joint.damping, joint.armature = 30.0, 0.5
    hand = next(body for body in spec.bodies if body.name == HAND)
    # Between the fingers and behind them: both finger tips and what they approach are in the picture.
    hand.add_camera(name="wrist", pos=[0.05, -0.05, 0.11], quat=[0.0, 0.92388, 0.382683, 0.0], fovy=75)
    return spec.compile()
