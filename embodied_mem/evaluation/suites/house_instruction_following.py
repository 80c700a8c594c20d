"""``house-instruction-following``: landmarks in the order of an instruction; nothing observed tells which is next.

The chance of a level is an upper bound: the success of an agent without memory that finds every landmark and draws lots
whether to call it (`envs.house.tasks.instruction_following`).
"""

from __future__ import annotations

from math import exp

from embodied_mem.evaluation.suite import Suite
from embodied_mem.evaluation.suites._house import house_tasks
from embodied_mem.registry import register

ENV = "embodied_mem/House-InstructionFollowing-v0"
ABOUT = "landmarks in the order of an instruction, Done at each; nothing observed tells which is next"
LANDMARKS = (3, 4, 5, 6)
"""Per level."""


@register("suite", "house-instruction-following", about=ABOUT)
def house_instruction_following() -> Suite:
    """Return the suite."""
    chances = [exp(1 - count) for count in LANDMARKS]
    tasks = house_tasks(ENV, "instruction", chances, success_distance=1.0)
    return Suite("house-instruction-following", ABOUT, tasks, controls=("none", "wiped:20", "shuffled", "oracle"))
