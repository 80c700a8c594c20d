"""Whether pictures can be drawn: asked before a package's own renderer, which ends the process where they cannot."""

from __future__ import annotations

from embodied_mem.envs.tabletop.model import load_mujoco
from embodied_mem.errors import UsageError


def need_opengl() -> None:
    """Draw nothing, once.

    Raises:
        UsageError: no OpenGL context can be made; what helps is in the message.
    """
    mujoco = load_mujoco()
    try:
        mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), 8, 8).close()
    except Exception as error:  # OpenGL libraries raise all kinds of exceptions
        raise UsageError(
            f"cannot draw pictures: {type(error).__name__}: {error}; set MUJOCO_GL=egl or MUJOCO_GL=osmesa before "
            "mujoco is imported, and install libegl1 or libosmesa6"
        ) from error
