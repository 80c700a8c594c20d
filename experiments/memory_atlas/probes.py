"""The probes of the atlas: what is trained, what is played, between which scores, and which ability it shows.

The one place where a probe is tied to abilities. A probe is trained with PPO under settings that are the same for every
memory; its score is linear in the return, 0 at the memoryless optimum and 1 at the oracle (`envs/registration.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from embodied_mem.errors import UsageError, nearest

ABILITIES: dict[str, str] = {
    "retention": "keep one fact for a whole episode",
    "capacity": "keep several facts in order",
    "rewriting": "replace what has become void",
    "selectivity": "keep what matters, ignore the rest",
    "long horizon": "keep a fact ten times longer than in training",
    "association": "find a value by its key",
    "counting": "sum up over an episode",
}
WIDTH = 64
"""Width of encoder and memory output in every run."""

_JUDGED_AT_ONCE: dict[str, Any] = {"lr": 3e-3, "gamma": 0.0, "num_envs": 128, "fragment": 32}
_JUDGED_LATER: dict[str, Any] = {"lr": 1e-3, "gamma": 0.99, "num_envs": 64, "fragment": 64}


@dataclass(frozen=True)
class Probe:
    """One probe of the atlas."""

    name: str
    """What the command line calls it."""
    env: str
    """Gymnasium id."""
    abilities: tuple[str, ...]
    """Keys of `ABILITIES` that its score counts for."""
    memoryless: float
    """Mean return of the best policy without memory: score 0."""
    oracle: float
    """Mean return of the best policy that reads the hidden state: score 1."""
    about: str
    """One line for lists and the page."""
    train: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment in training."""
    play: Mapping[str, Any] | None = None
    """Keyword arguments of the environment in the final episodes; None: as in training."""
    settings: Mapping[str, Any] = field(default_factory=lambda: _JUDGED_AT_ONCE)
    """Keys of `policies.rllib.config.TrainConfig`."""

    @property
    def played(self) -> Mapping[str, Any]:
        """Keyword arguments of the environment in the final episodes."""
        return self.train if self.play is None else self.play

    def score(self, value: float) -> float:
        """Return the score of a return; not clipped, so that worse than memoryless is below 0."""
        return (value - self.memoryless) / (self.oracle - self.memoryless)


PROBES: dict[str, Probe] = {
    probe.name: probe
    for probe in (
        Probe(
            "repeat_first",
            "embodied_mem/RepeatFirst-v0",
            ("retention",),
            -0.499,
            1.0,
            "name the first card of 52 at every step",
            {"difficulty": "easy"},
        ),
        Probe(
            "repeat_previous",
            "embodied_mem/RepeatPrevious-v0",
            ("capacity",),
            -0.490,
            1.0,
            "name the card seen three cards ago",
            {"difficulty": "easy"},
        ),
        Probe(
            "associative_recall",
            "embodied_mem/AssociativeRecall-v0",
            ("association", "rewriting"),
            0.125,
            1.0,
            "six keys, four of ten writes replace a value; name the latest value of each key",
        ),
        Probe(
            "grammar_stream",
            "embodied_mem/GrammarStream-v0",
            ("selectivity",),
            0.5,
            1.0,
            "tell symbols that the grammar allows from gaps, which must not enter the context",
        ),
        Probe(
            "tmaze_500",
            "embodied_mem/TMaze-v0",
            ("long horizon",),
            0.5,
            1.0,
            "carry a cue down a corridor of 500 steps, trained on 1 to 50",
            {"variant": "passive", "length": 50, "min_length": 1},
            # Without the penalty for standing still the return is the success, so that the score cannot fall below -1.
            {"variant": "passive", "length": 500, "lag_penalty": 0.0},
            _JUDGED_LATER,
        ),
        Probe(
            "count_recall",
            "embodied_mem/CountRecall-v0",
            ("counting",),
            -0.923,
            1.0,
            "say how many cards of the asked colour have been dealt",
            {"difficulty": "easy"},
        ),
        Probe(
            "autoencode",
            "embodied_mem/Autoencode-v0",
            ("capacity",),
            -0.471,
            1.0,
            "watch 52 cards, then name their suits in reverse order",
            {"difficulty": "easy"},
        ),
        # Without memory every junction is a fair guess: E(n) = (1 + E(n - 1)) / 2 - 0.01 / 2, E(3) = 0.866.
        Probe(
            "endless_tmaze",
            "embodied_mem/EndlessTMaze-v0",
            ("rewriting",),
            0.866,
            3.0,
            "three corridors, each with a new cue that makes the old one void",
            settings=_JUDGED_LATER,
        ),
    )
}


def find(name: str) -> Probe:
    """Return the probe of this name.

    Raises:
        UsageError: there is none; the nearest name and the list are in the message.
    """
    if name not in PROBES:
        raise UsageError(f"unknown probe {name!r}{nearest(name, PROBES)}; available: {', '.join(PROBES)}")
    return PROBES[name]


def list_probes() -> list[dict[str, Any]]:
    """Return name, abilities, environment and bounds of every probe of the atlas."""
    return [
        {
            "name": probe.name,
            "about": probe.about,
            "abilities": list(probe.abilities),
            "env": probe.env,
            "memoryless": probe.memoryless,
            "oracle": probe.oracle,
        }
        for probe in PROBES.values()
    ]
