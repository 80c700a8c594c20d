"""MesaNet: fast weights that are, at every step, the best linear map from the keys of the episode to its values.

    G = where(reset, 0, exp(a) G') + b k^T k,   S = where(reset, S_init, exp(a) S') + b k^T v
    o = q (G + diag(lam))^-1 S,                 y = skip(x) + W (rmsnorm_h(o) * silu(W x))

That is ridge regression over the episode with weights that decay: a read is what the regression predicts for the query,
where linear attention mixes up correlated keys. G is symmetric and lam >= 1/4, so the system is positive definite.

The system is solved exactly by Cholesky, K^3 / 6 + K^2 multiply-accumulates, where the paper runs up to 30 steps of
conjugate gradients at 2 K^2 each: at widths of a policy (K = 32) that is a ninth of the work, the gradient is exact,
and step and sequence agree to rounding.

Limits: the sequence form keeps G of every token, H K^2 numbers each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.memory.chunk_core import reset_linear_attention, reset_linear_attention_step
from embodied_mem.memory.fast_weights import (
    FastWeights,
    FastWeightsConfig,
    Token,
    half_life_spread,
    softplus_inverse,
    split_heads,
    unit,
)
from embodied_mem.memory.scan import linear_scan
from embodied_mem.memory.state import State, StateSpec
from embodied_mem.registry import register

__all__ = ["MesaNet", "MesaNetConfig"]

_RIDGE_FLOOR = 0.25


@dataclass(frozen=True)
class MesaNetConfig(FastWeightsConfig):
    """Config of `MesaNet`."""

    shortest_half_life: float = 16.0
    """Initial half-life in steps of the fastest forgetting head."""
    longest_half_life: float = 1024.0
    """Initial half-life in steps of the slowest forgetting head."""

    def __post_init__(self) -> None:
        super().__post_init__()
        half_life_spread(self.shortest_half_life, self.longest_half_life, 1)


@register(
    "memory",
    "mesa_net",
    family="linear",
    source="von Oswald et al. 2025, MesaNet",
    variants=({"conv": 1, "learned_init": True, "key_dim": 5, "value_dim": 7, "chunk": 4},),
)
class MesaNet(FastWeights):
    """Fast weights read through a ridge regression."""

    Config = MesaNetConfig

    def __init__(self, config: MesaNetConfig) -> None:
        H, K, V = config.heads, config.key_dim, config.value_dim
        half_life = half_life_spread(config.shortest_half_life, config.longest_half_life, H)
        bias = torch.cat([torch.zeros(H), softplus_inverse(math.log(2) / half_life)])
        super().__init__(config, H * (2 * K + V), H * V, bias)
        self.config: MesaNetConfig = config
        self.ridge = nn.Parameter(softplus_inverse(torch.full((H, K), 1 - _RIDGE_FLOOR)))

    def fast_spec(self) -> dict[str, StateSpec]:
        """Fast weights S (H, K, V) and the decayed sum of products of keys G (H, K, K)."""
        c = self.config
        gram = StateSpec((c.heads, c.key_dim, c.key_dim), role="param_like")
        return {**super().fast_spec(), "G": gram}

    def fast_macs(self) -> int:
        """Writes of both sums, the solve, and a read."""
        K = self.config.key_dim
        return super().fast_macs() + self.config.heads * (K * K + K**3 // 6 + K * K)

    def token(self, pre: Tensor, gates: Tensor, position: Tensor | None) -> Token:
        """Normalise queries and keys; beta weighs the token in the regression."""
        q, k, v = split_heads(F.silu(pre), self.config)
        write, forget = gates.split_with_sizes((self.config.heads, self.config.heads), -1)
        return Token(unit(q), unit(k), v, -F.softplus(forget), write.sigmoid())

    def advance(self, token: Token, state: State, position: Tensor | None, *, donate: bool) -> tuple[Tensor, State]:
        """Advance both sums by one token, then solve and read."""
        weighted = self._weighted(token)
        decayed = state["G"] * token.log_decay.exp()[..., None, None]
        gram = decayed + weighted.unsqueeze(-1) * token.k.unsqueeze(-2)
        q = self._solve(gram, token.q)
        o, S = reset_linear_attention_step(q, weighted, token.v, token.log_decay, None, state["S"], donate=donate)
        return o, {"S": S, "G": gram}

    def run(
        self,
        token: Token,
        state: State,
        resets: Tensor,
        valid: Tensor | None,
        position: Tensor | None,
        chunk: int,
    ) -> tuple[Tensor, State]:
        """Scan G over all tokens, solve for all queries at once, then read as linear attention."""
        weighted = self._weighted(token)
        written = weighted.unsqueeze(-1) * token.k.unsqueeze(-2)
        decay = token.log_decay.exp()[..., None, None].expand_as(written)
        gram = linear_scan(decay, written, resets, state["G"])
        q = self._solve(gram, token.q)
        o, S = reset_linear_attention(
            q,
            weighted,
            token.v,
            token.log_decay,
            reset=resets,
            S0=state["S"],
            S_init=self.start_of("S"),
            chunk=chunk,
        )
        # a copy: a view would keep G of every token alive in a stored state
        return o, {"S": S, "G": gram[:, -1].clone()}

    def _weighted(self, token: Token) -> Tensor:
        assert token.beta is not None
        return token.beta.unsqueeze(-1) * token.k

    def _solve(self, gram: Tensor, q: Tensor) -> Tensor:
        """gram (..., H, K, K), q (..., H, K) -> q (gram + diag(lam))^-1, (..., H, K)."""
        system = gram + torch.diag_embed(_RIDGE_FLOOR + F.softplus(self.ridge))
        # without the check of success, which on a GPU would be a synchronisation
        factor, _ = torch.linalg.cholesky_ex(system)
        half = torch.linalg.solve_triangular(factor, q.unsqueeze(-1), upper=False)
        return torch.linalg.solve_triangular(factor.mT, half, upper=True).squeeze(-1)
