"""Pictures of the table: rgb, metric depth and semantic classes of the cameras ``front`` and ``wrist``, off screen.

MuJoCo draws through OpenGL without a window (EGL, or OSMesa with ``MUJOCO_GL=osmesa``). Shadows, reflections and
multi-sampling are off: on a software rasteriser they cost far more than everything else together. Rows are drawn one
after another in one context; processes, not threads, make it faster.
"""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from embodied_mem.envs.tabletop.model import HAND
from embodied_mem.envs.tabletop.physics import Physics
from embodied_mem.errors import UsageError

NOTHING, TABLE, ARM, FIRST = range(4)
"""Semantic classes; the bodies of the task follow from `FIRST` on, in the order of its scenery."""
FRAME = 256
"""Pixels of a frame of `render`."""


class Camera:
    """Draws the rows of a `Physics`; the context is made at the first picture and not pickled."""

    def __init__(self, physics: Physics, width: int, height: int) -> None:
        """Draw pictures of ``width`` x ``height`` pixels."""
        self.physics, self.width, self.height = physics, width, height
        self._renderers: dict[tuple[int, int], Any] = {}
        self._kept: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy needs."""
        return {**self.__dict__, "_renderers": {}, "_kept": None}

    def intrinsics(self, camera: str) -> np.ndarray:
        """Return fx, fy, cx, cy (4,) float32 in pixels."""
        focal = self.height / 2.0 / np.tan(np.radians(self.physics.model.camera(camera).fovy[0]) / 2.0)
        return np.array([focal, focal, self.width / 2.0, self.height / 2.0], dtype=np.float32)

    def classes(self) -> dict[str, int]:
        """Return the semantic class of every body of the task, by name."""
        model = self.physics.model
        names = [model.body(i).name for i in range(1, model.nbody)]
        return {name: FIRST + i for i, name in enumerate(name for name in names if "panda" not in name)}

    def draw(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return pictures of all rows: ``rgb`` (N, H, W, 3) uint8, ``depth`` (N, H, W) float32 in metres, ``semantic``
        (N, H, W) int32; with ``_wrist`` behind the name those of the hand's camera.
        """
        n, h, w = len(self.physics.state), self.height, self.width
        shapes = {name: (n, h, w, 3) if name.startswith("rgb") else (n, h, w) for name in names}
        pictures: dict[str, np.ndarray] = {name: np.empty(shape, _type(name)) for name, shape in shapes.items()}
        renderer = self._renderer(w, h)
        for row in range(n):
            data = self._pose(row)
            for camera in ("front", "wrist"):
                wanted = [name for name in names if name.endswith("_wrist") == (camera == "wrist")]
                if not wanted:
                    continue
                renderer.update_scene(data, camera, self._option)
                for name in wanted:
                    pictures[name][row] = self._pass(renderer, name)
        return pictures

    def frame(self, row: int) -> np.ndarray:
        """Return one row as the front camera sees it, (256, 256, 3) uint8."""
        renderer = self._renderer(FRAME, FRAME)
        renderer.update_scene(self._pose(row), "front", self._option)
        return renderer.render().copy()

    def close(self) -> None:
        """Release the contexts."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers = {}

    def _pass(self, renderer: Any, name: str) -> np.ndarray:
        if name.startswith("depth"):
            renderer.enable_depth_rendering()
            picture = renderer.render()
            renderer.disable_depth_rendering()
            return picture
        if name.startswith("semantic"):
            renderer.enable_segmentation_rendering()
            geoms = renderer.render()[:, :, 0]
            renderer.disable_segmentation_rendering()
            return self._class_of[geoms]
        return renderer.render()

    def _renderer(self, width: int, height: int) -> Any:
        import mujoco

        if self._kept is None:
            self._kept = mujoco.MjData(self.physics.model)
            self._option = mujoco.MjvOption()
            self._option.geomgroup[:] = (1, 1, 1, 0, 0, 0)
            self._class_of = self._table()
        if (width, height) not in self._renderers:
            if not self._renderers:
                # Contexts must go before MuJoCo ends EGL, which it does at exit too; last registered is first called.
                atexit.register(_close, weakref.ref(self))
            try:
                self._renderers[(width, height)] = mujoco.Renderer(self.physics.model, height, width)
            except Exception as error:  # OpenGL libraries raise all kinds of exceptions
                raise UsageError(
                    f"cannot draw pictures: {type(error).__name__}: {error}; set MUJOCO_GL=egl or MUJOCO_GL=osmesa "
                    "before mujoco is imported, and install libegl1 or libosmesa6"
                ) from error
        return self._renderers[(width, height)]

    def _pose(self, row: int) -> Any:
        import mujoco

        data, model = self._kept, self.physics.model
        data.qpos[:] = self.physics.qpos[row]
        data.mocap_pos[:] = self.physics.mocap[row]
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_camlight(model, data)
        return data

    def _table(self) -> np.ndarray:
        """Return the (geoms + 1,) class of every geom; the last entry is that of index -1, the background."""
        model, classes = self.physics.model, self.classes()
        table = np.full(model.ngeom + 1, NOTHING, dtype=np.int32)
        for geom in range(model.ngeom):
            body = model.body(int(model.geom_bodyid[geom])).name
            table[geom] = classes.get(body, ARM if "panda" in body or body == HAND else TABLE)
        return table


def _close(reference: weakref.ref[Camera]) -> None:
    camera = reference()
    if camera is not None:
        camera.close()


def _type(name: str) -> type:
    return np.uint8 if name.startswith("rgb") else np.float32 if name.startswith("depth") else np.int32
