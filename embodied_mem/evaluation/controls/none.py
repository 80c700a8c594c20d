"""``none``: the same preset trained without memory. What it scores, the task gives away without remembering."""

from __future__ import annotations

from embodied_mem.evaluation.controls.contract import Control
from embodied_mem.registry import register


@register("control", "none", about="the same preset trained with memory 'none'")
class NoMemory(Control):
    """Played by the bundle of ``--none DIR``, or by the one found beside the checkpoint."""

    stand_in = "none"
