"""Generalised advantage estimation over NEXT_STEP vector rollouts (Schulman et al. 2016, eq. 16), vectorised over envs.

In a NEXT_STEP rollout the observation after an episode's last step is that episode's final observation, so the value
at t+1 is the right bootstrap for a truncated step without any special case; the step taken on it is a dummy whose
reward is 0 and whose advantage is never used.
"""

from __future__ import annotations

import numpy as np


def gae(
    rewards: np.ndarray,
    values: np.ndarray,
    terminated: np.ndarray,
    done: np.ndarray,
    gamma: float,
    lam: float,
) -> np.ndarray:
    """Return advantages (T, N) float32.

    delta_t = r_t + gamma (1 - terminated_t) V_{t+1} - V_t and A_t = delta_t + gamma lam (1 - done_t) A_{t+1}.

    Args:
        rewards: (T, N) float32, reward of step t.
        values: (T + 1, N) float32, value of the observation that step t acts on; row T is the bootstrap.
        terminated: (T, N) bool, the episode ended in a terminal state with step t.
        done: (T, N) bool, terminated or truncated with step t.
        gamma: discount in [0, 1].
        lam: lambda in [0, 1].
    """
    if values.shape != (rewards.shape[0] + 1, *rewards.shape[1:]):
        raise ValueError(f"expected values of shape (T + 1, N) for rewards {rewards.shape}, got {values.shape}")
    delta = values[1:] * np.where(terminated, np.float32(0.0), np.float32(gamma))
    delta += rewards
    delta -= values[:-1]
    carry = np.where(done, np.float32(0.0), np.float32(gamma * lam))
    for t in range(len(delta) - 2, -1, -1):
        delta[t] += carry[t] * delta[t + 1]
    return delta
