"""``robosuite``: five single-arm tasks with a Panda and the operational-space controller; horizon 500, 50 episodes."""

from __future__ import annotations

from embodied_mem.envs.adapters.robosuite import TASKS
from embodied_mem.evaluation.suite import Suite, Task
from embodied_mem.registry import register

ENV, EPISODES, SEEDS = "embodied_mem/Robosuite-v0", 50, (0,)
ABOUT = "robosuite: lift, stack, can, square nut, door (Panda, operational-space control)"


@register("suite", "robosuite", about=ABOUT)
def robosuite() -> Suite:
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
    controls = ("none", "wiped:20")
    return Suite("robosuite", ABOUT, tasks, episodes=EPISODES, seeds=SEEDS, controls=controls, num_envs=2)
