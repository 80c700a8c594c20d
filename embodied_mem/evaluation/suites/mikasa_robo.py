"""``mikasa-robo``: the tasks of MIKASA-Robo that memory policies are compared on and that its wheel can play.

MemoryVLA's table has five: ShellGameTouch, InterceptMedium, RememberColor3, 5 and 9. ShellGameTouch needs meshes that
are a download of their own, so it is left out and no five-task mean is given: the mean of a result is over four tasks.
"""

from __future__ import annotations

from embodied_mem.envs.adapters.mikasa_robo import WITHOUT_ASSETS
from embodied_mem.evaluation.suite import Suite, Task
from embodied_mem.registry import register

ENV, EPISODES, SEEDS = "embodied_mem/MikasaRobo-v0", 100, (0,)
TASKS: dict[str, tuple[int, float | None]] = {
    "InterceptMedium-VLA-v0": (60, None),
    "RememberColor3-VLA-v0": (25, 1 / 3),
    "RememberColor5-VLA-v0": (25, 1 / 5),
    "RememberColor9-VLA-v0": (25, 1 / 9),
}
"""Task -> steps of an episode, success of the best play without memory where the rules say it."""
ABOUT = "MIKASA-Robo: InterceptMedium and RememberColor3/5/9 (VLA forms); ShellGameTouch needs meshes"
NOTES = (
    f"ShellGameTouch-VLA-v0 is skipped: {WITHOUT_ASSETS['ShellGame']}",
    "the mean is over the tasks played; it is not the published mean of five tasks",
)


@register("suite", "mikasa-robo", about=ABOUT)
def mikasa_robo() -> Suite:
    """Return the suite."""
    tasks = tuple(
        Task(
            ENV,
            "probe",
            variant=name,
            kwargs={"task": name, "horizon": horizon},
            agent_options=("sensors", "width", "height", "control"),
            home_keys=("task",),
            chance=chance,
        )
        for name, (horizon, chance) in TASKS.items()
    )
    return Suite(
        "mikasa-robo",
        ABOUT,
        tasks,
        episodes=EPISODES,
        seeds=SEEDS,
        controls=("none", "wiped:5"),
        num_envs=1,
        notes=NOTES,
    )
