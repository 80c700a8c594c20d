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


@register(
    "agent",
    "cartpole-oracle",
    oracle_for=(
        "embodied_mem/PositionOnlyCartPole-v0",
        "embodied_mem/VelocityOnlyCartPole-v0",
        "embodied_mem/NoisyPositionOnlyCartPole-v0",
    ),
    about="balances the cart-poles for as long as an episode lasts",
)
class CartPoleOracle(ProbeOracle):
    """Pushes by the sign of a weighted sum of the full state."""

    weights = np.array([0.1, 0.3, 3.0, 1.0])
    """Of x (m), its velocity, the angle (rad) and its velocity; weights near those of a linear-quadratic regulator."""

    def choose(self, facts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return 0 left or 1 right, (B,) int64."""
        return (facts["cartpole_state"] @ self.weights > 0).astype(np.int64)


@register(
    "agent",
    "pendulum-oracle",
    oracle_for=(
        "embodied_mem/PositionOnlyPendulum-v0",
        "embodied_mem/NoisyPositionOnlyPendulum-v0",
        "embodied_mem/VelocityOnlyPendulum-v0",
    ),
    about="swings the pendulum up by its energy and holds it, from the full state",
)
class PendulumOracle(ProbeOracle):
    """Pumps energy until it suffices to stand upright, then holds by a linear law."""

    torque, gravity = 2.0, 10.0

    def choose(self, facts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return torques (B, 1) float32."""
        angle, speed = facts["pendulum_state"].T
        angle = (angle + np.pi) % (2 * np.pi) - np.pi
        # Energy per unit of moment of inertia, less that of standing upright: 0 carries the pendulum just to the top.
        lacking = -(speed**2 / 2 + 1.5 * self.gravity * (np.cos(angle) - 1))
        pump = self.torque * np.sign(np.where(speed == 0, 1.0, speed)) * np.clip(lacking * 2.0, -1, 1)
        hold = -(10.0 * angle + 2.0 * speed)
        near = np.abs(angle) < 0.5
        return np.clip(np.where(near, hold, pump), -self.torque, self.torque)[:, None].astype(np.float32)


def first_place(wanted: np.ndarray) -> np.ndarray:
    """Return [row, column] (B, 2) int64 of the first True of each map (B, size, size), [0, 0] where there is none."""
    place = wanted.reshape(len(wanted), -1).argmax(axis=1)
    return np.stack(np.divmod(place, wanted.shape[2]), axis=1)


@register(
    "agent",
    "battleship-oracle",
    oracle_for=("embodied_mem/Battleship-v0",),
    about="shoots at ships only",
)
class BattleshipOracle(ProbeOracle):
    """Shoots at the first ship cell that is left."""

    def choose(self, facts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return cells (B, 2) int64."""
        return first_place(facts["battleship_board"] & ~facts["battleship_shot"])


@register(
    "agent",
    "minesweeper-oracle",
    oracle_for=("embodied_mem/MineSweeper-v0",),
    about="clicks clear squares only",
)
class MineSweeperOracle(ProbeOracle):
    """Clicks the first clear square that is left."""

    def choose(self, facts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return squares (B, 2) int64."""
        return first_place(facts["minesweeper_field"] == 0)
