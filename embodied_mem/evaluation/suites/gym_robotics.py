"""``gymnasium-robotics``: the four Fetch tasks (Plappert et al. 2018) and three point mazes.

Fetch: 50 steps, and what holds at the last of them counts. Mazes end at the goal. The source reports the median success
of test rollouts in training; 100 episodes per task here.
"""

from __future__ import annotations

from embodied_mem.envs.adapters.gym_robotics import TASKS
from embodied_mem.evaluation.suite import Suite, Task
from embodied_mem.registry import register

ENV, EPISODES, SEEDS = "embodied_mem/GymRobotics-v0", 100, (0,)
ABOUT = "gymnasium-robotics: Fetch reach, push, slide, pick-and-place, and point mazes"


@register("suite", "gymnasium-robotics", about=ABOUT)
def gymnasium_robotics() -> Suite:
    """Return the suite."""
    tasks = tuple(
        Task(
            ENV,
            "probe",
            variant=name,
            kwargs={"task": name},
            agent_options=("sensors", "width", "height"),
            home_keys=("task",),
        )
        for name in TASKS
    )
    return Suite(
        "gymnasium-robotics",
        ABOUT,
        tasks,
        episodes=EPISODES,
        seeds=SEEDS,
        controls=("none", "wiped:20"),
        num_envs=4,
    )
