"""A success and a typical failure of the agent, played again for reports from the actions that were kept.

What is kept of every episode is its actions. A block's first success and, of its failures, the one of median length are
played again in an environment of one row, which depends on seed and episode number alone, and traced.
"""

from __future__ import annotations

from contextlib import closing

import numpy as np

from embodied_mem.evaluation.casting import make_env
from embodied_mem.evaluation.plan import Block
from embodied_mem.evaluation.runner import Record
from embodied_mem.evaluation.suite import SEED_BASE
from embodied_mem.evaluation.traces import TraceWatcher


class Outcomes:
    """Actions of the episodes of a block."""

    def __init__(self) -> None:
        """Keep nothing yet."""
        self.kept: list[tuple[Record, np.ndarray]] = []

    def keep(self, record: Record, actions: np.ndarray) -> None:
        """Keep the ``actions`` (T, ...) of an episode with its record."""
        self.kept.append((record, actions))

    def chosen(self, limit: int) -> list[tuple[Record, np.ndarray]]:
        """Return the first success and the failure of median length, unless one is among the first ``limit``."""
        found = []
        for outcome in (1.0, 0.0):
            those = [item for item in self.kept if item[0]["metrics"].get("success") == outcome]
            if not those or any(record["episode"] < limit for record, _ in those):
                continue
            key = "episode" if outcome else "length"
            those.sort(key=lambda item: (item[0][key], item[0]["episode"]))
            found.append(those[0 if outcome else len(those) // 2])
        return found


def replay(block: Block, record: Record, actions: np.ndarray, watcher: TraceWatcher) -> bool:
    """Play an episode again under the eyes of ``watcher``; return False where it went otherwise, and nothing is traced.

    Args:
        block: the block that it is of.
        record: of the episode.
        actions: (T, ...) that were played.
        watcher: writes the trace.
    """
    with closing(make_env(block.task, 1)) as env:
        options = {"reset_mask": np.ones(1, bool), "episode": np.array([record["episode"]], np.int64)}
        obs, _ = env.reset(seed=SEED_BASE + block.seed, options=options)
        watcher.begin(0, record["episode"], env)
        score = 0.0
        for action in actions:
            seen = obs
            obs, reward, terminated, truncated, _ = env.step(action[None])
            score += float(reward[0])
            watcher.step(0, env, seen, action, {}, float(reward[0]))
        if abs(score - record["return"]) > 1e-6 or bool(terminated[0]) != record["terminated"]:
            watcher.drop(0)
            return False
        watcher.end(0, env, record)
    return True
