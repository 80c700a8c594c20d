"""Local linear attention: each read fits a line through the values around the query, where attention fits a constant.

    w_i = softmax_i(beta q . k_i + code[age_i]),   z_i = k_i - q,   mu = sum w z,   Sig = sum w z z^T + lam I
    rho = Sig^-1 mu,    read = sum_i w_i (1 - z_i . rho) v_i / (1 - mu . rho),      y = skip(x) + W read

That is the value at the query of the ridge regression of v on k with weights w; lam to infinity is softmax attention.
lam is learned per head, relative to the sum of the weights. q and k have unit length. The code of the age lets the
latest of equal keys win. The denominator is lam / (lam + |mu|^2) or more, so it cannot vanish; an empty memory reads 0.

The system is solved exactly by Cholesky where the paper runs conjugate gradients: at the widths of a policy that is
less work, and the gradient is exact. Entries are read from the step after their own (`window_memory`).

Limits: a (K, K) matrix per query and head, so keep ``key_dim`` small; quadratic in the chunk of the sequence form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryConfig
from embodied_mem.memory.fast_weights import softplus_inverse, unit
from embodied_mem.memory.slot_loop import linear_macs
from embodied_mem.memory.window_memory import Window, WindowMemory, check_positive, visible_softmax
from embodied_mem.registry import register

__all__ = ["LocalLinearAttention", "LocalLinearAttentionConfig", "local_linear_read"]

_RIDGE_FLOOR = 1e-2
_DENOMINATOR_FLOOR = 1e-4


@dataclass(frozen=True)
class LocalLinearAttentionConfig(MemoryConfig):
    """Window and regression."""

    slots: int = 64
    """Entries N kept."""
    heads: int = 2
    """Independent reads."""
    key_dim: int = 16
    """Key width of a head."""
    value_dim: int = 32
    """Value width of a head."""
    beta: float = 8.0
    """Initial inverse temperature of the weights; keys have unit length."""
    ridge: float = 0.5
    """Initial ridge lam, > 0.01."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "slots", "heads", "key_dim", "value_dim")
        if self.beta <= 0 or self.ridge <= _RIDGE_FLOOR:
            raise UsageError(f"expected beta > 0 and ridge > {_RIDGE_FLOOR}, got {self.beta} and {self.ridge}")


@register(
    "memory",
    "local_linear_attention",
    family="test-time",
    source="Zuo et al. 2025, Local linear attention: an optimal interpolation of linear and softmax attention",
    variants=({"slots": 7, "heads": 1, "key_dim": 3, "value_dim": 4},),
)
class LocalLinearAttention(WindowMemory):
    """Ring of keys and values, read by local linear regression."""

    Config = LocalLinearAttentionConfig

    def __init__(self, config: LocalLinearAttentionConfig) -> None:
        super().__init__(config)
        self.config: LocalLinearAttentionConfig = config
        H, K, V = config.heads, config.key_dim, config.value_dim
        self.slots, self.entry_dim = config.slots, H * (K + V)
        self.query = nn.Linear(config.in_dim, H * K)
        self.key, self.value = nn.Linear(config.in_dim, H * K), nn.Linear(config.in_dim, H * V)
        self.log_beta = nn.Parameter(torch.full((H,), math.log(config.beta)))
        self.ridge = nn.Parameter(softplus_inverse(torch.full((H,), config.ridge - _RIDGE_FLOOR)))
        # falls with the logarithm of age, so that the latest of equal keys wins
        code = -torch.log1p(torch.arange(config.slots, dtype=torch.float32))
        self.code = nn.Parameter(code.repeat(H, 1))
        self.out = nn.Linear(H * V, config.out_dim)
        self.skip = nn.Linear(config.in_dim, config.out_dim, bias=False)

    def macs_per_token(self, t: int | None = None) -> int:
        """Projections; weights, moments and values over the entries held; the solve."""
        c = self.config
        maps = sum(linear_macs(part) for part in (self.query, self.key, self.value, self.out, self.skip))
        K = c.key_dim
        return maps + c.heads * (self.held(t) * (3 * K + K * K + c.value_dim) + K**3 // 6 + K * K)

    def entry(self, x: Tensor) -> Tensor:
        """Return key and value of every head, (..., H (K + V))."""
        keys = unit(self.key(x).unflatten(-1, (self.config.heads, self.config.key_dim)))
        return torch.cat([keys.flatten(-2), self.value(x)], -1)

    def read(self, x: Tensor, window: Window) -> Tensor:
        """Fit and read at the query."""
        c = self.config
        (n, Q, _), H, K = x.shape, c.heads, c.key_dim
        keys = window.items[..., : H * K].unflatten(2, (H, K)).transpose(1, 2)
        values = window.items[..., H * K :].unflatten(2, (H, c.value_dim)).transpose(1, 2)
        q = unit(self.query(x).view(n, Q, H, K)).transpose(1, 2)
        index = window.place.unsqueeze(1).expand(n, H, Q, -1)
        scores = (q @ keys.transpose(2, 3) * self.log_beta.exp().view(H, 1, 1)).gather(3, index)
        weights = visible_softmax(scores + self.code.unsqueeze(1), window.visible.unsqueeze(1), null_slot=False)
        weights = weights.new_zeros(n, H, Q, keys.shape[2]).scatter(3, index, weights)
        lam = (_RIDGE_FLOOR + F.softplus(self.ridge)).view(H, 1, 1)
        read = local_linear_read(q, keys, values, weights, lam)
        return self.out(read.transpose(1, 2).flatten(2)) + self.skip(x)


def local_linear_read(q: Tensor, keys: Tensor, values: Tensor, weights: Tensor, lam: Tensor) -> Tensor:
    """Return the ridge regression of values on keys at the queries.

    Args:
        q: (..., Q, K). keys: (..., M, K). values: (..., M, V).
        weights: (..., Q, M) >= 0 with sum 1, or 0 throughout, then the read is 0.
        lam: (..., 1, 1) ridge on the slopes, > 0.
    """
    K = q.shape[-1]
    total, mean = weights.sum(-1, keepdim=True), weights @ keys
    second = (weights @ (keys.unsqueeze(-1) * keys.unsqueeze(-2)).flatten(-2)).unflatten(-1, (K, K))
    cross = mean.unsqueeze(-1) * q.unsqueeze(-2)
    spread = second - cross - cross.transpose(-1, -2) + (total * q).unsqueeze(-1) * q.unsqueeze(-2)
    system = spread + lam.unsqueeze(-1) * torch.eye(K, dtype=q.dtype, device=q.device)
    mu = mean - total * q
    # without the check of success, which on a GPU would be a synchronisation
    factor, _ = torch.linalg.cholesky_ex(system)
    half = torch.linalg.solve_triangular(factor, mu.unsqueeze(-1), upper=False)
    rho = torch.linalg.solve_triangular(factor.mT, half, upper=True).squeeze(-1)
    along = rho @ keys.transpose(-1, -2) - (rho * q).sum(-1, keepdim=True)
    fitted = (weights * (1 - along)) @ values
    return fitted / (1 - (mu * rho).sum(-1, keepdim=True)).clamp_min(_DENOMINATOR_FLOOR)
