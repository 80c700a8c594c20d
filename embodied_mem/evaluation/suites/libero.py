"""``libero-spatial``, ``-object``, ``-goal``, ``-10``, ``-90``: LIBERO's suites (Liu et al. 2023).

Protocol of the public evaluations of vision-language-action policies: 50 episodes per task from the listed initial
states, ten idle steps first, horizons 220, 280, 300, 520, 400.
"""

from __future__ import annotations

from collections.abc import Callable

from embodied_mem.envs.adapters.libero import STATES, SUITES
from embodied_mem.evaluation.suite import Suite, Task
from embodied_mem.registry import register

ENV, EPISODES, SEEDS = "embodied_mem/Libero-v0", STATES, (0,)


def _builder(name: str, suite: str, about: str) -> Callable[[], Suite]:
    def build() -> Suite:
        count, _ = SUITES[suite]
        tasks = tuple(
            Task(
                ENV,
                "probe",
                variant=f"{suite}-{number}",
                kwargs={"suite": suite, "task_number": number},
                agent_options=("sensors", "width", "height"),
                home_keys=("suite", "task_number"),
            )
            for number in range(count)
        )
        controls = ("none", "wiped:20")
        return Suite(name, about, tasks, episodes=EPISODES, seeds=SEEDS, controls=controls, num_envs=1)

    return build


for _suite, (_count, _horizon) in SUITES.items():
    _name = _suite.replace("_", "-")
    _about = f"LIBERO: {_name}, {_count} tasks, {_horizon} steps"
    register("suite", _name, about=_about)(_builder(_name, _suite, _about))
