"""Tabletop tests need MuJoCo and the package that brings the arm; where one is missing they are skipped."""

import importlib
import importlib.util

import pytest

TASKS = {
    "RememberColor3": "recall",
    "RememberColor5": "recall",
    "RememberColor9": "recall",
    "RememberShape": "recall",
    "ShellGame": "shell_game",
    "Intercept": "intercept",
    "SequencePress": "sequence_press",
    "CountPress": "count_press",
    "ReopenDrawer": "reopen_drawer",
    "PutBlockBack": "put_block_back",
    "RearrangeBlock": "rearrange_block",
    "ReturnToStart": "return_to_start",
}


def need_packages():
    """Skip where a package is missing; none is imported, since that must happen after the choice of OpenGL."""
    for name in ("mujoco", "gymnasium_robotics"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name} (envs-mujoco)")


@pytest.fixture(autouse=True)
def needed():
    need_packages()


def batched(task):
    """Return the batched class of a task by its name."""
    module = importlib.import_module(f"embodied_mem.envs.tabletop.tasks.{TASKS[task]}")
    return getattr(module, f"Batched{task}")


@pytest.fixture
def make():
    return lambda task, n, **kwargs: batched(task)(n, autoreset_mode="Disabled", **kwargs)
