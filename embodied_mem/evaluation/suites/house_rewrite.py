"""``house-rewrite``: the item is moved between containers before the agent's eyes; only its latest place counts.

Chance is 1/K. An agent that keeps the first place it saw fails whenever the item does not come back to it.
"""

from __future__ import annotations

from embodied_mem.evaluation.suite import Suite
from embodied_mem.evaluation.suites._house import house_tasks
from embodied_mem.registry import register

ENV = "embodied_mem/House-Rewrite-v0"
ABOUT = "the item is moved while the agent watches; only its latest place counts"
CHANCES = (1 / 4, 1 / 4, 1 / 6, 1 / 8)


@register("suite", "house-rewrite", about=ABOUT)
def house_rewrite() -> Suite:
    """Return the suite."""
    tasks = house_tasks(ENV, "goal_nav", CHANCES, success_distance=1.5)
    return Suite("house-rewrite", ABOUT, tasks, controls=("none", "wiped:5", "shuffled", "oracle"))
