"""``oracle``: the scripted optimum that reads the privileged state. What it misses, the task does not allow."""

from __future__ import annotations

from embodied_mem.evaluation.controls.contract import Control
from embodied_mem.registry import register


@register("control", "oracle", about="scripted optimum with privileged state")
class Oracle(Control):
    """Played by the registered agent ``oracle``."""

    stand_in = "oracle"
