"""``house-object-nav``: go to an object of a named class and say Done within 1.0 m with the object in view."""

from __future__ import annotations

from embodied_mem.evaluation.suite import Suite
from embodied_mem.evaluation.suites._house import house_tasks
from embodied_mem.registry import register

ENV = "embodied_mem/House-ObjectNav-v0"
ABOUT = "find an object of a named class; Done counts within 1.0 m with the object in view"


@register("suite", "house-object-nav", about=ABOUT)
def house_object_nav() -> Suite:
    """Return the suite."""
    tasks = house_tasks(ENV, "goal_nav", (None, None, None, None), success_distance=1.0)
    return Suite("house-object-nav", ABOUT, tasks, controls=("none", "wiped:20", "shuffled", "oracle"))
