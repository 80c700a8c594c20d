"""What the tabletop suites share: every task at one level, with its success without memory."""

from __future__ import annotations

from embodied_mem.evaluation.suite import Suite, Task

CHANCES: dict[str, tuple[float, float, float]] = {
    "RememberColor3": (1 / 3, 1 / 3, 1 / 3),
    "RememberColor5": (1 / 5, 1 / 5, 1 / 5),
    "RememberColor9": (1 / 9, 1 / 9, 1 / 9),
    "RememberShape": (1 / 3, 1 / 5, 1 / 5),
    "ShellGame": (1 / 3, 1 / 3, 1 / 3),
    "Intercept": (0.2, 0.2, 0.2),
    "SequencePress": (1 / 12, 1 / 36, 1 / 324),
    "CountPress": (1 / 3, 1 / 4, 1 / 6),
    "ReopenDrawer": (1 / 3, 1 / 3, 1 / 3),
    "PutBlockBack": (1 / 4, 1 / 4, 1 / 4),
    "RearrangeBlock": (1 / 2, 1 / 2, 1 / 2),
    "ReturnToStart": (0.065, 0.065, 0.065),
}
"""Success of the best play without memory at each level."""
# Keyword arguments of the environments that describe the agent, not the task.
AGENT_OPTIONS = ("sensors", "control", "objects", "width", "height")


def tabletop_suite(name: str, about: str, level: int) -> Suite:
    """Return the suite ``name`` of all tabletop tasks at ``level``."""
    tasks = tuple(
        Task(
            f"embodied_mem/Tabletop-{task}-v0",
            "probe",
            variant=f"level-{level}",
            kwargs={"level": level},
            agent_options=AGENT_OPTIONS,
            home_keys=("level",),
            view_options={"render_mode": "rgb_array"},
            chance=chances[level],
        )
        for task, chances in CHANCES.items()
    )
    return Suite(name, about, tasks, controls=("none", "wiped:5", "shuffled", "oracle"), outcomes=True)
