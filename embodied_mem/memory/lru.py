"""Linear recurrent unit: a diagonal complex recurrence on a ring of stable eigenvalues.

    lam = exp(-exp(nu) + i exp(theta)),   s_t = where(reset, s_init, lam s_{t-1}) + gamma * (B u_t)
    out_t = Re(C s_t) + D u_t,            gamma = sqrt(1 - |lam|^2) at the start, learned as its logarithm

|lam| < 1 holds by construction. It starts uniform on the ring between two radii, with phases up to a limit: a small
limit lets the slow states add up their input instead of averaging it away. Blocks as in `diagonal`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.memory.diagonal import DiagonalConfig, DiagonalMemory, DiagonalSSM
from embodied_mem.registry import register

__all__ = ["LRU", "LRUConfig"]


@dataclass(frozen=True)
class LRUConfig(DiagonalConfig):
    """Config of `LRU`."""

    r_min: float = 0.9
    """Smallest initial |lam|."""
    r_max: float = 0.999
    """Largest initial |lam|."""
    max_phase: float = 1.0
    """Initial phases are uniform up to this part of a full turn."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.r_min < self.r_max < 1:
            raise UsageError(f"expected 0 <= r_min < r_max < 1, got {self.r_min} and {self.r_max}")
        if not 0 < self.max_phase <= 1:
            raise UsageError(f"expected 0 < max_phase <= 1, got {self.max_phase}")


class LRULayer(DiagonalSSM):
    """The recurrence of one layer."""

    def __init__(self, config: LRUConfig, width: int) -> None:
        P = config.states
        super().__init__(torch.randn(P, 2, width) / P**0.5, torch.randn(width))
        # uniform on the ring by area
        square = config.r_min**2 + torch.rand(P) * (config.r_max**2 - config.r_min**2)
        phase = (torch.rand(P) * 2 * math.pi * config.max_phase).clamp_min(1e-4)
        self.nu = nn.Parameter(torch.log(-0.5 * torch.log(square.clamp_min(1e-6))))
        self.theta = nn.Parameter(torch.log(phase))
        self.gamma_log = nn.Parameter(0.5 * torch.log1p(-square))
        self.B = nn.Parameter(torch.randn(width, P, 2) / (2 * width) ** 0.5)

    def discretise(self) -> tuple[Tensor, Tensor]:
        """Return lam (P, 2) and gamma * B (width, P, 2)."""
        phase = self.theta.exp()
        lam = torch.exp(-self.nu.exp()).unsqueeze(-1) * torch.stack([phase.cos(), phase.sin()], -1)
        return lam, self.B * self.gamma_log.exp().unsqueeze(-1)


@register(
    "memory",
    "lru",
    family="gated",
    source="Orvieto et al. 2023, Resurrecting recurrent neural networks",
    variants=({"layers": 1, "states": 5, "width": 7, "learned_init": True, "r_min": 0.0, "max_phase": 0.1},),
)
class LRU(DiagonalMemory):
    """Diagonal recurrence on a ring."""

    Config = LRUConfig

    def make_ssm(self, config: DiagonalConfig, width: int) -> DiagonalSSM:
        """Return the recurrence of one layer."""
        assert isinstance(config, LRUConfig)
        return LRULayer(config, width)
