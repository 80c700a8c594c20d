"""Memory caching: a recurrent memory whose state at the end of every segment is kept, and read again when it fits.

The core is the gated delta rule, S. Segments of Ls tokens are counted from the start of the episode; at the end of one
its state S^i and the mean s^i of its router keys are cached, in a ring of the last N. With u_t, s_t = W x_t and s^0 the
mean over the running segment, the present token included:

    g = softmax over {0} and the cached i of  u_t . s^i / sqrt R          S^0 = S_t, the running memory
    "residual":  o = q S_t + sum_i q S^i
    "grm":       o = sum_i g_i (q S^i), the running memory included           gated residual memory
    "soup":      o = q (sum_i g_i S^i)                                     one memory of mixed parameters
    "ssc":       as "grm", over the running memory and the ``top_k`` best caches    sparse selective caching
    y = skip(x) + W (rmsnorm_h(o) * silu(W x))

``carry="checkpoint"`` continues S into the next segment, ``"independent"`` starts every segment afresh. This core is
linear in its state, so "soup" equals "grm" and "residual" holds no more than one matrix can; "grm" and "ssc" add
capacity. Equal scores go to the later segment, by 1e-6 per segment of age.

Limits: published with an unbounded cache and any recurrent memory; here the last N segments and one core. Router keys
are maps of x to ``router_dim``, where the paper takes means of x itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.chunk_core import reset_linear_attention_at, reset_linear_attention_step
from embodied_mem.memory.fast_weights import (
    FastWeights,
    FastWeightsConfig,
    Token,
    half_life_spread,
    softplus_inverse,
    split_heads,
    unit,
)
from embodied_mem.memory.segments import segment_ids
from embodied_mem.memory.state import State, StateSpec
from embodied_mem.memory.window_memory import check_positive
from embodied_mem.registry import register

__all__ = ["MemoryCaching", "MemoryCachingConfig"]

_MODES = ("residual", "grm", "soup", "ssc")
_CARRIES = ("checkpoint", "independent")
_TIE = 1e-6
# Queries that read the caches at once; a mixed memory is a matrix per token.
_QUERIES, _MIXED = 64, 16


@dataclass(frozen=True)
class MemoryCachingConfig(FastWeightsConfig):
    """Config of `MemoryCaching`."""

    heads: int = 2
    """Fast-weight matrices."""
    caches: int = 8
    """Finished segments N that are kept."""
    segment: int = 16
    """Tokens Ls of a segment."""
    mode: Literal["residual", "grm", "soup", "ssc"] = "grm"
    """How caches are read."""
    carry: Literal["checkpoint", "independent"] = "checkpoint"
    """What a segment starts from: the state so far, or that of an episode's start."""
    top_k: int = 2
    """Caches read in mode "ssc"."""
    router_dim: int = 32
    """Width R of router queries and keys."""
    shortest_half_life: float = 16.0
    """Initial half-life in steps of the fastest forgetting head."""
    longest_half_life: float = 1024.0
    """Initial half-life in steps of the slowest forgetting head."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "caches", "segment", "top_k", "router_dim")
        if self.mode not in _MODES:
            raise UsageError(f"expected mode in {list(_MODES)}, got {self.mode!r}")
        if self.carry not in _CARRIES:
            raise UsageError(f"expected carry in {list(_CARRIES)}, got {self.carry!r}")
        half_life_spread(self.shortest_half_life, self.longest_half_life, 1)


class _Caches(NamedTuple):
    """Cached segments that the queries of a row may read."""

    states: Tensor
    """(n, J, H, K, V)."""
    keys: Tensor
    """(n, J, R)."""
    age: Tensor
    """(n, Q, J) int64 segments since it ended, 1 for the latest."""
    visible: Tensor
    """(n, Q, J) bool."""


@register(
    "memory",
    "memory_caching",
    family="test-time",
    source="Behrouz et al. 2026, Memory Caching: RNNs with growing memory",
    variants=(
        {"mode": "ssc", "conv": 1, "key_dim": 4, "value_dim": 4, "segment": 2, "caches": 5, "learned_init": True},
        {"mode": "soup", "carry": "independent", "conv": 1, "key_dim": 5, "value_dim": 7, "segment": 3, "caches": 2},
    ),
)
class MemoryCaching(FastWeights):
    """Gated delta rule with cached segments."""

    Config = MemoryCachingConfig
    clocked = True

    def __init__(self, config: MemoryCachingConfig) -> None:
        H, K, V = config.heads, config.key_dim, config.value_dim
        half_life = half_life_spread(config.shortest_half_life, config.longest_half_life, H)
        bias = [torch.zeros(H), softplus_inverse(math.log(2) / half_life), torch.zeros(2 * config.router_dim)]
        super().__init__(config, H * (2 * K + V), H * V, torch.cat(bias))
        self.config: MemoryCachingConfig = config
        if config.mode == "ssc":
            self.properties = self.properties | {"hard_write"}

    def fast_spec(self) -> dict[str, StateSpec]:
        """``S`` (H, K, V), the running memory; ``cache`` (N, H, K, V) and ``keys`` (N, R): segment j in slot j % N;
        ``sum`` (R): router keys of the running segment added up."""
        c = self.config
        matrix = (c.heads, c.key_dim, c.value_dim)
        return {
            "S": StateSpec(matrix, role="param_like"),
            "cache": StateSpec((c.caches, *matrix), role="ring"),
            "keys": StateSpec((c.caches, c.router_dim), role="ring"),
            "sum": StateSpec((c.router_dim,)),
        }

    def fast_macs(self) -> int:
        """The core, the scores, and a read of every cache that is read."""
        c = self.config
        read = min(c.top_k, c.caches) if c.mode == "ssc" else c.caches
        return (3 + read) * c.heads * c.key_dim * c.value_dim + (1 + c.caches) * c.router_dim

    def token(self, pre: Tensor, gates: Tensor, position: Tensor | None) -> Token:
        """Form the core's token; ``extra`` (..., 2 R) holds the router's query and key."""
        c = self.config
        q, k, v = split_heads(F.silu(pre), c)
        write, forget, router = gates.split_with_sizes((c.heads, c.heads, 2 * c.router_dim), -1)
        return Token(unit(q), unit(k), v, -F.softplus(forget), write.sigmoid(), router)

    def advance(self, token: Token, state: State, position: Tensor | None, *, donate: bool) -> tuple[Tensor, State]:
        """Advance the core, read the caches, and cache the segment if it ends here."""
        assert position is not None and token.extra is not None
        c = self.config
        u, s = token.extra.chunk(2, -1)
        fill, finished = position % c.segment, position // c.segment
        q, k, v, log_decay, beta, _ = token
        S, start = state["S"], self.start_of("S")
        if c.carry == "independent":
            begins = fill == 0
            log_decay = log_decay.masked_fill(begins.unsqueeze(1), 0)
            S = torch.where(begins.view(-1, 1, 1, 1), 0.0 if start is None else start, S)
        o, S = reset_linear_attention_step(q, k, v, log_decay, beta, S, donate=donate)
        total = state["sum"].masked_fill((fill == 0).unsqueeze(1), 0) + s
        slot = torch.arange(c.caches, device=S.device)
        age = (finished.unsqueeze(1) - 1 - slot) % c.caches + 1
        caches = _Caches(state["cache"], state["keys"], age.unsqueeze(1), (age <= finished.unsqueeze(1)).unsqueeze(1))
        mean = total / (fill + 1).unsqueeze(1)
        asked, running = q.unsqueeze(1), o.unsqueeze(1)
        o = self._mixed(running, asked, u.unsqueeze(1), mean.unsqueeze(1), caches).squeeze(1)

        full = fill == c.segment - 1
        new: State = {}
        for name, item in (("cache", S), ("keys", mean)):
            shape = (len(full), 1, *[1] * (item.dim() - 1))
            index = (finished % c.caches).view(shape).expand(-1, 1, *item.shape[1:])
            written = torch.where(full.view(shape), item.unsqueeze(1), state[name].gather(1, index))
            new[name] = state[name].scatter_(1, index, written) if donate else state[name].scatter(1, index, written)
        if c.carry == "independent":
            S = torch.where(full.view(-1, 1, 1, 1), 0.0 if start is None else start, S)
        return o, {"S": S, **new, "sum": total.masked_fill(full.unsqueeze(1), 0)}

    def run(
        self,
        token: Token,
        state: State,
        resets: Tensor,
        valid: Tensor | None,
        position: Tensor | None,
        chunk: int,
    ) -> tuple[Tensor, State]:
        """Run the core over all tokens, taking its state where segments end, then read the caches."""
        assert position is not None and token.extra is not None
        c, device = self.config, resets.device
        (B, T), Ls, N = resets.shape, c.segment, c.caches
        real = torch.ones_like(resets) if valid is None else valid
        lengths, step = real.sum(1, keepdim=True), torch.arange(T, device=device)
        segment, now = segment_ids(resets), position // Ls
        live, carried = segment == 0, state["clock"].unsqueeze(1) // Ls

        # segments that end in this sequence, in order
        ends = (position % Ls == Ls - 1) & real
        last = torch.argsort(~ends, dim=1, stable=True)[:, : (T + Ls - 1) // Ls]
        exists = ends.gather(1, last)
        begins = resets | ((position % Ls == 0) & real) if c.carry == "independent" else resets
        o, S, snapshots = reset_linear_attention_at(
            *token[:5], at=last, reset=begins, S0=state["S"], S_init=self.start_of("S"), chunk=chunk
        )
        u, s = token.extra.chunk(2, -1)
        totals = self._totals(s, state["sum"], position)
        means = totals / (position % Ls + 1).unsqueeze(2)
        keys = means.gather(1, last.unsqueeze(2).expand(-1, -1, c.router_dim))

        slot = torch.arange(N, device=device)
        ago = (carried - 1 - slot) % N + 1
        age = torch.cat(
            [now.unsqueeze(2) - (carried - ago).unsqueeze(1), now.unsqueeze(2) - now.gather(1, last).unsqueeze(1)], 2
        )
        held = (ago <= carried).unsqueeze(1) & live.unsqueeze(2)
        ours = exists.unsqueeze(1) & (segment.gather(1, last).unsqueeze(1) == segment.unsqueeze(2))
        seen = ours & (last.unsqueeze(1) < step.view(1, T, 1))
        visible = torch.cat([held, seen], 2) & (age <= N)
        states, keys = torch.cat([state["cache"], snapshots], 1), torch.cat([state["keys"], keys], 1)
        reads = []
        for start in range(0, T, _QUERIES):
            at = slice(start, start + _QUERIES)
            caches = _Caches(states, keys, age[:, at], visible[:, at])
            reads.append(self._mixed(o[:, at], token.q[:, at], u[:, at], means[:, at], caches))

        after = torch.cat([state["clock"].unsqueeze(1), position + 1], 1).gather(1, lengths)
        between = after % Ls == 0
        finished = after // Ls
        ago = (finished - 1 - slot) % N + 1
        ended = exists.sum(1, keepdim=True) - ago
        source = torch.where(ended >= 0, N + ended, slot)
        kept = ago <= finished
        cache = states.gather(1, source.view(B, N, 1, 1, 1).expand(-1, -1, *states.shape[2:]))
        kept_keys = keys.gather(1, source.unsqueeze(2).expand(-1, -1, c.router_dim))
        sums = torch.cat([state["sum"].unsqueeze(1), totals], 1)
        total = sums.gather(1, lengths.unsqueeze(2).expand(-1, -1, c.router_dim)).squeeze(1)
        if c.carry == "independent":
            begun = self.start_of("S")
            S = torch.where(between.view(B, 1, 1, 1), 0.0 if begun is None else begun, S)
        return torch.cat(reads, 1), {
            "S": S,
            "cache": torch.where(kept.view(B, N, 1, 1, 1), cache, 0),
            "keys": torch.where(kept.unsqueeze(2), kept_keys, 0),
            "sum": total.masked_fill(between, 0),
        }

    def _mixed(self, o: Tensor, q: Tensor, u: Tensor, mean: Tensor, caches: _Caches) -> Tensor:
        """Read caches beside what the running memory gave.

        Args:
            o: (n, Q, H, V) read of the running memory. q: (n, Q, H, K). u, mean: (n, Q, R).
        """
        c = self.config
        if c.mode == "residual":
            return o + _weighted(q, caches.visible.to(q.dtype), caches.states)
        scores = u @ caches.keys.transpose(1, 2) * c.router_dim**-0.5 - _TIE * caches.age
        scores, states = scores.masked_fill(~caches.visible, -torch.inf), caches.states
        if c.mode == "ssc" and scores.shape[-1] > c.top_k:
            best = scores.detach().topk(c.top_k, -1).indices
            if q.shape[1] == 1:
                # a step reads the chosen caches alone
                scores = scores.gather(2, best)
                index = best.view(len(best), c.top_k, 1, 1, 1)
                states = states.gather(1, index.expand(-1, -1, *states.shape[2:]))
            else:
                chosen = torch.zeros_like(caches.visible).scatter(-1, best, True)
                scores = scores.masked_fill(~chosen, -torch.inf)
        running = (u * mean).sum(-1, keepdim=True) * c.router_dim**-0.5
        g = torch.cat([running, scores], -1).softmax(-1)
        o = g[..., :1].unsqueeze(-1) * o
        if c.mode == "soup":
            for_each = (
                _soup(q[:, at : at + _MIXED], g[:, at : at + _MIXED, 1:], states) for at in range(0, q.shape[1], _MIXED)
            )
            return o + torch.cat(list(for_each), 1)
        return o + _weighted(q, g[..., 1:], states)

    def _totals(self, s: Tensor, carried: Tensor, position: Tensor) -> Tensor:
        """Sum of the router keys (n, T, R) of the running segment up to every token."""
        Ls, T = self.config.segment, s.shape[1]
        fill = (position % Ls).unsqueeze(2)
        # sums of few masked terms, not differences of a cumsum: no gradient may cross a reset
        recent = F.pad(s, (0, 0, Ls - 1, 0)).unfold(1, Ls, 1)
        age = torch.arange(Ls - 1, -1, -1, device=s.device)
        totals = torch.where((age <= fill).unsqueeze(2), recent, 0).sum(-1)
        before = fill > torch.arange(T, device=s.device).view(1, T, 1)
        return totals + torch.where(before, carried.unsqueeze(1), 0)


def _weighted(q: Tensor, weights: Tensor, states: Tensor) -> Tensor:
    """Weighted sum of reads: q (n, Q, H, K), weights (n, Q, J), states (n, J, H, K, V) -> (n, Q, H, V)."""
    asked = (q.unsqueeze(2) * weights.unsqueeze(-1).unsqueeze(-1)).transpose(1, 3).transpose(2, 3)
    return (asked.flatten(3) @ states.transpose(1, 2).flatten(2, 3)).transpose(1, 2)


def _soup(q: Tensor, weights: Tensor, states: Tensor) -> Tensor:
    """Read of the weighted sum of states; shapes as `_weighted`."""
    mixed = torch.einsum("nqj,njhkv->nqhkv", weights, states)
    return torch.einsum("nqhk,nqhkv->nqhv", q, mixed)
