"""BASED: linear attention over second-order Taylor features, beside exact attention over a short window.

    q, k = sqrt K l2norm(W x),   phi(x) = [1, x / K^(1/4), vec(x x^T) / sqrt(2 K)]
    S = where(reset, S_init, S') + phi(k)^T v,   far = phi(q) S / (phi(q) . z)      z as in `linear_attention`
    near = softmax over the last ``window`` tokens of the episode of  q' . k' / sqrt K - slope_h * age
    y = skip(x) + W [far, near]

``phi(q) . phi(k) = 1 + u + u^2 / 2`` with u = q . k / sqrt K is the exponential to second order and at least 1/2, so
the normaliser never crosses zero. In float32 that needs vectors of bounded length, hence the norm, which the paper
lacks. Recency in the window is a learned slope per head instead of rotary positions: it needs no clock.

The window is a shift register, oldest first, so that what it computes does not depend on when the episode began; the
sequence form attends in blocks of one window. State: H (1 + K + K^2) (V + 1) numbers and the window.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.chunk_core import reset_linear_attention, reset_linear_attention_step
from embodied_mem.memory.fast_weights import FastWeights, FastWeightsConfig, Token, split_heads, unit
from embodied_mem.memory.segments import segment_ids
from embodied_mem.memory.state import State, StateSpec
from embodied_mem.registry import register

__all__ = ["Based", "BasedConfig", "taylor_features"]

_EPS = 1e-6


@dataclass(frozen=True)
class BasedConfig(FastWeightsConfig):
    """Config of `Based`; ``key_dim`` is the width before the Taylor features."""

    key_dim: int = 16
    """Key and query width of a head, before the Taylor features and in the window."""
    window: int = 64
    """Tokens attended exactly, the present one included."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window < 1:
            raise UsageError(f"expected window >= 1, got {self.window}")


@register(
    "memory",
    "based",
    family="linear",
    source="Arora et al. 2024, Simple linear attention language models balance the recall-throughput tradeoff",
    variants=({"conv": 1, "learned_init": True, "key_dim": 3, "value_dim": 5, "window": 5, "chunk": 4},),
)
class Based(FastWeights):
    """Taylor linear attention and a sliding window."""

    Config = BasedConfig

    def __init__(self, config: BasedConfig) -> None:
        H, K, V = config.heads, config.key_dim, config.value_dim
        super().__init__(config, 2 * H * (2 * K + V), 0, torch.zeros(0), rows=1 + K + K * K, read_width=2 * H * V)
        self.config: BasedConfig = config
        # slopes 1/2, 1/4, ... as in ALiBi, kept positive
        self.slope_log = nn.Parameter(torch.log(2.0 ** -torch.linspace(1, 8, H)))

    def fast_spec(self) -> dict[str, StateSpec]:
        """Fast weights with the normaliser as column V + 1; keys and values of the window; how many of them exist."""
        c = self.config
        return {
            "S": StateSpec((c.heads, self.rows, c.value_dim + 1), role="param_like"),
            "keys": StateSpec((c.window, c.heads, c.key_dim), role="ring"),
            "values": StateSpec((c.window, c.heads, c.value_dim), role="ring"),
            "fill": StateSpec((), torch.int64, "counter"),
        }

    def start_of(self, key: str) -> Tensor | None:
        """Learned start, which weighs as much as one token at a product of 0."""
        start = super().start_of(key)
        if start is None:
            return None
        weight = F.pad(torch.ones_like(start[:, :1, :1]), (0, 0, 0, self.rows - 1))
        return torch.cat([start, weight], -1)

    def ages(self, state: State) -> dict[str, Tensor]:
        """Return the age of every token of the window, the oldest first."""
        age = torch.arange(self.config.window, device=state["fill"].device).flip(0)
        age = age.where(age < state["fill"].unsqueeze(1), -1)
        return {"keys": age, "values": age}

    def fast_macs(self) -> int:
        """Write and read of the Taylor part, scores and mean of the window."""
        c = self.config
        return c.heads * (2 * self.rows * (c.value_dim + 1) + c.window * (c.key_dim + c.value_dim))

    def token(self, pre: Tensor, gates: Tensor, position: Tensor | None) -> Token:
        """Pack both kinds of attention: the heads of the Taylor part first, then those of the window."""
        far, near = pre.split_with_sizes((pre.shape[-1] // 2, pre.shape[-1] // 2), -1)
        q, k, v = split_heads(far, self.config)
        near_q, near_k, near_v = split_heads(near, self.config)
        # of bounded length: the square of a product cancels badly in float32 where vectors are long
        q, k = unit(q) * q.shape[-1] ** 0.5, unit(k) * k.shape[-1] ** 0.5
        q, k, v = torch.cat([q, near_q], -2), torch.cat([k, near_k], -2), torch.cat([v, near_v], -2)
        return Token(q, k, v, torch.zeros_like(v[..., : self.config.heads, 0]))

    def advance(self, token: Token, state: State, position: Tensor | None, *, donate: bool) -> tuple[Tensor, State]:
        """Advance both parts by one token."""
        (q, near_q), (k, near_k), (v, near_v) = self._parts(token.q), self._parts(token.k), self._parts(token.v)
        phi_q, phi_k = taylor_features(q), taylor_features(k)
        far, S = reset_linear_attention_step(
            phi_q, phi_k, F.pad(v, (0, 1), value=1.0), token.log_decay, None, state["S"], donate=donate
        )
        W = self.config.window
        keys = torch.cat([state["keys"][:, 1:], near_k.unsqueeze(1)], 1)
        values = torch.cat([state["values"][:, 1:], near_v.unsqueeze(1)], 1)
        fill = (state["fill"] + 1).clamp(max=W)
        age = torch.arange(W - 1, -1, -1, device=keys.device)
        held = age < fill.unsqueeze(1)
        near = self._window(near_q.unsqueeze(1), keys, values, age.unsqueeze(0), held.unsqueeze(1)).squeeze(1)
        return torch.cat([_normalised(far), near], -2), {"S": S, "keys": keys, "values": values, "fill": fill}

    def run(
        self,
        token: Token,
        state: State,
        resets: Tensor,
        valid: Tensor | None,
        position: Tensor | None,
        chunk: int,
    ) -> tuple[Tensor, State]:
        """Advance both parts by T tokens."""
        (q, near_q), (k, near_k), (v, near_v) = self._parts(token.q), self._parts(token.k), self._parts(token.v)
        phi_k = taylor_features(k)
        if valid is not None:
            # a key of zero has a feature of one
            phi_k = phi_k.masked_fill(~valid.view(*valid.shape, 1, 1), 0)
        far, S = reset_linear_attention(
            taylor_features(q),
            phi_k,
            F.pad(v, (0, 1), value=1.0),
            token.log_decay,
            reset=resets,
            S0=state["S"],
            S_init=self.start_of("S"),
            chunk=chunk,
        )
        (n, T), W = resets.shape, self.config.window
        keys, values = torch.cat([state["keys"], near_k], 1), torch.cat([state["values"], near_v], 1)
        segment = segment_ids(resets)
        exists = torch.arange(W, device=resets.device) >= W - state["fill"].unsqueeze(1)
        owner = torch.cat([torch.where(exists, 0, -1), segment], 1)
        reads = []
        for start in range(0, T, W):
            asking = slice(start, min(start + W, T))
            asked = slice(start, asking.stop + W)
            now = torch.arange(asking.start, asking.stop, device=resets.device) + W
            age = now.unsqueeze(1) - torch.arange(asked.start, asked.stop, device=resets.device)
            held = (owner[:, None, asked] == segment[:, asking, None]) & (age >= 0) & (age < W)
            reads.append(self._window(near_q[:, asking], keys[:, asked], values[:, asked], age, held))
        end = torch.full((n,), T, device=resets.device) if valid is None else valid.sum(1)
        last = end.unsqueeze(1) + torch.arange(W, device=resets.device)
        at = last.view(n, W, 1, 1)
        owners = owner.gather(1, last)
        kept = owners == torch.cat([torch.zeros_like(segment[:, :1]), segment], 1).gather(1, end.unsqueeze(1))
        new: State = {"S": S}
        for key, items in (("keys", keys), ("values", values)):
            taken = items.gather(1, at.expand(-1, -1, *items.shape[2:]))
            new[key] = torch.where(kept.view(n, W, 1, 1), taken, 0)
        new["fill"] = kept.sum(1)
        return torch.cat([_normalised(far), torch.cat(reads, 1)], -2), new

    def read(self, o: Tensor, gate: Tensor, token: Token) -> Tensor:
        """Both parts side by side."""
        return o.flatten(-2)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(..., 2H, d) -> the Taylor part and the window part, (..., H, d) each."""
        H = self.config.heads
        return x[..., :H, :], x[..., H:, :]

    def _window(self, q: Tensor, keys: Tensor, values: Tensor, age: Tensor, held: Tensor) -> Tensor:
        """q (n, T, H, K), keys (n, S, H, K), values (n, S, H, V), age (T, S), held (n, T, S) -> read (n, T, H, V)."""
        score = (q * q.shape[-1] ** -0.5).transpose(1, 2) @ keys.permute(0, 2, 3, 1)
        score = score - self.slope_log.exp().view(-1, 1, 1) * age
        weight = score.masked_fill(~held.unsqueeze(1), -torch.inf).softmax(-1)
        return (weight @ values.transpose(1, 2)).transpose(1, 2)


def taylor_features(x: Tensor) -> Tensor:
    """(..., K) -> (..., 1 + K + K^2), whose products are ``1 + u + u^2 / 2``, u the scaled product of the inputs."""
    x = x * x.shape[-1] ** -0.25
    squares = (x.unsqueeze(-1) * x.unsqueeze(-2)).flatten(-2) * 2**-0.5
    return torch.cat([torch.ones_like(x[..., :1]), x, squares], -1)


def _normalised(o: Tensor) -> Tensor:
    return o[..., :-1] / o[..., -1:].clamp_min(_EPS)
