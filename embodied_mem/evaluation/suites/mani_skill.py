"""``maniskill``: six table-top tasks of ManiSkill 3 with their registered horizons; 100 episodes per task.

Control is ``pd_ee_delta_pose`` for all, CPU simulation. ManiSkill gives no language: the words are ours.
"""

from __future__ import annotations

from embodied_mem.evaluation.suite import Suite, Task
from embodied_mem.registry import register

ENV, EPISODES, SEEDS = "embodied_mem/ManiSkill-v0", 100, (0,)
TASKS: dict[str, tuple[int, str]] = {
    "PickCube-v1": (50, "lift the cube and bring it to the goal"),
    "PushCube-v1": (50, "push the cube to the goal"),
    "StackCube-v1": (50, "put the red cube onto the green cube"),
    "PullCube-v1": (50, "pull the cube to the goal"),
    "PegInsertionSide-v1": (100, "put the peg into the hole of the box"),
    "PlugCharger-v1": (200, "plug the charger into the socket"),
}
"""Task -> steps of an episode, instruction."""
ABOUT = "ManiSkill 3: pick, push, stack, pull, insert, plug (CPU simulation)"


@register("suite", "maniskill", about=ABOUT)
def maniskill() -> Suite:
    """Return the suite."""
    tasks = tuple(
        Task(
            ENV,
            "probe",
            variant=name,
            kwargs={"task": name, "horizon": horizon, "instruction": text},
            agent_options=("sensors", "width", "height", "control"),
            home_keys=("task",),
        )
        for name, (horizon, text) in TASKS.items()
    )
    return Suite(
        "maniskill",
        ABOUT,
        tasks,
        episodes=EPISODES,
        seeds=SEEDS,
        controls=("none", "wiped:20"),
        num_envs=1,
    )
