"""House-Rewrite-v0: the item is moved between containers before the agent's eyes; only its latest place counts.

See `recall` for the rules. An agent that keeps the first place it saw fails whenever the item does not come back to it.
"""

from __future__ import annotations

from typing import ClassVar

from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.house.tasks.recall import RecallEnv
from embodied_mem.envs.house.tasks.recall_level import RecallLevel


class BatchedRewrite(RecallEnv):
    """N rows of House-Rewrite-v0."""

    task: ClassVar[str] = "rewrite"
    levels: ClassVar[tuple[RecallLevel, ...]] = (
        RecallLevel(one_per_wall=True, central=True, moves=(1, 2)),
        RecallLevel(side=(4.5, 5.5), clutter=2, moves=(1, 4), wait=(10, 30), choice_steps=50),
        RecallLevel(rooms=(2, 3), containers=6, moves=(2, 6), wait=(40, 100), choice_steps=150),
        RecallLevel(rooms=(4, 4), containers=8, moves=(3, 10), wait=(100, 300), choice_steps=250),
    )


class Rewrite(SingleEnv):
    """House-Rewrite-v0 as a plain Gymnasium environment."""

    batched = BatchedRewrite
