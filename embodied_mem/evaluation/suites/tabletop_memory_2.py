"""``tabletop-memory-2``: a robot arm and twelve tasks that it can only do by remembering, at level 2.

Success is decided by one deed (a touch, a press, a block let go), so that no trying out replaces memory.
"""

from __future__ import annotations

from embodied_mem.evaluation.suite import Suite
from embodied_mem.evaluation.suites._tabletop import tabletop_suite
from embodied_mem.registry import register

ABOUT = "a robot arm under MuJoCo, twelve memory tasks, level 2: delays of 2 to 6 s, the longest sequences"


@register("suite", "tabletop-memory-2", about=ABOUT)
def tabletop_memory_2() -> Suite:
    """Return the suite."""
    return tabletop_suite("tabletop-memory-2", ABOUT, 2)
