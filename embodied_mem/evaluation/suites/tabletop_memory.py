"""``tabletop-memory``: a robot arm and twelve tasks that it can only do by remembering, at level 0.

Success is decided by one deed (a touch, a press, a block let go), so that no trying out replaces memory.
"""

from __future__ import annotations

from embodied_mem.evaluation.suite import Suite
from embodied_mem.evaluation.suites._tabletop import tabletop_suite
from embodied_mem.registry import register

ABOUT = "a robot arm under MuJoCo, twelve memory tasks, level 0: short delays (0.5 s)"


@register("suite", "tabletop-memory", about=ABOUT)
def tabletop_memory() -> Suite:
    """Return the suite."""
    return tabletop_suite("tabletop-memory", ABOUT, 0)
