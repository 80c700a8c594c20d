"""Peer of bench ``sim``: Memory Maze 9x9 at its own 64 x 64 rgb, over EGL."""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from collections.abc import Callable

import numpy as np

from embodied_mem.experiments.bench.sim_peers import serve


def make() -> Callable[[], None]:
    """Return a function that plays one step; the observation holds the picture."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    found = importlib.util.find_spec("memory_maze")
    # The package's own __init__ wants the old gym; its tasks do not.
    package = types.ModuleType("memory_maze")
    package.__path__ = list(found.submodule_search_locations or []) if found else []
    sys.modules["memory_maze"] = package
    from memory_maze import tasks

    env = tasks.memory_maze_9x9(seed=0)
    env.reset()
    draw = np.random.default_rng(0)

    def step() -> None:
        if env.step(int(draw.integers(6))).last():
            env.reset()

    return step


if __name__ == "__main__":
    serve(make)
