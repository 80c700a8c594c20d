"""Oracles of the memory tasks: they read the hidden state and earn the best return."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from embodied_mem.policies.scripted.probes import ProbeOracle
from embodied_mem.registry import register


@register(
    "agent",
    "stream-oracle",
    oracle_for=tuple(f"embodied_mem/{name}-v0" for name in ("AssociativeRecall", "NParity", "DelayedMatch")),
    about="best play of the stream probes",
)
class StreamOracle(ProbeOracle):
    """Gives the right answer where one is asked."""

    def choose(self, facts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the answer, 0 where nothing is asked."""
        return np.maximum(facts["stream_answer"], 0)


@register("agent", "ballet-oracle", oracle_for=("embodied_mem/Ballet-v0",), about="best play of Ballet")
class BalletOracle(ProbeOracle):
    """Walks straight from the middle to the dancer that is asked for."""

    def choose(self, facts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the king move towards the target; all spots lie on straight lines from the middle."""
        way = np.sign(facts["ballet_target"] - facts["ballet_agent"])
        return _ACTION_OF_MOVE[way[:, 0] + 1, way[:, 1] + 1]


# By row and column of the move, each -1, 0, 1: N, NE, E, ... are 0, 1, 2, ...; no move at all gives N.
_ACTION_OF_MOVE = np.array([[7, 0, 1], [6, 0, 2], [5, 4, 3]])
