"""Mixture of memories: a router sends every token to k of M fast-weight memories; the others keep what they hold.

    p = softmax(W_g x),   J = the k largest,   g_m = p_m / sum_{j in J} p_j
    m in J:      S^m = exp(a^m) S^m + b^m (k^m)^T (v^m - k^m exp(a^m) S^m)       the gated delta rule
    m not in J:  S^m stays: it neither decays nor is written
    o = sum_{m in J} g_m q S^m + q S^0,      y = skip(x) + W (rmsnorm_h(o) * silu(W x))

S^0 is the shared memory, which every token writes (``shared``). One query reads all; keys, values and gates are each
memory's own, or the same for all (``single_kv``). The short convolution runs over the episode before the routing. A
reset clears all memories, whoever is routed to. Where p is equal the memory of lower number is taken first.

`aux_losses` of a training call: ``balance``, M times the sum over memories of the share of tokens times the mean p (1
when even), and ``router_z``, the mean squared logsumexp of the logits, with their coefficients.

The sequence form runs all memories through the chunk-parallel core with a and b at 0 where a token is not routed:
exact, and at small M cheaper than sorting tokens by memory.

Limits: all M memories are computed for every token, so k saves interference, not time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.chunk_core import reset_linear_attention, reset_linear_attention_step
from embodied_mem.memory.fast_weights import (
    FastWeights,
    FastWeightsConfig,
    Token,
    half_life_spread,
    softplus_inverse,
    unit,
)
from embodied_mem.memory.state import State, StateSpec
from embodied_mem.registry import register

__all__ = ["MoM", "MoMConfig"]

# Keeps the lower memory first where two logits are equal up to rounding.
_TIE = 1e-9


@dataclass(frozen=True)
class MoMConfig(FastWeightsConfig):
    """Config of `MoM`."""

    heads: int = 2
    """Fast-weight matrices of every memory."""
    memories: int = 4
    """Routed memories M."""
    top_k: int = 2
    """Memories k that a token writes and reads."""
    shared: bool = True
    """One more memory that every token writes and reads."""
    single_kv: bool = False
    """One key and value for all memories, instead of one each."""
    balance_coef: float = 0.01
    """Weight of the load-balance loss."""
    router_z_coef: float = 1e-3
    """Weight of the loss that keeps the router's logits small."""
    shortest_half_life: float = 16.0
    """Initial half-life in steps of the fastest forgetting head."""
    longest_half_life: float = 1024.0
    """Initial half-life in steps of the slowest forgetting head."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.top_k <= self.memories:
            raise UsageError(f"expected 1 <= top_k <= memories = {self.memories}, got {self.top_k}")
        if self.balance_coef < 0 or self.router_z_coef < 0:
            raise UsageError(f"expected coefficients >= 0, got {self.balance_coef} and {self.router_z_coef}")
        half_life_spread(self.shortest_half_life, self.longest_half_life, 1)


@register(
    "memory",
    "mom",
    family="test-time",
    source="Du et al. 2025, MoM: linear sequence modeling with mixture-of-memories",
    variants=({"conv": 1, "learned_init": True, "memories": 3, "top_k": 1, "key_dim": 5, "value_dim": 7, "chunk": 8},),
)
class MoM(FastWeights):
    """Routed fast weights; the memories are laid out as further heads, the shared one last."""

    Config = MoMConfig
    properties = frozenset({"compilable", "hard_write"})

    def __init__(self, config: MoMConfig) -> None:
        H, K, V = config.heads, config.key_dim, config.value_dim
        self.total = config.memories + config.shared
        half_life = half_life_spread(config.shortest_half_life, config.longest_half_life, H)
        forget = softplus_inverse(math.log(2) / half_life).repeat(self.total)
        bias = torch.cat([torch.zeros(config.memories + self.total * H), forget])
        pairs = 1 if config.single_kv else self.total
        super().__init__(config, H * K + pairs * H * (K + V), H * V, bias)
        self.config: MoMConfig = config
        if config.learned_init:
            self.S_init = nn.Parameter(torch.zeros(self.total * H, K, V))
        self._losses: dict[str, Tensor] = {}

    def fast_spec(self) -> dict[str, StateSpec]:
        """Fast weights ((M + 1) H, K, V), memory by memory."""
        c = self.config
        return {"S": StateSpec((self.total * c.heads, c.key_dim, c.value_dim), role="param_like")}

    def fast_macs(self) -> int:
        """Two reads and one write of every memory."""
        c = self.config
        return 3 * self.total * c.heads * c.key_dim * c.value_dim

    def aux_losses(self) -> dict[str, Tensor]:
        """Load balance and router z-loss of the last `sequence` call in training mode; empty before one."""
        return dict(self._losses)

    def token(self, pre: Tensor, gates: Tensor, position: Tensor | None) -> Token:
        """Route: gates are 0 where a memory is not chosen; ``extra`` (..., 3 M): weights g, logits, whether chosen."""
        c, lead = self.config, pre.shape[:-1]
        H, K, V, M = c.heads, c.key_dim, c.value_dim, c.memories
        q, rest = F.silu(pre).split_with_sizes((H * K, pre.shape[-1] - H * K), -1)
        k, v = rest.view(*lead, -1, K + V).split_with_sizes((K, V), -1)
        q = unit(q.view(*lead, H, K)).repeat(*[1] * len(lead), self.total, 1)
        k = unit(k)
        if c.single_kv:
            k, v = (x.repeat(*[1] * len(lead), self.total, 1) for x in (k, v))
        logits, write, forget = gates.split_with_sizes((M, self.total * H, self.total * H), -1)
        chosen = self._route(logits)
        weights = logits.masked_fill(~chosen, -torch.inf).softmax(-1)
        written = F.pad(chosen.to(pre.dtype), (0, self.total - M), value=1.0)
        extra = torch.cat([weights, logits, written[..., :M]], -1)
        written = written.repeat_interleave(H, -1)
        return Token(q, k, v, -F.softplus(forget) * written, write.sigmoid() * written, extra)

    def advance(self, token: Token, state: State, position: Tensor | None, *, donate: bool) -> tuple[Tensor, State]:
        """Advance all memories by one token and mix what they hold."""
        o, S = reset_linear_attention_step(*token[:5], state["S"], donate=donate)
        return self._mix(o, token), {"S": S}

    def run(
        self,
        token: Token,
        state: State,
        resets: Tensor,
        valid: Tensor | None,
        position: Tensor | None,
        chunk: int,
    ) -> tuple[Tensor, State]:
        """Advance all memories by T tokens and mix what they hold."""
        assert token.extra is not None
        if self.training:
            self._losses = self._router_losses(token.extra, valid)
        o, S = reset_linear_attention(*token[:5], reset=resets, S0=state["S"], S_init=self.start_of("S"), chunk=chunk)
        return self._mix(o, token), {"S": S}

    def _route(self, logits: Tensor) -> Tensor:
        """Which memories are chosen, (..., M) bool."""
        order = _TIE * torch.arange(logits.shape[-1], device=logits.device)
        chosen = (logits.detach() - order).topk(self.config.top_k, -1).indices
        return torch.zeros_like(logits, dtype=torch.bool).scatter(-1, chosen, True)

    def _mix(self, o: Tensor, token: Token) -> Tensor:
        """(..., (M + 1) H, V) -> (..., H, V)."""
        assert token.extra is not None
        M = self.config.memories
        weights = F.pad(token.extra[..., :M], (0, self.total - M), value=1.0)
        return (weights.unsqueeze(-1).unsqueeze(-1) * o.unflatten(-2, (self.total, -1))).sum(-3)

    def _router_losses(self, extra: Tensor, valid: Tensor | None) -> dict[str, Tensor]:
        _, logits, chosen = extra.chunk(3, -1)
        real = torch.ones_like(logits[..., 0]) if valid is None else valid.to(logits.dtype)
        count = real.sum().clamp_min(1)
        share = (chosen * real.unsqueeze(-1)).sum((0, 1)) / count / self.config.top_k
        mean = (logits.softmax(-1) * real.unsqueeze(-1)).sum((0, 1)) / count
        z = (logits.logsumexp(-1).square() * real).sum() / count
        return {
            "balance": self.config.balance_coef * self.config.memories * (share * mean).sum(),
            "router_z": self.config.router_z_coef * z,
        }
