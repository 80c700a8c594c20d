"""``mikasa-robo``: the tasks of MIKASA-Robo that memory policies are compared on and that its wheel can play.

MemoryVLA's table has five: ShellGameTouch, InterceptMedium, RememberColor3, 5 and 9. ShellGameTouch needs meshes that
are a download of their own, so it is left out and no five-task mean is given: the mean of a result is over four tasks.
Episodes, control of the hand and held phases are those of the package's own evaluation.

No success of chance is stated: success counts at any step, so an arm that goes from cube to cube without knowing the
cue can score more than one in K (``--agent memoryless-oracle`` measures it).
"""

from __future__ import annotations

from embodied_mem.envs.adapters.mikasa_robo import WITHOUT_ASSETS
from embodied_mem.evaluation.suite import Suite, Task
from embodied_mem.registry import register

ENV, EPISODES, SEEDS = "embodied_mem/MikasaRobo-v0", 50, (0,)
TASKS = {
    "InterceptMedium-VLA-v0": 60,
    "RememberColor3-VLA-v0": 25,
    "RememberColor5-VLA-v0": 25,
    "RememberColor9-VLA-v0": 25,
}
"""Task -> steps of an episode."""
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
            agent_options=("sensors", "width", "height", "control", "hold", "objects"),
            home_keys=("task",),
        )
        for name, horizon in TASKS.items()
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
