"""``house-hide-and-recall``: an item is put into one of K containers before the agent's eyes; later it must be fetched.

Chance is 1/K: the first container opened ends the episode, and the choice begins at a pose drawn independently of the
answer. Levels set K, the length of the distraction and the number of rooms.
"""

from __future__ import annotations

from embodied_mem.evaluation.suite import Suite
from embodied_mem.evaluation.suites._house import house_tasks
from embodied_mem.registry import register

ENV = "embodied_mem/House-HideAndRecall-v0"
ABOUT = "an item is put into one of K shut containers; later the first one opened decides"
CHANCES = (1 / 4, 1 / 4, 1 / 6, 1 / 8)


@register("suite", "house-hide-and-recall", about=ABOUT)
def house_hide_and_recall() -> Suite:
    """Return the suite."""
    tasks = house_tasks(ENV, "goal_nav", CHANCES, success_distance=1.5)
    return Suite("house-hide-and-recall", ABOUT, tasks, controls=("none", "wiped:5", "shuffled", "oracle"))
