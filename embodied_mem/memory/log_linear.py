"""Log-linear attention: one fast-weight matrix per power of two of the past, each read with a weight of its own.

    on token t of an episode, with 2^j the largest power of two that divides t > 0:
    S^(j+1) <- S^(0) + ... + S^(j),   S^(0..j) <- 0     the buckets of a Fenwick tree: level l holds 2^(l-1) tokens
    S^(l) <- exp(a_t) S^(l),   S^(0) <- k_t^T v_t,   o_t = sum_l w_t^(l) q_t S^(l),   w = softplus(W x + b)
    y = skip(x) + W (rmsnorm_h(o) * silu(W x)),   q, k = l2norm(silu(conv(W x))),   v = silu(conv(W x))

So the recent past is kept in fine buckets and the far past in coarse ones, and a read chooses by age. The step counter
is part of the state and starts again with every episode. ``levels`` bound the state: the last level takes all that is
older than 2^(levels - 2) tokens or so. A token s lies, at token t, in level ``bit_length(t xor s)``, and a bucket of
level l last changed at p lies in level ``max(l, bit_length(t xor p))``: with these the sequence form needs no tree.

Limits: no learned start, which would have no age; the sequence form costs as many reads of a carried matrix as levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.fast_weights import (
    FastWeights,
    FastWeightsConfig,
    Token,
    half_life_spread,
    softplus_inverse,
    split_heads,
    unit,
)
from embodied_mem.memory.segments import decay_matrix, live_weight
from embodied_mem.memory.state import State, StateSpec
from embodied_mem.registry import register

__all__ = ["LogLinear", "LogLinearConfig", "level_between"]


@dataclass(frozen=True)
class LogLinearConfig(FastWeightsConfig):
    """Config of `LogLinear`."""

    levels: int = 10
    """Fast-weight matrices of a head; 10 tell apart the last 512 tokens by powers of two."""
    shortest_half_life: float = 16.0
    """Initial half-life in steps of the fastest forgetting head."""
    longest_half_life: float = 1024.0
    """Initial half-life in steps of the slowest forgetting head."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.levels < 2:
            raise UsageError(f"expected levels >= 2, got {self.levels}")
        if self.learned_init:
            raise UsageError("expected learned_init=False in log_linear, whose levels hold tokens by their age")
        half_life_spread(self.shortest_half_life, self.longest_half_life, 1)


@register(
    "memory",
    "log_linear",
    family="linear",
    source="Guo et al. 2025, Log-linear attention",
    variants=({"conv": 1, "key_dim": 5, "value_dim": 7, "levels": 4, "chunk": 4},),
)
class LogLinear(FastWeights):
    """Fast weights in buckets by age."""

    Config = LogLinearConfig
    clocked = True

    def __init__(self, config: LogLinearConfig) -> None:
        H, K, V = config.heads, config.key_dim, config.value_dim
        half_life = half_life_spread(config.shortest_half_life, config.longest_half_life, H)
        level = softplus_inverse(torch.ones(H * config.levels))
        bias = torch.cat([softplus_inverse(math.log(2) / half_life), level])
        super().__init__(config, H * (2 * K + V), H * V, bias)
        self.config: LogLinearConfig = config

    def fast_spec(self) -> dict[str, StateSpec]:
        """Fast weights (levels, H, K, V)."""
        c = self.config
        return {"S": StateSpec((c.levels, c.heads, c.key_dim, c.value_dim), role="param_like")}

    def fast_macs(self) -> int:
        """One write and a read of every level."""
        c = self.config
        return c.heads * c.key_dim * c.value_dim * (1 + c.levels)

    def token(self, pre: Tensor, gates: Tensor, position: Tensor | None) -> Token:
        """Normalise queries and keys; ``extra`` (..., H, levels) weighs the levels of a read."""
        c = self.config
        q, k, v = split_heads(F.silu(pre), c)
        forget, level = gates.split_with_sizes((c.heads, c.heads * c.levels), -1)
        weights = F.softplus(level).view(*forget.shape, c.levels)
        return Token(unit(q), unit(k), v, -F.softplus(forget), None, weights)

    def advance(self, token: Token, state: State, position: Tensor | None, *, donate: bool) -> tuple[Tensor, State]:
        """Merge the levels that this position closes, write level 0, read all."""
        assert position is not None and token.extra is not None
        S = state["S"] * token.log_decay.exp()[:, None, :, None, None]
        closed = level_between(position, (position - 1).clamp_min(0), self.config.levels).view(-1, 1, 1, 1, 1)
        level = torch.arange(self.config.levels, device=S.device).view(1, -1, 1, 1, 1)
        S = torch.where(level > closed, S, torch.where(level == closed, S.cumsum(1), 0))
        written = token.k.unsqueeze(-1) * token.v.unsqueeze(-2)
        S = S + F.pad(written.unsqueeze(1), (0, 0, 0, 0, 0, 0, 0, self.config.levels - 1))
        reads = (token.q[:, None, :, None] @ S).squeeze(-2)
        return (token.extra.transpose(1, 2).unsqueeze(-1) * reads).sum(1), {"S": S}

    def run(
        self,
        token: Token,
        state: State,
        resets: Tensor,
        valid: Tensor | None,
        position: Tensor | None,
        chunk: int,
    ) -> tuple[Tensor, State]:
        """Attend inside every chunk with the weight of the level of each pair, and carry the levels over chunks."""
        assert position is not None and token.extra is not None
        S, position = state["S"], position.clamp_min(0)
        before = (state["clock"] - 1).clamp_min(0)
        outputs = []
        for start in range(0, resets.shape[1], chunk):
            at = slice(start, start + chunk)
            part = Token(*(None if x is None else x[:, at].transpose(1, 2) for x in token))  # type: ignore[arg-type]
            o, S = self._chunk(part, S, resets[:, at], position[:, at], before)
            outputs.append(o.transpose(1, 2))
            before = position[:, at][:, -1]
        return torch.cat(outputs, 1), {"S": S}

    def _chunk(
        self, token: Token, S: Tensor, resets: Tensor, position: Tensor, before: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One chunk; the token's tensors are (B, H, C, ...), S (B, levels, H, K, V), before (B,) the last position."""
        assert token.extra is not None
        q, k, v, log_decay = token[:4]
        levels, H = self.config.levels, self.config.heads
        D, live = decay_matrix(log_decay, resets), live_weight(log_decay, resets)
        own = level_between(position.unsqueeze(-1), position.unsqueeze(-2), levels)
        weight = token.extra.gather(-1, own.unsqueeze(1).expand(-1, H, -1, -1))
        o = ((q @ k.transpose(-1, -2)) * D * weight) @ v

        level = torch.arange(levels, device=S.device)
        moved = torch.maximum(level, level_between(position, before.unsqueeze(-1), levels).unsqueeze(-1))
        entering = token.extra.gather(-1, moved.unsqueeze(1).expand(-1, H, -1, -1)) * live.unsqueeze(-1)
        reads = q.unsqueeze(1) @ S
        o = o + (entering.permute(0, 3, 1, 2).unsqueeze(-1) * reads).sum(1)

        writes = (own[:, -1].unsqueeze(1) == level.unsqueeze(-1)).to(q.dtype).unsqueeze(2) * D[:, :, -1].unsqueeze(1)
        routed = (moved[:, -1].unsqueeze(1) == level.unsqueeze(-1)).to(q.dtype)
        kept = torch.einsum("bml,blhkv->bmhkv", routed, S) * live[:, :, -1][:, None, :, None, None]
        return o, kept + (writes.unsqueeze(-1) * k.unsqueeze(1)).transpose(-1, -2) @ v.unsqueeze(1)


def level_between(now: Tensor, then: Tensor, levels: int) -> Tensor:
    """Level at position ``now`` of what was level 0 at ``then``: the bit length of ``now xor then``, below ``levels``.

    >>> level_between(torch.tensor(6), torch.tensor([6, 5, 4, 3, 0]), 10).tolist()
    [0, 2, 2, 3, 3]
    """
    powers = 2 ** torch.arange(levels - 1, device=now.device)
    return ((now ^ then).unsqueeze(-1) >= powers).sum(-1)
