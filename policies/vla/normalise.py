"""Actions to [-1, 1] and back, by quantiles of the demonstrations; saved with the policy."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

QUANTILES = (0.01, 0.99)
"""The published range; what lies outside is cut off."""
_NARROW = 1e-6


class ActionNormaliser(nn.Module):
    """x = 2 (a - low) / (high - low) - 1, cut to [-1, 1]; an action that never changes is 0 and comes back."""

    def __init__(self, actions: int, binary: tuple[int, ...] = ()) -> None:
        """Start with the range [-1, 1].

        Args:
            actions: A, numbers of an action.
            binary: those that `restore` sets to the nearer end of their range.
        """
        super().__init__()
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", -torch.ones(actions))
        self.register_buffer("high", torch.ones(actions))
        self.snap: Tensor
        self.register_buffer("snap", torch.zeros(actions, dtype=torch.bool), persistent=False)
        self.snap[list(binary)] = True

    def fit(self, actions: np.ndarray) -> None:
        """Take the range from actions (M, A) of demonstrations; binary ones get their least and largest value."""
        low, high = np.quantile(actions, QUANTILES, axis=0)
        snap = self.snap.cpu().numpy()
        self.low.copy_(torch.from_numpy(np.where(snap, actions.min(0), low)))
        self.high.copy_(torch.from_numpy(np.where(snap, actions.max(0), high)))

    def forward(self, actions: Tensor) -> Tensor:
        """Return (..., A) in [-1, 1] for (..., A) actions of the environment."""
        span = self.high - self.low
        x = 2.0 * (actions - self.low) / span.clamp(min=_NARROW) - 1.0
        return torch.where(span > _NARROW, x.clamp(-1.0, 1.0), 0.0)

    def restore(self, x: Tensor) -> Tensor:
        """Return the environment's actions (..., A) for ``x`` (..., A) in [-1, 1]."""
        x = torch.where(self.snap, torch.where(x > 0, 1.0, -1.0), x)
        return self.low + (x + 1.0) * 0.5 * (self.high - self.low)
