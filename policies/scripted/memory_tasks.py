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
