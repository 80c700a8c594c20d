"""CartPole seen in part: positions only, velocities only, or positions with noise (POPGym's rules).

The cart-pole of Barto, Sutton and Anderson (1983) with Gymnasium's constants: a step of 0.02 s, a push of +-10 N, start
values even in +-0.05, the episode terminates beyond |x| = 2.4 m or |angle| = 12 degrees. It is truncated after L steps;
every step earns 1 / L. Action: Discrete(2), 0 left, 1 right. Observation, (2,) float32:

- ``PositionOnlyCartPole``: [x, angle], L = 200, 400, 600 (easy, medium, hard).
- ``VelocityOnlyCartPole``: [x velocity, angular velocity], L as above. POPGym shows [x, angle] at the first step of an
  episode, and so it is here.
- ``NoisyPositionOnlyCartPole``: [x, angle], each plus normal noise of standard deviation 0.1, 0.2, 0.3, cut to the
  space's bounds (+-4.8 m, +-24 degrees); L = 200.

Correlation horizon: the difference of two positions gives a velocity (1 step), the sum of velocities the position (all
steps), and noise is averaged away over some tens of steps. An oracle that sees the full state balances for ever: return
1. Best memoryless play known (test; for the first game a cross-entropy search over networks of one hidden layer found
nothing better, for the second the same to 0.01):

- positions: push right with probability 1 / (1 + exp(-24 angle)): 0.256, 0.127, 0.085;
- velocities: push by the sign of angular velocity + 0.1 x velocity: 1.000, 0.999, 0.852 (short games need no memory);
- noisy positions: push by the sign of the angle: 0.248, 0.198, 0.167.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import spaces

from embodied_mem.envs import rng
from embodied_mem.envs.base import BatchedEnv, SingleEnv
from embodied_mem.envs.probes.cards import level

LENGTHS = {"easy": 200, "medium": 400, "hard": 600}
NOISES = {"easy": 0.1, "medium": 0.2, "hard": 0.3}
START_STREAM, NOISE_STREAM = 0, 1

GRAVITY, CART_MASS, POLE_MASS, HALF_LENGTH, PUSH, STEP_SECONDS = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
X_LIMIT, ANGLE_LIMIT = 2.4, 12 * 2 * math.pi / 360
_MASS, _POLE_MOMENT = POLE_MASS + CART_MASS, POLE_MASS * HALF_LENGTH
_POSITIONS, _VELOCITIES = (0, 2), (1, 3)


class _BatchedCartPole(BatchedEnv):
    """N cart-poles; a subclass sets what is seen of the state [x, x velocity, angle, angular velocity]."""

    fresh = True
    seen = _POSITIONS

    def __init__(self, num_envs: int, limit: int, noise: float, /, **kwargs: Any) -> None:
        """Set up N rows with episodes of ``limit`` steps and observation noise of that standard deviation."""
        bound = np.array([2 * X_LIMIT, 2 * ANGLE_LIMIT] if self.seen == _POSITIONS else [np.inf] * 2, dtype=np.float32)
        self.single_observation_space = spaces.Box(-bound, bound, dtype=np.float32)
        self.single_action_space = spaces.Discrete(2)
        super().__init__(num_envs, **kwargs)
        self.limit, self.noise, self._bound = limit, noise, bound
        self._state = np.zeros((4, self.num_envs))
        self._t = np.zeros(self.num_envs, dtype=np.int64)
        self._fell = np.zeros(self.num_envs, dtype=bool)

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        self._state[:, rows] = rng.uniform(keys, START_STREAM, np.arange(4)[:, None]) * 0.1 - 0.05
        self._t[rows] = 0
        self._fell[rows] = False

    def _advance(self, actions: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x, x_velocity, angle, spin = self._state
        sine, cosine = np.sin(angle), np.cos(angle)
        thrust = (np.where(actions == 1, PUSH, -PUSH) + _POLE_MOMENT * np.square(spin) * sine) / _MASS
        inertia = HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * np.square(cosine) / _MASS)
        spin_rate = (GRAVITY * sine - cosine * thrust) / inertia
        acceleration = thrust - _POLE_MOMENT * spin_rate * cosine / _MASS
        # Euler: positions move by the velocities before the step.
        change = STEP_SECONDS * np.stack((x_velocity, acceleration, spin, spin_rate))
        if not self.all_active:
            change *= active
        self._state += change
        self._t += 1 if self.all_active else active
        terminated = (np.abs(self._state[0]) > X_LIMIT) | (np.abs(self._state[2]) > ANGLE_LIMIT)
        truncated = self._t >= self.limit
        reward = np.full(self.num_envs, 1.0 / self.limit, dtype=np.float32)
        if self.all_active:
            self._fell = terminated.copy()
        else:
            np.copyto(self._fell, terminated, where=active)
            terminated &= active
            truncated &= active
            reward *= active
        return reward, terminated, truncated

    def _observe(self) -> np.ndarray:
        observed = self._state[list(self.seen)].T.astype(np.float32)
        if self.seen == _VELOCITIES:
            first = self._t == 0
            if first.any():
                observed[first] = self._state[list(_POSITIONS)].T[first]
        if self.noise:
            drawn = rng.normal(self.keys[:, None], NOISE_STREAM, 2 * self._t[:, None] + np.arange(2))
            observed += (self.noise * drawn).astype(np.float32)
            np.clip(observed, -self._bound, self._bound, out=observed)
        return observed

    def _final_info(self) -> dict[str, np.ndarray]:
        return {"success": ~self._fell, "steps_balanced": self._t.copy()}

    def privileged(self) -> dict[str, np.ndarray]:
        """Return the state (N, 4) float64: x (m), its velocity (m/s), angle (rad), angular velocity (rad/s)."""
        return {"cartpole_state": self._state.T.copy()}


class BatchedPositionOnlyCartPole(_BatchedCartPole):
    """N cart-poles of which positions are seen."""

    def __init__(self, num_envs: int = 1, *, difficulty: str = "easy", **kwargs: Any) -> None:
        """Set up N rows at ``difficulty`` easy, medium or hard (the length); ``kwargs`` as in `BatchedEnv`."""
        self.difficulty = difficulty
        super().__init__(num_envs, level(difficulty, LENGTHS), 0.0, **kwargs)


class BatchedVelocityOnlyCartPole(_BatchedCartPole):
    """N cart-poles of which velocities are seen."""

    seen = _VELOCITIES

    def __init__(self, num_envs: int = 1, *, difficulty: str = "easy", **kwargs: Any) -> None:
        """Set up N rows at ``difficulty`` easy, medium or hard (the length); ``kwargs`` as in `BatchedEnv`."""
        self.difficulty = difficulty
        super().__init__(num_envs, level(difficulty, LENGTHS), 0.0, **kwargs)


class BatchedNoisyPositionOnlyCartPole(_BatchedCartPole):
    """N cart-poles of which positions are seen, with noise."""

    def __init__(self, num_envs: int = 1, *, difficulty: str = "easy", **kwargs: Any) -> None:
        """Set up N rows at ``difficulty`` easy, medium or hard (the noise); ``kwargs`` as in `BatchedEnv`."""
        self.difficulty = difficulty
        super().__init__(num_envs, LENGTHS["easy"], level(difficulty, NOISES), **kwargs)


class PositionOnlyCartPole(SingleEnv):
    """N=1 view of `BatchedPositionOnlyCartPole`."""

    batched = BatchedPositionOnlyCartPole


class VelocityOnlyCartPole(SingleEnv):
    """N=1 view of `BatchedVelocityOnlyCartPole`."""

    batched = BatchedVelocityOnlyCartPole


class NoisyPositionOnlyCartPole(SingleEnv):
    """N=1 view of `BatchedNoisyPositionOnlyCartPole`."""

    batched = BatchedNoisyPositionOnlyCartPole
