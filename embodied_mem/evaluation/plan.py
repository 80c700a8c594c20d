"""What an evaluation consists of: conditions, and the blocks of episodes that are its units of work.

A block is a fixed run of episode numbers of one task, seed, condition and checkpoint, played together from a fresh
start with seeds of its own. A block therefore comes out the same in a resumed run and in a shard, also for agents that
draw at random and for the control that exchanges states between rows.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.evaluation.suite import Suite, Task

AGENT = "agent"


@dataclass(frozen=True)
class Block:
    """One unit of work."""

    task: Task
    condition: str
    """"agent" or the name of a control."""
    checkpoint: int
    """Index of the agent, 0 unless several checkpoints are evaluated."""
    seed: int
    """Episode-set seed as the user gave it."""
    episodes: range
    """Episode numbers, consecutive."""

    @property
    def key(self) -> tuple[str, str, int, int]:
        """Task, condition, checkpoint, seed: with the episode number, the identity of a record."""
        return self.task.name, self.condition, self.checkpoint, self.seed

    @property
    def draw_seed(self) -> int:
        """Seed of whatever agent and control draw; the same for every condition and checkpoint."""
        entropy = [self.seed, self.episodes.start, zlib.crc32(self.task.name.encode())]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def blocks(suite: Suite, conditions: dict[str, int], *, seeds: Sequence[int], episodes: int, block: int) -> list[Block]:
    """Return every block of an evaluation in the order in which they are played.

    Args:
        suite: narrowed suite.
        conditions: condition name to the number of agents (checkpoints) that play it.
        seeds: episode-set seeds.
        episodes: episodes per task and seed.
        block: episodes per block.
    """
    return [
        Block(task, condition, checkpoint, seed, range(start, min(start + block, episodes)))
        for task in suite.tasks
        for condition in conditions
        for checkpoint in range(conditions[condition])
        for seed in seeds
        for start in range(0, episodes, block)
    ]


def block_size(episodes: int, num_envs: int) -> int:
    """Return episodes per block: about four per row (less idling at the end), in blocks of nearly equal size."""
    return math.ceil(episodes / max(1, round(episodes / (4 * num_envs))))


@dataclass(frozen=True)
class Shard:
    """Part i of n of an evaluation (i counts from 0)."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``i/n`` with 0 <= i < n.

        Raises:
            UsageError: the text has another form.
        """
        index, slash, count = text.partition("/")
        if not slash or not index.isdigit() or not count.isdigit() or not 0 <= int(index) < int(count):
            raise UsageError(f"expected a shard i/n with 0 <= i < n (for example 0/4), got {text!r}")
        return cls(int(index), int(count))

    @property
    def folder(self) -> str:
        """Folder name of the shard inside the evaluation's folder."""
        return f"shard-{self.index}-of-{self.count}"

    def part(self, work: Sequence[Block]) -> list[Block]:
        """Return this shard's blocks: every n-th one."""
        return list(work[self.index :: self.count])
