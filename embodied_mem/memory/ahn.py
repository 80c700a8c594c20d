"""Artificial hippocampus network: attention over a window, and fast weights that take in what leaves it.

    near = softmax over the last W tokens and the first A (sinks) of the episode of  q . k / sqrt K - slope_h * age
    on token t:  S = exp(a_{t-W}) S' + b_{t-W} k^T (v - k exp(a_{t-W}) S'),   k, v of token t - W, if it is no sink
    far  = sigmoid(W x) rmsnorm_h(q S),      y = skip(x) + W [near, far]

Both parts share queries, keys and values (for S keys and queries are L2-normalised). S holds exactly the tokens that
the window no longer does, so an episode of at most W + A steps is plain attention. A token's gates are those it had
when it was read; they wait in the window beside its key and value. Sinks count as W steps old. Window and sinks of an
episode end with it: a token never enters the S of another episode.

The sequence form runs the chunk-parallel core on inputs delayed by W and attention in blocks.

Limits: recency in the window is a learned slope per head, where the published model inherits rotary positions from a
language model; no self-distillation, this one is trained end to end. The delta rule only, of three published cores.
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
    READ_FLOOR,
    FastWeights,
    FastWeightsConfig,
    Token,
    half_life_spread,
    softplus_inverse,
    split_heads,
    unit,
)
from embodied_mem.memory.sliding import Sliding, masked_softmax, slide
from embodied_mem.memory.state import State, StateSpec
from embodied_mem.registry import register

__all__ = ["AHN", "AHNConfig"]

_BLOCK = 64


@dataclass(frozen=True)
class AHNConfig(FastWeightsConfig):
    """Config of `AHN`."""

    heads: int = 2
    """Attention heads, and fast-weight matrices."""
    conv: int = 1
    """Taps of a short causal convolution on queries, keys and values; 1, as published, for none."""
    window: int = 32
    """Tokens W attended exactly, the present one included."""
    sinks: int = 1
    """First tokens A of an episode that stay attended for good."""
    shortest_half_life: float = 64.0
    """Initial half-life in steps of the fastest forgetting head."""
    longest_half_life: float = 1024.0
    """Initial half-life in steps of the slowest forgetting head."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window < 1 or self.sinks < 0:
            raise UsageError(f"expected window >= 1 and sinks >= 0, got {self.window} and {self.sinks}")
        if self.learned_init:
            raise UsageError("expected learned_init=False in ahn, whose fast weights hold what left the window")
        half_life_spread(self.shortest_half_life, self.longest_half_life, 1)


@register(
    "memory",
    "ahn",
    family="test-time",
    source="Fang et al. 2025, Artificial hippocampus networks",
    variants=({"window": 3, "sinks": 2, "conv": 3, "key_dim": 5, "value_dim": 7, "chunk": 8},),
)
class AHN(FastWeights):
    """Window attention and delayed compressive writes."""

    Config = AHNConfig
    clocked = True

    def __init__(self, config: AHNConfig) -> None:
        H, K, V = config.heads, config.key_dim, config.value_dim
        half_life = half_life_spread(config.shortest_half_life, config.longest_half_life, H)
        bias = torch.cat([torch.zeros(H), softplus_inverse(math.log(2) / half_life)])
        super().__init__(config, H * (2 * K + V), H, bias, read_width=2 * H * V)
        self.config: AHNConfig = config
        # slopes 1/2, 1/4, ... as in ALiBi, kept positive
        self.slope_log = nn.Parameter(torch.log(2.0 ** -torch.linspace(1, 8, H)))

    def fast_spec(self) -> dict[str, StateSpec]:
        """``S`` (H, K, V); of the window, the oldest first: ``keys``, ``values`` and ``gates`` (log decay, strength);
        ``sink_keys`` and ``sink_values`` (A, H, ...)."""
        c = self.config
        spec = {
            "S": StateSpec((c.heads, c.key_dim, c.value_dim), role="param_like"),
            "keys": StateSpec((c.window, c.heads, c.key_dim), role="ring"),
            "values": StateSpec((c.window, c.heads, c.value_dim), role="ring"),
            "gates": StateSpec((c.window, 2, c.heads), role="ring"),
        }
        if c.sinks:
            spec["sink_keys"] = StateSpec((c.sinks, c.heads, c.key_dim), role="ring")
            spec["sink_values"] = StateSpec((c.sinks, c.heads, c.value_dim), role="ring")
        return spec

    def fast_macs(self) -> int:
        """Two reads and a write of the fast weights, scores and mean of window and sinks."""
        c = self.config
        return c.heads * (3 * c.key_dim * c.value_dim + (c.window + c.sinks) * (c.key_dim + c.value_dim))

    def token(self, pre: Tensor, gates: Tensor, position: Tensor | None) -> Token:
        """Form the token; its gates are applied when it leaves the window."""
        q, k, v = split_heads(pre, self.config)
        write, forget = gates.chunk(2, -1)
        return Token(q, k, v, -F.softplus(forget), write.sigmoid())

    def advance(self, token: Token, state: State, position: Tensor | None, *, donate: bool) -> tuple[Tensor, State]:
        """Write the token that leaves, take in the new one, attend."""
        assert position is not None
        W, A = self.config.window, self.config.sinks
        q, k, v, log_decay, beta, _ = token
        assert beta is not None
        leaves = (position >= W + A).view(-1, 1, 1)
        decay, strength = torch.where(leaves, state["gates"][:, 0], 0).unbind(1)
        far, S = reset_linear_attention_step(
            unit(q), unit(state["keys"][:, 0]), state["values"][:, 0], decay, strength, state["S"], donate=donate
        )
        gates = torch.stack([log_decay, beta], 1)
        new = {key: slide(state[key], item) for key, item in (("keys", k), ("values", v), ("gates", gates))}
        age = torch.arange(W - 1, -1, -1, device=q.device)
        scores = torch.einsum("nhk,nwhk->nhw", q, new["keys"]) * q.shape[-1] ** -0.5
        scores, values = scores - self.slope_log.exp().unsqueeze(1) * age, new["values"]
        visible = age <= position.unsqueeze(1)
        if A:
            slot = torch.arange(A, device=q.device)
            taken = (slot == position.unsqueeze(1)).view(-1, A, 1, 1)
            new["sink_keys"] = torch.where(taken, k.unsqueeze(1), state["sink_keys"])
            new["sink_values"] = torch.where(taken, v.unsqueeze(1), state["sink_values"])
            sinks = torch.einsum("nhk,nahk->nha", q, new["sink_keys"]) * q.shape[-1] ** -0.5
            scores = torch.cat([sinks - self.slope_log.exp().unsqueeze(1) * W, scores], -1)
            values = torch.cat([new["sink_values"], values], 1)
            visible = torch.cat([slot <= position.unsqueeze(1) - W, visible], 1)
        near = torch.einsum("nhw,nwhv->nhv", masked_softmax(scores, visible.unsqueeze(1)), values)
        return torch.cat([near, far], -2), {"S": S, **new}

    def run(
        self,
        token: Token,
        state: State,
        resets: Tensor,
        valid: Tensor | None,
        position: Tensor | None,
        chunk: int,
    ) -> tuple[Tensor, State]:
        """Run the core on the delayed tokens, and attend in blocks."""
        W, A, T = self.config.window, self.config.sinks, resets.shape[1]
        q, k, v, log_decay, beta, _ = token
        assert beta is not None
        sliding = Sliding.of(state["clock"], W, resets, valid, T)
        gates = torch.stack([log_decay.masked_fill(resets.unsqueeze(-1), 0), beta], 2)
        held = {key: torch.cat([state[key], item], 1) for key, item in (("keys", k), ("values", v), ("gates", gates))}
        leaves = sliding.position >= W + A
        if valid is not None:
            leaves = leaves & valid
        decay, strength = torch.where(leaves.view(*leaves.shape, 1, 1), held["gates"][:, :T], 0).unbind(2)
        far, S = reset_linear_attention(
            unit(q),
            unit(held["keys"][:, :T]),
            held["values"][:, :T],
            decay,
            strength,
            reset=resets,
            S0=state["S"],
            chunk=chunk,
        )
        new: State = {"S": S, **{key: sliding.carry(items) for key, items in held.items()}}
        first: dict[str, Tensor] = {}
        if A:
            first = {"keys": torch.cat([state["sink_keys"], k], 1), "values": torch.cat([state["sink_values"], v], 1)}
            began = sliding.lengths - sliding.after
            kept = (torch.arange(A, device=q.device) < sliding.after.unsqueeze(1)).view(-1, A, 1, 1)
            live = began < 0
            for name, items in first.items():
                taken = self._sinks(items, began.unsqueeze(1), live.unsqueeze(1)).squeeze(1)
                new[f"sink_{name}"] = torch.where(kept, taken, 0)
        near = [self._attend(q, held, first, sliding, start, min(start + _BLOCK, T)) for start in range(0, T, _BLOCK)]
        return torch.cat([torch.cat(near, 1), far], -2), new

    def read(self, o: Tensor, gate: Tensor, token: Token) -> Tensor:
        """Both parts side by side, what the fast weights gave normalised and gated by head."""
        near, far = o.chunk(2, -2)
        far = unit(far, READ_FLOOR) * far.shape[-1] ** 0.5 * gate.sigmoid().unsqueeze(-1)
        return torch.cat([near, far], -2).flatten(-2)

    def _attend(
        self, q: Tensor, held: dict[str, Tensor], first: dict[str, Tensor], sliding: Sliding, start: int, stop: int
    ) -> Tensor:
        """Read window and sinks for the queries ``start .. stop``: (n, Q, H, V)."""
        W, A = self.config.window, self.config.sinks
        at, asked = slice(start, stop), slice(start, stop + W)
        q, position = q[:, at] * q.shape[-1] ** -0.5, sliding.position[:, at]
        age = W + torch.arange(stop - start, device=q.device).unsqueeze(1)
        age = age - torch.arange(stop - start + W, device=q.device)
        slope = self.slope_log.exp().view(-1, 1, 1)
        scores = torch.einsum("nqhk,nwhk->nhqw", q, held["keys"][:, asked]) - slope * age
        same = sliding.owner[:, None, asked] == sliding.segment[:, at, None]
        visible = same & (age >= 0) & (age < W)
        if A:
            step = torch.arange(start, stop, device=q.device)
            live = sliding.segment[:, at] == 0
            keys, values = (self._sinks(first[name], step - position, live) for name in ("keys", "values"))
            scores = torch.cat([torch.einsum("nqhk,nqahk->nhqa", q, keys) - slope * W, scores], -1)
            slot = torch.arange(A, device=q.device)
            visible = torch.cat([slot <= (position - W).unsqueeze(2), visible], 2)
        weights = masked_softmax(scores, visible.unsqueeze(1))
        near = torch.einsum("nhqw,nwhv->nqhv", weights[..., A:], held["values"][:, asked])
        return near if not A else near + torch.einsum("nhqa,nqahv->nqhv", weights[..., :A], values)

    def _sinks(self, items: Tensor, began: Tensor, live: Tensor) -> Tensor:
        """Gather the first A items of the episodes that began at tokens ``began`` (n, Q).

        ``items`` (n, A + T, H, d) are the carried sinks and the sequence's tokens. A live episode began before token 0;
        its first ``-began`` tokens lie among the carried sinks.
        """
        A = self.config.sinks
        slot = torch.arange(A, device=items.device)
        later = A + began.unsqueeze(2) + slot
        carried = live.unsqueeze(2) & (slot < -began.unsqueeze(2))
        index = torch.where(carried, slot, later).clamp(0, items.shape[1] - 1)
        n, Q, _ = index.shape
        taken = items.gather(1, index.view(n, Q * A, 1, 1).expand(-1, -1, *items.shape[2:]))
        return taken.view(n, Q, A, *items.shape[2:])
