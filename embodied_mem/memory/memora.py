"""Memora: a regressor with positive weights, updated by multiplication so that each output's weights sum to a constant.

    e = M(k_t) - v_t,   g_t = gradient of |e|^2 / 2,   W_t = mass softmax(alpha_t log W_{t-1} - eta_t g_t) over inputs

That is descent with a Kullback-Leibler retention in place of decay. The state is A = log W up to a constant per output,
``A_t = alpha_t A_{t-1} - eta_t g_t``, which the softmax does not see; zeros are uniform weights. g_t is the gradient at
the last boundary (`inner_learner`), but the softmax of every read is exact: W_t is formed for each token.

Limits: an mlp memory forms its weights token by token, several times the work of the others; so ``matrix`` is the
default where the paper has an mlp. ``memory="mlp"`` starts from random, learned A.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import State
from embodied_mem.memory.miras import Miras, MirasConfig
from embodied_mem.registry import register

__all__ = ["Memora", "MemoraConfig"]


@dataclass(frozen=True)
class MemoraConfig(MirasConfig):
    """Config of `Memora`."""

    key_dim: int = 16
    """Key and query width of a head."""
    value_dim: int = 16
    """Value width of a head."""
    mass: float = 8.0
    """Sum of the weights of an output."""
    max_rate: float = 8.0
    """Largest eta; steps are in log W."""
    rate: float = 2.0
    """Initial eta."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.mass > 0:
            raise UsageError(f"expected mass > 0, got {self.mass}")


@register(
    "memory",
    "memora",
    family="test-time",
    source="Behrouz et al. 2025, It's all connected (Miras)",
    variants=(
        {
            "memory": "mlp",
            "rate": 0.5,
            "max_rate": 1.0,
            "heads": 1,
            "key_dim": 5,
            "value_dim": 4,
            "expansion": 2,
            "chunk": 4,
            "conv": 1,
        },
    ),
)
class Memora(Miras):
    """Positive weights that learn by multiplication."""

    Config = MemoraConfig

    def __init__(self, config: MemoraConfig) -> None:
        super().__init__(config)
        self.config: MemoraConfig = config

    def gradient(self, prediction: Tensor, k: Tensor, v: Tensor, extra: Tensor) -> Tensor:
        """Of half the squared error."""
        return prediction - v

    def effective(self, weights: list[Tensor], rights: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the positive weights of the boundary."""
        return [self.config.mass * A.softmax(-2) for A in weights], rights

    def _read(self, q: Tensor, kappa: Tensor, now: State, lefts: list[Tensor], rights: list[Tensor]) -> Tensor:
        """Form the weights of every token, (n, H, Q, K, V), and run them."""
        start, slots = kappa[..., :1].unsqueeze(-1), kappa[..., 1:].unsqueeze(-1)
        x = q.unsqueeze(-2)
        for layer, (left, right) in enumerate(zip(lefts, rights, strict=True)):
            if layer:
                x = F.gelu(x) if self.config.activation == "gelu" else F.silu(x)
            written = left.transpose(-1, -2).unsqueeze(2) @ (slots * right.unsqueeze(2))
            A = start * now[f"W{layer}"].unsqueeze(2) + written
            x = x @ (self.config.mass * A.softmax(-2))
        return x.squeeze(-2)
