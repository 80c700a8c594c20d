"""V-trace targets and advantages over packed rows (Espeholt et al. 2018, eq. 1 and 4), resets inside rows.

A row holds S steps and S + 1 values, so it bootstraps from its own last observation with the learner's weights. At an
episode's end the recursion is cut: the value at t+1 is that of the final observation (a truncation's bootstrap), and a
termination has discount 0.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def vtrace(
    log_rhos: Tensor,
    values: Tensor,
    rewards: Tensor,
    terminated: Tensor,
    done: Tensor,
    gamma: float,
    clip_rho: float = 1.0,
    clip_pg_rho: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Return value targets vs (B, S) and policy-gradient advantages (B, S), float32.

    delta_t = rho_t (r_t + gamma_t V_{t+1} - V_t); vs_t - V_t = delta_t + gamma_t c_t (vs_{t+1} - V_{t+1});
    advantage_t = rho^pg_t (r_t + gamma_t vs_{t+1} - V_t).

    Args:
        log_rhos: (B, S) log pi/mu of the actions taken.
        values: (B, S + 1) values of the rows' observations.
        rewards: (B, S).
        terminated: (B, S) bool, step t ended the episode in a terminal state.
        done: (B, S) bool, terminated or truncated.
        gamma: discount.
        clip_rho: bound of the importance weights in the targets.
        clip_pg_rho: bound of the importance weights of the advantages.
    """
    steps = rewards.shape[1]
    if values.shape[1] != steps + 1:
        raise ValueError(f"expected values of shape (B, {steps + 1}), got {tuple(values.shape)}")
    ratio = log_rhos.exp()
    discount = gamma * (~terminated).float()
    delta = ratio.clamp_max(clip_rho) * (rewards + discount * values[:, 1:] - values[:, :-1])
    decay = (discount * ratio.clamp_max(1.0)).masked_fill(done, 0.0)
    correction = torch.zeros_like(values)
    for t in range(steps - 1, -1, -1):
        torch.addcmul(delta[:, t], decay[:, t], correction[:, t + 1], out=correction[:, t])
    ahead = values[:, 1:] + correction[:, 1:].masked_fill(done, 0.0)
    advantages = ratio.clamp_max(clip_pg_rho) * (rewards + discount * ahead - values[:, :-1])
    return values[:, :-1] + correction[:, :-1], advantages
