"""``house-multi-object-nav``: a sequence of goals in one house; classes recur, so a map pays (MultiON's metrics)."""

from __future__ import annotations

from embodied_mem.evaluation.suite import Suite
from embodied_mem.evaluation.suites._house import house_tasks
from embodied_mem.registry import register

ENV = "embodied_mem/House-MultiObjectNav-v0"
ABOUT = "several goals one after another in one house; classes recur, so remembering places pays"


@register("suite", "house-multi-object-nav", about=ABOUT)
def house_multi_object_nav() -> Suite:
    """Return the suite."""
    tasks = house_tasks(ENV, "multion", (None, None, None, None), success_distance=1.0)
    return Suite("house-multi-object-nav", ABOUT, tasks, controls=("none", "wiped:20", "shuffled", "oracle"))
