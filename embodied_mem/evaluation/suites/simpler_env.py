"""``simpler-bridge``: SimplerEnv's four Bridge tasks (Li et al. 2024); each of 24 listed layouts is played once."""

from __future__ import annotations

from embodied_mem.envs.adapters.simpler_env import LAYOUTS, TASKS
from embodied_mem.evaluation.suite import Suite, Task
from embodied_mem.registry import register

ENV, EPISODES, SEEDS = "embodied_mem/SimplerEnv-v0", LAYOUTS, (0,)
ABOUT = "SimplerEnv: the four Bridge tasks of a WidowX arm, 24 layouts each"


@register("suite", "simpler-bridge", about=ABOUT)
def simpler_bridge() -> Suite:
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
    return Suite("simpler-bridge", ABOUT, tasks, episodes=EPISODES, seeds=SEEDS, controls=controls, num_envs=1)
