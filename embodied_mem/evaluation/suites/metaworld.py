"""``metaworld-mt10``, ``-mt50``, ``-ml10``, ``-ml10-train``: Meta-World's sets of tasks (Yu et al. 2019).

Protocol of the package's own evaluation: 50 episodes per task, at most 500 steps, success at any step ends the episode.
MT sets show the goal's place, ML sets hide it. Objects and goals are drawn per episode, not from a list of fifty.
``ml10`` are the five test tasks, ``ml10-train`` the ten training tasks. The published meta-learning score lets the
agent adapt in some episodes of each test task first, which is not done here, so it is no few-shot score.
"""

from __future__ import annotations

from collections.abc import Sequence

from embodied_mem.envs.adapters.metaworld_texts import INSTRUCTIONS, ML10_TEST, ML10_TRAIN, MT10
from embodied_mem.evaluation.suite import Suite, Task
from embodied_mem.registry import register

ENV, EPISODES, SEEDS = "embodied_mem/MetaWorld-v0", 50, (0,)
CONTROLS = ("none", "wiped:20", "oracle")
AGENT_OPTIONS = ("sensors", "width", "height")
MT10_ABOUT = "Meta-World MT10: ten tasks of a Sawyer arm, goal shown"
MT50_ABOUT = "Meta-World MT50: fifty tasks of a Sawyer arm, goal shown"
ML10_ABOUT = "Meta-World ML10: its five test tasks, goal hidden"
ML10_TRAIN_ABOUT = "Meta-World ML10: its ten training tasks, goal hidden"


def _task(name: str, goal: str) -> Task:
    return Task(
        ENV,
        "probe",
        variant=name,
        kwargs={"task": name, "goal": goal},
        agent_options=AGENT_OPTIONS,
        home_keys=("task",),
    )


def _suite(name: str, about: str, tasks: Sequence[Task]) -> Suite:
    return Suite(name, about, tuple(tasks), episodes=EPISODES, seeds=SEEDS, controls=CONTROLS, num_envs=4)


@register("suite", "metaworld-mt10", about=MT10_ABOUT)
def metaworld_mt10() -> Suite:
    """Return the suite."""
    return _suite("metaworld-mt10", MT10_ABOUT, [_task(name, "shown") for name in MT10])


@register("suite", "metaworld-mt50", about=MT50_ABOUT)
def metaworld_mt50() -> Suite:
    """Return the suite."""
    return _suite("metaworld-mt50", MT50_ABOUT, [_task(name, "shown") for name in INSTRUCTIONS])


@register("suite", "metaworld-ml10", about=ML10_ABOUT)
def metaworld_ml10() -> Suite:
    """Return the suite."""
    return _suite("metaworld-ml10", ML10_ABOUT, [_task(name, "hidden") for name in ML10_TEST])


@register("suite", "metaworld-ml10-train", about=ML10_TRAIN_ABOUT)
def metaworld_ml10_train() -> Suite:
    """Return the suite."""
    return _suite("metaworld-ml10-train", ML10_TRAIN_ABOUT, [_task(name, "hidden") for name in ML10_TRAIN])
