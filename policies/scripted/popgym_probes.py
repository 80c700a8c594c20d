"""Oracles of the probes with POPGym's rules: they read the hidden state and play as well as it allows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from embodied_mem.policies.scripted.probes import ProbeOracle
from embodied_mem.registry import register

ANSWERS = ("suit_target", "count_target", "rank_target")


@register(
    "agent",
    "card-oracle",
    oracle_for=("embodied_mem/Autoencode-v0", "embodied_mem/CountRecall-v0", "embodied_mem/HigherLower-v0"),
    about="best play of Autoencode, CountRecall and HigherLower",
)
class CardOracle(ProbeOracle):
    """Gives the right answer."""

    def choose(self, facts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the right answer (B,) int64, 0 where nothing is asked yet."""
        return np.maximum(next(facts[name] for name in ANSWERS if name in facts), 0)


@register(
    "agent",
    "concentration-oracle",
    oracle_for=("embodied_mem/Concentration-v0",),
    about="finds a pair with every two cards of Concentration",
)
class ConcentrationOracle(ProbeOracle):
    """Turns the first card that is left, then its first partner."""

    def choose(self, facts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return places (B,) int64."""
        deck, first = facts["concentration_deck"], facts["concentration_first"]
        rows = np.arange(len(deck))
        left = ~facts["concentration_up"]
        partner = left & (deck == deck[rows, first][:, None])
        partner[rows, first] = False
        return np.where(first >= 0, partner.argmax(axis=1), left.argmax(axis=1))


@register(
    "agent",
    "bandit-oracle",
    oracle_for=("embodied_mem/MultiarmedBandit-v0",),
    about="pulls the best arm of MultiarmedBandit",
)
class BanditOracle(ProbeOracle):
    """Pulls the arm that pays most often."""

    def choose(self, facts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return arms (B,) int64."""
        return facts["bandit_chance"].argmax(axis=1)
