"""Moneta: a regressor that learns the episode by an l_p loss and keeps its weights on an l_q scale.

    e = M(k_t) - v_t,   g_t = p sign(e) |e|^(p-1),   A_t = alpha_t A_{t-1} - eta_t g_t,   W_t = A_t / |A_t|_q^(q-2)

p = 3 looks past small errors, q = 4 holds large weights down. sign(e) is tanh(20 e) and |e| is sqrt(e^2 + 1e-6), so
that gradients exist at 0. The norm of A is taken at the last boundary (``norm_freeze`` elsewhere): W_t is then
linear in what was written since.

Limits: `inner_learner`; |A|_q counts as at least 1e-3. For q > 3 the weights grow while A decays, and rounding errors
with them: an mlp of half-life 16 loses two digits in 37 steps, so half-lives start long.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from embodied_mem.errors import UsageError
from embodied_mem.memory.miras import Miras, MirasConfig
from embodied_mem.registry import register

__all__ = ["Moneta", "MonetaConfig"]

_SHARPNESS, _FLOOR, _SMALLEST_NORM = 20.0, 1e-6, 1e-3


@dataclass(frozen=True)
class MonetaConfig(MirasConfig):
    """Config of `Moneta`."""

    p: float = 3.0
    """Power of the loss, >= 1."""
    q: float = 4.0
    """Norm of the weights, >= 2."""
    shortest_half_life: float = 256.0
    """Initial half-life of A in steps of the fastest forgetting head; long, because W grows as A decays."""
    longest_half_life: float = 4096.0
    """Initial half-life of A in steps of the slowest forgetting head."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.p < 1 or self.q < 2:
            raise UsageError(f"expected p >= 1 and q >= 2, got {self.p} and {self.q}")


@register(
    "memory",
    "moneta",
    family="test-time",
    source="Behrouz et al. 2025, It's all connected (Miras)",
    variants=(
        {
            "memory": "mlp",
            "rate": 0.05,
            "max_rate": 0.2,
            "heads": 1,
            "key_dim": 5,
            "value_dim": 4,
            "expansion": 2,
            "chunk": 4,
            "conv": 1,
        },
    ),
)
class Moneta(Miras):
    """Weights that learn by an l_p loss on an l_q scale."""

    Config = MonetaConfig
    random_start = True

    def __init__(self, config: MonetaConfig) -> None:
        super().__init__(config)
        self.config: MonetaConfig = config

    def draw_starts(self) -> list[Tensor]:
        """Draw A such that W = A / |A|_q^(q-2) has variance 1 / inputs."""
        assert isinstance(self.config, MonetaConfig)
        q, starts = self.config.q, super().draw_starts()
        if q == 3:  # then |W|_q is 1 whatever the size of A
            return starts
        return [W * self._norm(W, q) ** ((q - 2) / (3 - q)) for W in starts]

    def gradient(self, prediction: Tensor, k: Tensor, v: Tensor, extra: Tensor) -> Tensor:
        """Of the smoothed l_p loss."""
        error, p = prediction - v, self.config.p
        return p * torch.tanh(_SHARPNESS * error) * (error.square() + _FLOOR) ** ((p - 1) / 2)

    def effective(self, weights: list[Tensor], rights: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Divide by the norm of the boundary."""
        q = self.config.q
        scales = [self._norm(A, q).clamp_min(_SMALLEST_NORM) ** (2 - q) for A in weights]
        return (
            [A * scale for A, scale in zip(weights, scales, strict=True)],
            [right * scale for right, scale in zip(rights, scales, strict=False)],
        )

    @staticmethod
    def _norm(A: Tensor, q: float) -> Tensor:
        # of A over its largest entry: a fourth power leaves float32 early
        top = A.detach().abs().amax((-2, -1), keepdim=True).clamp_min(_SMALLEST_NORM)
        return top * (((A / top).square() + _FLOOR**2) ** (q / 2)).sum((-2, -1), keepdim=True) ** (1 / q)
