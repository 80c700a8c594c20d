"""B'MOJO, a reconstruction: attention over what is recent, what was surprising, and one token that sums up the rest.

    fading:   S = exp(a) S' + b k^T (v - k exp(a) S'),   f = rmsnorm_h(q S)           keys and queries L2-normalised
    innovation of a token:  eps = |v - k exp(a) S'|^2 / (mean of |v|^2 over the episode so far)
    eidetic:  a token that leaves the window of W enters a bank of the E tokens of largest eps, the older first if equal
    near = softmax over bank, window and the summary of  q . k / sqrt K - slope_h * min(age, W),    y = skip(x) + W near

The summary token has value f and logit ``q . (f W_s) / sqrt K``. What the bank keeps is exact at any age, at the price
of a hard choice, through which no gradient flows. ``bank=0`` is the published variant without it (B'MOJO-F).

Reconstructed from the stated principle (fading state, innovation-selected eidetic memory, sliding attention); the
paper's equations were not checked. Its fading memory is a state space model; here it is the gated delta rule, whose
state is itself the linear predictor of values by keys that the innovation needs.

The sequence form is exact: which tokens a bank holds at a step follows from ranks among all that have left the window,
so nothing is a chunk late.
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
    uniform,
    unit,
)
from embodied_mem.memory.scan import linear_scan
from embodied_mem.memory.sliding import Sliding, masked_softmax, slide
from embodied_mem.memory.state import State, StateSpec
from embodied_mem.registry import register

__all__ = ["BMojo", "BMojoConfig"]

_BLOCK = 64
_TINY = 1e-6


@dataclass(frozen=True)
class BMojoConfig(FastWeightsConfig):
    """Config of `BMojo`."""

    heads: int = 2
    """Attention heads, and fast-weight matrices."""
    window: int = 16
    """Tokens W attended exactly, the present one included."""
    bank: int = 16
    """Surprising tokens E kept beyond the window; 0 for none."""
    shortest_half_life: float = 16.0
    """Initial half-life in steps of the fastest forgetting head."""
    longest_half_life: float = 1024.0
    """Initial half-life in steps of the slowest forgetting head."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window < 1 or self.bank < 0:
            raise UsageError(f"expected window >= 1 and bank >= 0, got {self.window} and {self.bank}")
        if self.learned_init:
            raise UsageError("expected learned_init=False in b_mojo, whose innovations count from an empty memory")
        half_life_spread(self.shortest_half_life, self.longest_half_life, 1)


@register(
    "memory",
    "b_mojo",
    family="test-time",
    source="Zancato et al. 2024, B'MOJO; a reconstruction",
    variants=({"conv": 1, "window": 3, "bank": 4, "key_dim": 5, "value_dim": 7, "chunk": 8},),
)
class BMojo(FastWeights):
    """Fading, eidetic and short-term memory under one attention (reconstruction)."""

    Config = BMojoConfig
    properties = frozenset({"compilable", "hard_write"})
    clocked = True

    def __init__(self, config: BMojoConfig) -> None:
        H, K, V = config.heads, config.key_dim, config.value_dim
        half_life = half_life_spread(config.shortest_half_life, config.longest_half_life, H)
        bias = torch.cat([torch.zeros(H), softplus_inverse(math.log(2) / half_life)])
        super().__init__(config, H * (2 * K + V), 0, bias)
        self.config: BMojoConfig = config
        self.summary_key = nn.Parameter(torch.stack([uniform(V, K) for _ in range(H)]))
        # slopes 1/2, 1/4, ... as in ALiBi, kept positive
        self.slope_log = nn.Parameter(torch.log(2.0 ** -torch.linspace(1, 8, H)))

    def fast_spec(self) -> dict[str, StateSpec]:
        """``S`` (H, K, V); ``energy``: sum of |v|^2; window and bank, each the oldest first: ``keys``, ``values``,
        ``eps`` and ``bank_keys``, ``bank_values``, ``bank_eps``; ``stamps`` (E,): step of a bank token, 0 for none."""
        c = self.config
        key, value = (c.heads, c.key_dim), (c.heads, c.value_dim)
        spec = {
            "S": StateSpec((c.heads, c.key_dim, c.value_dim), role="param_like"),
            "energy": StateSpec((1,)),
            "keys": StateSpec((c.window, *key), role="ring"),
            "values": StateSpec((c.window, *value), role="ring"),
            "eps": StateSpec((c.window,), role="ring"),
        }
        if c.bank:
            spec["bank_keys"] = StateSpec((c.bank, *key), role="ring")
            spec["bank_values"] = StateSpec((c.bank, *value), role="ring")
            spec["bank_eps"] = StateSpec((c.bank,), role="ring")
            spec["stamps"] = StateSpec((c.bank,), torch.int64, "counter")
        return spec

    def fast_macs(self) -> int:
        """Three reads and a write of the fast weights, scores and mean of what is attended, the summary's key."""
        c = self.config
        attended = (c.window + c.bank + 1) * (c.key_dim + c.value_dim)
        return c.heads * (5 * c.key_dim * c.value_dim + attended)

    def token(self, pre: Tensor, gates: Tensor, position: Tensor | None) -> Token:
        """Form the token; ``extra`` (..., H, 2 K) holds the query and key of the attention."""
        q, k, v = split_heads(pre, self.config)
        write, forget = gates.chunk(2, -1)
        return Token(unit(q), unit(k), v, -F.softplus(forget), write.sigmoid(), torch.cat([q, k], -1))

    def advance(self, token: Token, state: State, position: Tensor | None, *, donate: bool) -> tuple[Tensor, State]:
        """Measure the innovation, write, offer what leaves the window to the bank, attend."""
        assert position is not None
        c = self.config
        q, k, v, log_decay, beta, extra = token
        assert extra is not None
        energy = state["energy"] + v.detach().square().sum((1, 2)).unsqueeze(1)
        predicted = torch.einsum("nhk,nhkv->nhv", k, state["S"]) * log_decay.exp().unsqueeze(-1)
        eps = _innovation(v, predicted, energy.squeeze(1), position)
        far, S = reset_linear_attention_step(q, k, v, log_decay, beta, state["S"], donate=donate)
        asked, key = extra.chunk(2, -1)
        new: State = {"S": S, "energy": energy}
        for name, item in (("keys", key), ("values", v), ("eps", eps)):
            new[name] = slide(state[name], item)
        age = torch.arange(c.window - 1, -1, -1, device=q.device)
        keys, values, visible = new["keys"], new["values"], age <= position.unsqueeze(1)
        if c.bank:
            new |= self._offer(state, position)
            keys = torch.cat([new["bank_keys"], keys], 1)
            values = torch.cat([new["bank_values"], values], 1)
            visible = torch.cat([new["stamps"] > 0, visible], 1)
            age = torch.cat([age.new_full((c.bank,), c.window), age])
        near = self._attend(asked.unsqueeze(1), far.unsqueeze(1), keys, values, age.unsqueeze(0), visible.unsqueeze(1))
        return near.squeeze(1), self._ordered(new)

    def run(
        self,
        token: Token,
        state: State,
        resets: Tensor,
        valid: Tensor | None,
        position: Tensor | None,
        chunk: int,
    ) -> tuple[Tensor, State]:
        """Run the fading memory, rank what has left the window, attend in blocks."""
        c, T, device = self.config, resets.shape[1], resets.device
        W, E = c.window, c.bank
        q, k, v, log_decay, beta, extra = token
        assert extra is not None
        asked, key = extra.chunk(2, -1)
        sliding = Sliding.of(state["clock"], W, resets, valid, T)
        far, S = reset_linear_attention(q, k, v, log_decay, beta, reset=resets, S0=state["S"], chunk=chunk)
        added = v.detach().square().sum((2, 3))
        energy = linear_scan(torch.ones_like(added), added, resets, state["energy"].squeeze(1))
        eps = _innovation(v, self._predicted(token, state["S"], resets, chunk), energy, sliding.position)
        held = {name: torch.cat([state[name], item], 1) for name, item in (("keys", key), ("values", v), ("eps", eps))}
        new: State = {"S": S, **{name: sliding.carry(items) for name, items in held.items()}}
        energies = torch.cat([state["energy"], energy], 1)
        new["energy"] = energies.gather(1, sliding.lengths.unsqueeze(1))
        keys, values, kept = held["keys"], held["values"], None
        if E:
            kept = self._ranked(held["eps"], state, sliding)
            keys, values = torch.cat([state["bank_keys"], keys], 1), torch.cat([state["bank_values"], values], 1)
            new |= self._last_bank(kept, keys, values, held["eps"], state, sliding)
        when = torch.arange(-W, T, device=device)
        reads = []
        for start in range(0, T, _BLOCK):
            at = slice(start, min(start + _BLOCK, T))
            age = torch.arange(at.start, at.stop, device=device).unsqueeze(1) - when
            visible = (sliding.owner.unsqueeze(1) == sliding.segment[:, at, None]) & (age >= 0) & (age < W)
            if kept is not None:
                age = torch.cat([age.new_full((len(age), E), W), age], 1)
                visible = F.pad(visible, (E, 0)) | F.pad(kept[:, at], (0, W))
            reads.append(self._attend(asked[:, at], far[:, at], keys, values, age.clamp(max=W), visible))
        return torch.cat(reads, 1), self._ordered(new)

    def read(self, o: Tensor, gate: Tensor, token: Token) -> Tensor:
        """What attention gave, as it is."""
        return o.flatten(-2)

    def _ordered(self, new: State) -> State:
        return {key: new[key] for key in self.fast_spec()}

    def _predicted(self, token: Token, S0: Tensor, resets: Tensor, chunk: int) -> Tensor:
        """What the fading memory predicts for every token before it is written, (n, T, H, V); no gradient."""
        k, v, log_decay, beta = (x.detach() for x in (token.k, token.v, token.log_decay, token.beta) if x is not None)
        # the state before a token is the one after the token before it, asked for this token's key
        ahead = torch.cat([k[:, 1:], k[:, :1]], 1)
        later, _ = reset_linear_attention(ahead, k, v, log_decay, beta, reset=resets, S0=S0.detach(), chunk=chunk)
        first = torch.einsum("nhk,nhkv->nhv", k[:, 0], S0.detach()).unsqueeze(1)
        found = torch.cat([first, later[:, :-1]], 1) * log_decay.exp().unsqueeze(-1)
        return found.masked_fill(resets.view(*resets.shape, 1, 1), 0)

    def _attend(self, q: Tensor, far: Tensor, keys: Tensor, values: Tensor, age: Tensor, visible: Tensor) -> Tensor:
        """Attend to items and the summary.

        Args:
            q: (n, Q, H, K). far: (n, Q, H, V) read of the fading memory.
            keys, values: (n, S, H, ...). age: (Q, S) at most W. visible: (n, Q, S) bool.

        Returns:
            (n, Q, H, V).
        """
        q = q * q.shape[-1] ** -0.5
        summary = unit(far, READ_FLOOR) * far.shape[-1] ** 0.5
        score = (q * torch.einsum("nqhv,hvk->nqhk", summary, self.summary_key)).sum(-1)
        scores = torch.einsum("nqhk,nshk->nhqs", q, keys) - self.slope_log.exp().view(-1, 1, 1) * age
        scores = torch.cat([scores, score.transpose(1, 2).unsqueeze(-1)], -1)
        weights = masked_softmax(scores, F.pad(visible, (0, 1), value=True).unsqueeze(1))
        near = torch.einsum("nhqs,nshv->nqhv", weights[..., :-1], values)
        return near + weights[..., -1].transpose(1, 2).unsqueeze(-1) * summary

    def _offer(self, state: State, position: Tensor) -> State:
        """Put the token that leaves the window into the bank, in the place of the least surprising one."""
        c = self.config
        leaves = position >= c.window
        stamps = torch.cat([state["stamps"], torch.where(leaves, position - c.window + 1, 0).unsqueeze(1)], 1)
        eps = torch.cat([state["bank_eps"], state["eps"][:, :1]], 1)
        slot = torch.arange(c.bank + 1, device=eps.device)
        # an empty slot goes before any token, and what did not leave before that; of equals the youngest goes
        rank = torch.where(stamps > 0, eps.detach(), -1.0)
        rank = torch.where((slot < c.bank) | leaves.unsqueeze(1), rank, -2.0)
        out = torch.where(rank == rank.amin(1, keepdim=True), slot, -1).amax(1, keepdim=True)
        stay = slot[:-1] + (slot[:-1] >= out).long()
        new: State = {"stamps": stamps.gather(1, stay), "bank_eps": eps.gather(1, stay)}
        for name in ("keys", "values"):
            items = torch.cat([state[f"bank_{name}"], state[name][:, :1]], 1)
            index = stay.view(*stay.shape, 1, 1).expand(-1, -1, *items.shape[2:])
            new[f"bank_{name}"] = items.gather(1, index)
        return new

    def _ranked(self, eps: Tensor, state: State, sliding: Sliding) -> Tensor:
        """Which tokens the bank holds at every step.

        Args:
            eps: (n, W + T) innovations of the carried window and the tokens.

        Returns:
            (n, T, E + T) bool; candidates are the carried bank, then item j of ``eps``, which leaves at token j.
        """
        E, T = self.config.bank, sliding.segment.shape[1]
        step = torch.arange(T, device=eps.device)
        live = (sliding.segment == 0).unsqueeze(2) & (state["stamps"] > 0).unsqueeze(1)
        left = (sliding.owner[:, None, :T] == sliding.segment.unsqueeze(2)) & (step <= step.unsqueeze(1))
        seen = torch.cat([live, left], 2)
        value = torch.cat([state["bank_eps"], eps[:, :T]], 1).detach()
        order = torch.arange(E + T, device=eps.device)
        ahead = (order.unsqueeze(1) < order) & (value.unsqueeze(2) == value.unsqueeze(1))
        beats = (value.unsqueeze(2) > value.unsqueeze(1)) | ahead
        return seen & (seen.to(value.dtype) @ beats.to(value.dtype) < E)

    def _last_bank(
        self, kept: Tensor, keys: Tensor, values: Tensor, eps: Tensor, state: State, sliding: Sliding
    ) -> State:
        """The bank after the last real token, the oldest first and empty slots before it."""
        E, (n, T) = self.config.bank, sliding.segment.shape
        W = eps.shape[1] - T
        last = (sliding.lengths - 1).clamp(min=0).view(n, 1, 1).expand(-1, -1, E + T)
        held = kept.gather(1, last).squeeze(1)
        before = F.pad(state["stamps"] > 0, (0, T))
        held = torch.where((sliding.lengths > 0).unsqueeze(1), held, before)
        window = state["clock"].unsqueeze(1) - W + torch.arange(W, device=eps.device)
        stamps = torch.cat([state["stamps"], torch.cat([window, sliding.position], 1)[:, :T] + 1], 1)
        index = torch.argsort(held.long(), dim=1, stable=True)[:, -E:]
        exists = held.gather(1, index)
        picked = torch.cat([state["bank_eps"], eps[:, :T]], 1).gather(1, index)
        new = {"stamps": torch.where(exists, stamps.gather(1, index), 0), "bank_eps": torch.where(exists, picked, 0)}
        shape = (n, E, 1, 1)
        for name, items in (("keys", keys), ("values", values)):
            taken = items.gather(1, index.view(shape).expand(-1, -1, *items.shape[2:]))
            new[f"bank_{name}"] = torch.where(exists.view(shape), taken, 0)
        return new


def _innovation(v: Tensor, predicted: Tensor, energy: Tensor, position: Tensor) -> Tensor:
    """Squared error of a prediction over the mean of |v|^2: v (..., H, V), energy and position (...) -> (...)."""
    error = (v - predicted).detach().square().sum((-2, -1))
    return error / (energy.detach() / (position + 1) + _TINY)
