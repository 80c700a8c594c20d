"""S5: a continuous diagonal state space per layer, discretised by a zero-order hold.

    s' = A s + B u,   lam = exp(A dt),   B_bar = (lam - 1) / A * B,   out_t = 2 Re(C s_t) + D u_t
    s_t = where(reset, s_init, lam s_{t-1}) + B_bar u_t

A starts from the eigenvalues of the normal part of the HiPPO-LegS matrix, one of every conjugate pair, and B and C from
random matrices seen through its eigenvectors. Re A < 0 holds by construction. dt is one per state, log-uniform at the
start, so half-lives spread from tens to a thousand steps. Blocks as in `diagonal`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.memory.diagonal import DiagonalConfig, DiagonalMemory, DiagonalSSM, complex_product
from embodied_mem.registry import register

__all__ = ["S5", "S5Config", "hippo_normal"]


@dataclass(frozen=True)
class S5Config(DiagonalConfig):
    """Config of `S5`."""

    dt_min: float = 1e-3
    """Smallest initial time of a step."""
    dt_max: float = 1e-1
    """Largest initial time of a step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.dt_min <= self.dt_max:
            raise UsageError(f"expected 0 < dt_min <= dt_max, got {self.dt_min} and {self.dt_max}")


class S5Layer(DiagonalSSM):
    """The recurrence of one layer."""

    def __init__(self, config: S5Config, width: int) -> None:
        P = config.states
        A, V = hippo_normal(P)
        C = torch.randn(width, 2 * P, dtype=torch.float64).to(V.dtype) / P**0.5 @ V
        # Re(C s) as a product of pairs, the two of a conjugate pair counted at once
        super().__init__(2 * torch.stack([C.real, -C.imag], -1).permute(1, 2, 0).float(), torch.randn(width))
        B = V.mH @ (torch.randn(2 * P, width, dtype=torch.float64).to(V.dtype) / width**0.5)
        self.A_log = nn.Parameter(torch.log(-A.real).float())
        self.A_imag = nn.Parameter(A.imag.float().clone())
        low, high = math.log(config.dt_min), math.log(config.dt_max)
        self.dt_log = nn.Parameter(low + torch.rand(P) * (high - low))
        self.B = nn.Parameter(torch.view_as_real(B.mT.contiguous()).float().clone())

    def discretise(self) -> tuple[Tensor, Tensor]:
        """Return lam (P, 2) and B_bar (width, P, 2)."""
        dt, rate = self.dt_log.exp(), -self.A_log.exp()
        decay, phase = rate * dt, self.A_imag * dt
        lam = torch.exp(decay).unsqueeze(-1) * torch.stack([phase.cos(), phase.sin()], -1)
        # lam - 1 without the cancellation at small steps
        gain = torch.stack([torch.expm1(decay) * phase.cos() - 2 * (phase / 2).sin().square(), lam[..., 1]], -1)
        inverse = torch.stack([rate, -self.A_imag], -1) / (rate.square() + self.A_imag.square()).unsqueeze(-1)
        return lam, complex_product(complex_product(gain, inverse), self.B)


@register(
    "memory",
    "s5",
    family="gated",
    source="Smith et al. 2023, Simplified state space layers",
    variants=({"layers": 1, "states": 5, "width": 7, "learned_init": True},),
)
class S5(DiagonalMemory):
    """Diagonal state space with a zero-order hold."""

    Config = S5Config

    def make_ssm(self, config: DiagonalConfig, width: int) -> DiagonalSSM:
        """Return the recurrence of one layer."""
        assert isinstance(config, S5Config)
        return S5Layer(config, width)


@cache
def hippo_normal(states: int) -> tuple[Tensor, Tensor]:
    """Eigenvalues (P,) with positive frequency and eigenvectors (2P, P) of the normal HiPPO-LegS matrix, complex128.

    ``A + p p^T`` for the LegS matrix A and ``p_n = sqrt(n + 1/2)``: -1/2 on the diagonal plus a skew part.
    """
    n = torch.arange(2 * states, dtype=torch.float64)
    root = torch.sqrt(2 * n + 1)
    pairs = root.unsqueeze(1) * root
    skew = 0.5 * (pairs.triu(1) - pairs.tril(-1))
    # the skew part times -i is Hermitian, so its eigenvalues are exactly real
    frequency, vectors = torch.linalg.eigh(-1j * skew)
    return torch.complex(torch.full((states,), -0.5, dtype=torch.float64), frequency[states:]), vectors[:, states:]
