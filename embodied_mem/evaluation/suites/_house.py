"""What the House suites share: sensors follow the agent, houses of the test split, one task per level."""

from __future__ import annotations

from collections.abc import Sequence

from embodied_mem.evaluation.suite import Task

# Keyword arguments of House environments that describe the agent, not the task.
SENSING = ("sensors", "scan_width", "scan_range", "scan_layers", "width", "height", "hfov", "pose_noise")


def house_tasks(env: str, family: str, chances: Sequence[float | None], success_distance: float) -> tuple[Task, ...]:
    """Return one task per level of a House environment.

    Args:
        env: Gymnasium id.
        family: metric family.
        chances: success without memory at each level, None where it is not known.
        success_distance: metres within which a goal counts as reached.
    """
    return tuple(
        Task(
            env,
            family,
            variant=f"level-{level}",
            kwargs={"level": level},
            view_options={"render_mode": "rgb_array", "width": 128, "height": 128},
            splits={"train": {"split": "train"}, "test": {"split": "test"}},
            agent_options=SENSING,
            home_keys=("level",),
            chance=chance,
            success_distance=success_distance,
        )
        for level, chance in enumerate(chances)
    )
