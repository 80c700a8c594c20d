"""House-HideAndRecall-v0: an item is put into one of K containers before the agent's eyes; later it must fetch it.

See `recall` for the rules. Level 0: one bare room, a container on every wall, a short wait. Level 1: a larger furnished
room, containers anywhere, a longer wait, and the choice begins anywhere. Levels 2 and 3: generated houses of several
rooms.
"""

from __future__ import annotations

from typing import ClassVar

from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.house.tasks.recall import RecallEnv
from embodied_mem.envs.house.tasks.recall_level import RecallLevel


class BatchedHideAndRecall(RecallEnv):
    """N rows of House-HideAndRecall-v0."""

    task: ClassVar[str] = "hide-and-recall"
    levels: ClassVar[tuple[RecallLevel, ...]] = (
        RecallLevel(looks=4, one_per_wall=True, central=True, facing=0.5),
        RecallLevel(side=(4.5, 5.5), clutter=2, wait=(10, 30), choice_steps=50, facing=0.5, shaping=0.1),
        RecallLevel(rooms=(2, 3), containers=6, wait=(40, 100), choice_steps=150),
        RecallLevel(rooms=(4, 4), containers=8, wait=(100, 300), choice_steps=250),
    )


class HideAndRecall(SingleEnv):
    """House-HideAndRecall-v0 as a plain Gymnasium environment."""

    batched = BatchedHideAndRecall
