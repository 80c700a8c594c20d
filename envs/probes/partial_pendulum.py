"""Pendulum seen in part: position only, position with noise, or angular velocity only (POPGym's rules, but the last).

Gymnasium's pendulum: mass 1 kg, length 1 m, gravity 10 m/s^2, a step of 0.05 s, torque in [-2, 2] N m, speed cut to
+-8 rad/s; it starts at any angle with a speed even in [-1, 1]. A step costs angle^2 + 0.1 speed^2 + 0.001 torque^2
(angle 0 is upright, in [-pi, pi)); the reward is (8.137 - cost) / (8.137 L), in [-1 / L, 1 / L], so that a return lies
in [-1, 1]. The episode is truncated after L steps and never terminates. Action: (1,) float32, the torque.

- ``PositionOnlyPendulum``: observes [cos, sin] of the angle, (2,) float32; L = 200, 150, 100 (easy, medium, hard).
- ``NoisyPositionOnlyPendulum``: the same plus normal noise of deviation 0.1, 0.2, 0.3, cut to [-1, 1]; L = 200.
- ``VelocityOnlyPendulum``: observes the angular velocity, (1,) float32; L as the first. POPGym has no such game: it is
  ours, by the same rules.

Correlation horizon: two positions give the speed (1 step); speed and torque at two steps give the sine of the angle
(2 steps), and noise is averaged away over some tens of steps. The scripted oracle, which sees the full state, pumps
energy and then holds the pendulum: 0.907, 0.876, 0.815 at L = 200, 150, 100 (test); value iteration on a grid of 161
angles, 121 speeds and 9 torques finds 0.914, 0.886, 0.828. Best memoryless play known (test; for the first game a
cross-entropy search over networks of one hidden layer found nothing better):

- position: a torque of -30 sin, cut to +-2: 0.362, 0.362, 0.360;
- position with noise: -10 sin, cut: 0.340, 0.326, 0.318;
- speed: push along below 5.4 rad/s, against it above: 0.481, 0.476, 0.464.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from embodied_mem.envs import rng
from embodied_mem.envs.base import BatchedEnv, SingleEnv
from embodied_mem.envs.probes.cards import level

LENGTHS = {"easy": 200, "medium": 150, "hard": 100}
NOISES = {"easy": 0.1, "medium": 0.2, "hard": 0.3}
START_STREAM, NOISE_STREAM = 0, 1

GRAVITY, STEP_SECONDS, MAX_SPEED, MAX_TORQUE = 10.0, 0.05, 8.0, 2.0
HALF_COST = 16.2736044 / 2
UPRIGHT = np.pi / 8
"""An episode succeeds where it ends within this angle of upright (rad); POPGym itself knows no success here."""


class _BatchedPendulum(BatchedEnv):
    """N pendulums; a subclass says whether the angle or the speed is seen."""

    fresh = True
    sees_angle = True

    def __init__(self, num_envs: int, limit: int, noise: float, /, **kwargs: Any) -> None:
        """Set up N rows with episodes of ``limit`` steps and observation noise of that standard deviation."""
        bound = np.array([1.0, 1.0] if self.sees_angle else [MAX_SPEED], dtype=np.float32)
        self.single_observation_space = spaces.Box(-bound, bound, dtype=np.float32)
        self.single_action_space = spaces.Box(-MAX_TORQUE, MAX_TORQUE, (1,), np.float32)
        super().__init__(num_envs, **kwargs)
        self.limit, self.noise = limit, noise
        self._angle = np.zeros(self.num_envs)
        self._speed = np.zeros(self.num_envs)
        self._t = np.zeros(self.num_envs, dtype=np.int64)

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        self._angle[rows] = (rng.uniform(keys, START_STREAM, 0) * 2.0 - 1.0) * np.pi
        self._speed[rows] = rng.uniform(keys, START_STREAM, 1) * 2.0 - 1.0
        self._t[rows] = 0

    def _advance(self, actions: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        torque = np.clip(actions[:, 0], -MAX_TORQUE, MAX_TORQUE)
        cost = wrapped(self._angle) ** 2 + 0.1 * self._speed**2 + 0.001 * torque**2
        speed = self._speed + (1.5 * GRAVITY * np.sin(self._angle) + 3.0 * torque) * STEP_SECONDS
        np.clip(speed, -MAX_SPEED, MAX_SPEED, out=speed)
        angle = self._angle + speed * STEP_SECONDS
        reward = ((HALF_COST - cost) / HALF_COST / self.limit).astype(np.float32)
        if self.all_active:
            self._angle, self._speed = angle, speed
            self._t += 1
            truncated = self._t >= self.limit
        else:
            np.copyto(self._angle, angle, where=active)
            np.copyto(self._speed, speed, where=active)
            self._t += active
            truncated = (self._t >= self.limit) & active
            reward *= active
        return reward, np.zeros(self.num_envs, dtype=bool), truncated

    def _observe(self) -> np.ndarray:
        if self.sees_angle:
            observed = np.empty((self.num_envs, 2), dtype=np.float32)
            observed[:, 0], observed[:, 1] = np.cos(self._angle), np.sin(self._angle)
        else:
            observed = self._speed[:, None].astype(np.float32)
        if self.noise:
            drawn = rng.normal(self.keys[:, None], NOISE_STREAM, 2 * self._t[:, None] + np.arange(2))
            observed += (self.noise * drawn).astype(np.float32)
            np.clip(observed, -1.0, 1.0, out=observed)
        return observed

    def _final_info(self) -> dict[str, np.ndarray]:
        return {"success": np.abs(wrapped(self._angle)) < UPRIGHT}

    def privileged(self) -> dict[str, np.ndarray]:
        """Return the state (N, 2) float64: angle from upright (rad, not wrapped) and angular velocity (rad/s)."""
        return {"pendulum_state": np.stack((self._angle, self._speed), axis=1)}


def wrapped(angle: np.ndarray) -> np.ndarray:
    """Return angles (any shape, rad) in [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


class BatchedPositionOnlyPendulum(_BatchedPendulum):
    """N pendulums of which the angle is seen."""

    def __init__(self, num_envs: int = 1, *, difficulty: str = "easy", **kwargs: Any) -> None:
        """Set up N rows at ``difficulty`` easy, medium or hard (the length); ``kwargs`` as in `BatchedEnv`."""
        self.difficulty = difficulty
        super().__init__(num_envs, level(difficulty, LENGTHS), 0.0, **kwargs)


class BatchedNoisyPositionOnlyPendulum(_BatchedPendulum):
    """N pendulums of which the angle is seen, with noise."""

    def __init__(self, num_envs: int = 1, *, difficulty: str = "easy", **kwargs: Any) -> None:
        """Set up N rows at ``difficulty`` easy, medium or hard (the noise); ``kwargs`` as in `BatchedEnv`."""
        self.difficulty = difficulty
        super().__init__(num_envs, LENGTHS["easy"], level(difficulty, NOISES), **kwargs)


class BatchedVelocityOnlyPendulum(_BatchedPendulum):
    """N pendulums of which the angular velocity is seen."""

    sees_angle = False

    def __init__(self, num_envs: int = 1, *, difficulty: str = "easy", **kwargs: Any) -> None:
        """Set up N rows at ``difficulty`` easy, medium or hard (the length); ``kwargs`` as in `BatchedEnv`."""
        self.difficulty = difficulty
        super().__init__(num_envs, level(difficulty, LENGTHS), 0.0, **kwargs)


class PositionOnlyPendulum(SingleEnv):
    """N=1 view of `BatchedPositionOnlyPendulum`."""

    batched = BatchedPositionOnlyPendulum


class NoisyPositionOnlyPendulum(SingleEnv):
    """N=1 view of `BatchedNoisyPositionOnlyPendulum`."""

    batched = BatchedNoisyPositionOnlyPendulum


class VelocityOnlyPendulum(SingleEnv):
    """N=1 view of `BatchedVelocityOnlyPendulum`."""

    batched = BatchedVelocityOnlyPendulum
