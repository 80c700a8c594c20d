"""Titans: a small regressor that learns the episode by gradient descent with momentum and forgetting.

    g_t = grad |M(k_t) - v_t|^2,   Z_t = eta_t Z_{t-1} - theta_t g_t,   W_t = (1 - alpha_t) W_{t-1} + Z_t
    o_t = M_{W_t}(q_t),            alpha, eta, theta from the input, per head

Surprise, the gradient, is what is written; eta carries it on over the next tokens; alpha forgets. q, k and v have unit
length, as the step size needs: with unit keys a matrix memory overshoots once the weights of a chunk's writes under one
key exceed 1. ``theta = max_rate (1 - eta) sigmoid(W x)`` keeps the whole weight of a write independent of eta.

``placement`` says what stands around the memory; attention is over the last ``window`` tokens [x] of the episode and
``persistent`` learned ones [p] (`sliding_window`):

    alone     y = skip(x) + W (rmsnorm(o) * silu(W x))
    gate      y = skip(x) + W (rmsnorm(attention([p | x])) * silu(rmsnorm(o)))      MAG: the default
    layer     y = skip(x) + W (rmsnorm(attention([p | rmsnorm(o)])) * silu(W x))    MAL

Limits: `inner_learner`; the depth of an mlp memory is two; the published memory as context (MAC) is not offered yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.kernels import titans_step
from embodied_mem.memory.contract import MemoryInput, State, StateSpec
from embodied_mem.memory.episode_chunks import find_chunks, from_heads, head_places, to_heads
from embodied_mem.memory.fast_weights import (
    KEY_FLOOR,
    READ_FLOOR,
    Token,
    half_life_spread,
    softplus_inverse,
    split_heads,
    uniform,
    unit,
)
from embodied_mem.memory.inner_learner import InnerLearner, InnerLearnerConfig
from embodied_mem.memory.rows import opened_rows
from embodied_mem.memory.sliding_window import SlidingWindow, as_array
from embodied_mem.registry import register

__all__ = ["Titans", "TitansConfig"]


PLACEMENTS = ("alone", "gate", "layer")
# What an mlp memory holds, in the order in which the compiled step takes it.
COMPILED_STATE = ("W0", "Z0", "W1", "Z1", "left0", "right0", "left1", "right1", "kappa", "mu", "phase")


@dataclass(frozen=True)
class TitansConfig(InnerLearnerConfig):
    """Config of `Titans`."""

    placement: str = "gate"
    """alone, gate (MAG) or layer (MAL); see the module docstring."""
    window: int = 16
    """Tokens attended, the present one included; not with ``alone``."""
    persistent: int = 4
    """Learned tokens that attention always sees; not with ``alone``."""
    max_rate: float = 0.5
    """Largest weight of a write (theta / (1 - eta)); 0.5 stores a value at a unit key in one write."""
    rate: float = 0.1
    """Initial weight of a write."""
    keep_momentum: float = 0.5
    """Initial eta."""
    shortest_half_life: float = 16.0
    """Initial half-life in steps of the fastest forgetting head."""
    longest_half_life: float = 1024.0
    """Initial half-life in steps of the slowest forgetting head."""

    def __post_init__(self) -> None:
        super().__post_init__()
        half_life_spread(self.shortest_half_life, self.longest_half_life, 1)
        if self.placement not in PLACEMENTS:
            raise UsageError(f"expected placement to be one of {', '.join(PLACEMENTS)}, got {self.placement!r}")
        if self.window < 1 or self.persistent < 0:
            raise UsageError(f"expected window >= 1 and persistent >= 0, got {self.window} and {self.persistent}")
        if not 0 < self.rate < self.max_rate:
            raise UsageError(f"expected 0 < rate < max_rate, got {self.rate} and {self.max_rate}")
        if not 0 < self.keep_momentum < 1:
            raise UsageError(f"expected 0 < keep_momentum < 1, got {self.keep_momentum}")


@register(
    "memory",
    "titans",
    family="test-time",
    source="Behrouz, Zhong, Mirrokni 2024, Titans: Learning to memorize at test time",
    variants=(
        {"memory": "mlp", "heads": 1, "key_dim": 5, "value_dim": 4, "expansion": 2, "chunk": 4, "placement": "alone"},
        {"learned_init": True, "heads": 2, "key_dim": 5, "value_dim": 7, "chunk": 3, "placement": "layer", "window": 5},
    ),
)
class Titans(InnerLearner):
    """Weights that learn by momentum, forgetting and surprise."""

    Config = TitansConfig
    momentum = True

    def __init__(self, config: TitansConfig) -> None:
        H, K, V = config.heads, config.key_dim, config.value_dim
        half_life = half_life_spread(config.shortest_half_life, config.longest_half_life, H)
        bias = torch.cat(
            [
                torch.full((H,), _logit(config.rate / config.max_rate)),
                softplus_inverse(math.log(2) / half_life),
                torch.full((H,), _logit(config.keep_momentum)),
            ]
        )
        # queries, keys and values of the memory, then those of the attention
        width, gated = H * (2 * K + V), config.placement != "gate"
        super().__init__(config, width * (2 if config.placement == "gate" else 1), H * V * gated, bias)
        self.config: TitansConfig = config
        attends = config.placement != "alone"
        self.near = SlidingWindow(H, K, V, config.window, config.persistent) if attends else None
        self.between = nn.Parameter(uniform(H * V, width)) if config.placement == "layer" else None

    def fast_spec(self) -> dict[str, StateSpec]:
        """What the memory holds and, beside attention, its window."""
        return {**super().fast_spec(), **({} if self.near is None else self.near.spec())}

    def fast_macs(self) -> int:
        """Memory, attention, and the projection between them."""
        between = 0 if self.between is None else self.between.numel()
        return super().fast_macs() + between + (0 if self.near is None else self.near.macs())

    def forward_step(
        self, inputs: MemoryInput, state: State, reset: Tensor | None, *, donate: bool
    ) -> tuple[Tensor, State]:
        """Advance one token; an mlp memory on the CPU, without gradients, by compiled loops."""
        traced = torch.is_grad_enabled() or torch.compiler.is_compiling()
        alike = inputs.x.device.type == "cpu" and state["W0"].dtype is state["kappa"].dtype is inputs.x.dtype
        if self.config.memory == "matrix" or self.between is not None or traced or not alike:
            return super().forward_step(inputs, state, reset, donate=donate)
        return self._step_compiled(inputs.x, state, reset, donate)

    def token(self, pre: Tensor, gates: Tensor, position: Tensor | None) -> Token:
        """Normalise q, k and v of the memory; gates become theta, log(1 - alpha) and log eta."""
        parts = pre.unflatten(-1, (-1, self.config.heads * (2 * self.config.key_dim + self.config.value_dim)))
        q, k, v = (unit(x) for x in split_heads(F.silu(parts[..., 0, :]), self.config))
        rate, forget, keep = gates.unflatten(-1, (3, self.config.heads)).unbind(-2)
        theta = self.config.max_rate * torch.sigmoid(-keep) * torch.sigmoid(rate)
        if self.config.placement == "gate":
            # the heads of the attention after those of the memory
            near = split_heads(parts[..., 1, :], self.config)
            q, k, v = (torch.cat(pair, -2) for pair in zip((q, k, v), near, strict=True))
        return Token(q, k, v, -F.softplus(forget), theta, F.logsigmoid(keep).unsqueeze(-1))

    def gradient(self, prediction: Tensor, k: Tensor, v: Tensor, extra: Tensor) -> Tensor:
        """Of the squared error."""
        return 2 * (prediction - v)

    def advance(self, token: Token, state: State, position: Tensor | None, *, donate: bool) -> tuple[Tensor, State]:
        """Memory and attention, beside or behind each other."""
        token, near = self._parts(token)
        o, new = super().advance(token, state, position, donate=donate)
        if self.near is None:
            return o, new
        read, window = self.near.step(*(near or self._onward(o)), state)
        return (read if near is None else torch.cat([o, read], -2)), {**new, **window}

    def run(
        self,
        token: Token,
        state: State,
        resets: Tensor,
        valid: Tensor | None,
        position: Tensor | None,
        chunk: int,
    ) -> tuple[Tensor, State]:
        """The same for T tokens."""
        token, near = self._parts(token)
        if self.config.memory == "matrix":
            o, new = self._run_matrix(token, state, resets, valid)
        else:
            o, new = super().run(token, state, resets, valid, position, chunk)
        if self.near is None:
            return o, new
        read, window = self.near.sequence(*(near or self._onward(o)), state, resets, valid)
        return (read if near is None else torch.cat([o, read], -2)), {**new, **window}

    def _step_compiled(self, x: Tensor, state: State, reset: Tensor | None, donate: bool) -> tuple[Tensor, State]:
        """`forward_step` in four compiled loops: at the rows of a rollout, calls cost more than arithmetic."""
        # here: numba is heavy
        from embodied_mem.kernels.compiled.titans_mlp_step import GELU, SILU, titans_mlp_step
        from embodied_mem.kernels.compiled.titans_token import titans_read, titans_token

        c, n = self.config, len(x)
        H, K, V, total = c.heads, c.key_dim, c.value_dim, c.heads * (2 if c.placement == "gate" else 1)
        rows = opened_rows(reset)
        opens = np.zeros(n, bool)
        if rows is not None:
            state = {key: self._opened(key, value, rows, donate) for key, value in state.items()}
            opens[rows.numpy()] = True
        # what rows were replaced in is a copy already
        kept = donate or rows is not None
        new = {key: (value if kept else value.clone()).contiguous() for key, value in state.items()}
        held = {key: as_array(value) for key, value in new.items()}
        projected = torch.addmm(self.bias, x, self.project).numpy()
        kind = projected.dtype
        q, k, v = (np.empty((n, total, width), kind) for width in (K, K, V))
        gates, o, read = np.empty((3, n, H), kind), np.empty((n, total, V), kind), np.empty((n, H * V), kind)
        width, gated, _ = self.sizes
        none = np.empty((n, 0, width), kind)
        taps = none[0] if self.conv is None else as_array(self.conv)
        titans_token(projected, taps, held.get("conv", none), opens, c.max_rate, KEY_FLOOR, q, k, v, gates)
        activation = GELU if c.activation == "gelu" else SILU
        memory = (held[key] for key in COMPILED_STATE)
        given: list[Any] = [q, k, v, *gates, *memory, c.clip**-2, activation, o]
        titans_mlp_step(*given)
        if self.near is not None:
            self.near.step_compiled(q, k, v, H, held, o)
        gate = np.ascontiguousarray(projected[:, width : width + gated])
        titans_read(o, gate, READ_FLOOR, read)
        return self._write_out(x, torch.from_numpy(read)), new

    def _run_matrix(self, token: Token, state: State, resets: Tensor, valid: Tensor | None) -> tuple[Tensor, State]:
        """`run` of a matrix memory: all chunks of all episodes in one call of `titans_step`."""
        C, K = self.config.chunk, self.config.key_dim
        chunks = find_chunks(resets, state["phase"], C, valid)
        if not chunks.sizes:
            return torch.zeros_like(token.v), state
        assert token.beta is not None and token.extra is not None
        log_keep = token.log_decay.masked_fill(resets.unsqueeze(-1), 0)
        gates = torch.stack([token.beta, log_keep, token.extra[..., 0]], -1)
        places = head_places(chunks, self.config.heads)
        q, k, v, gates = (to_heads(x, places, C) for x in (token.q, token.k, token.v, gates))
        coefs = self.chunk_coefs(gates[..., 1], gates[..., 2:], state, chunks)
        held = u_held = None
        if bool(chunks.held.any()):
            E = len(chunks.row)
            held = torch.arange(C, device=k.device) < chunks.held.unsqueeze(1)
            left, u_held = (state[key].index_select(0, chunks.row) for key in ("left0", "right0"))
            k = torch.cat([torch.where(held.view(E, 1, C, 1), left, k[:E]), k[E:]])
        start = torch.cat([self._begin("W0", state, chunks), self._begin("Z0", state, chunks)], 2)
        offsets = list(accumulate(chunks.sizes, initial=0))
        o, u, last, final = titans_step(
            q,
            k,
            v,
            gates[..., 0],
            coefs["kappa"],
            coefs["mu"][:, :, -1],
            start,
            offsets=torch.tensor(offsets, device=q.device),
            held=held,
            u_held=u_held,
            clip=self.config.clip,
        )
        # the chains that are the last of their rows, in the order of `_collect`, and their last chunks
        chains: list[int] = []
        ends: list[int] = []
        for j, count in enumerate(chunks.last_sizes):
            first = chunks.sizes[j + 1] if j + 1 < len(chunks.sizes) else 0
            chains += range(first, first + count)
            ends += range(offsets[j] + first, offsets[j] + first + count)
        chain, end = (torch.tensor(numbers, device=q.device) for numbers in (chains, ends))
        (W, Z), (formed, carried) = (x.index_select(0, chain).split(K, 2) for x in (last, final))
        values = {"W0": W, "Z0": Z, "left0": k[end], "right0": u[end], "kappa": coefs["kappa"][end]}
        new = self._end({**values, "mu": coefs["mu"][end]}, {"W0": formed, "Z0": carried}, chunks.filled[chain], 0)
        return from_heads(o, places, chunks.shape), self._collect([new], state, chunks)

    def read(self, o: Tensor, gate: Tensor, token: Token) -> Tensor:
        """With ``gate``: the attention, gated by the memory."""
        if self.config.placement != "gate":
            return super().read(o, gate, token)
        memory, attention = (unit(o, READ_FLOOR) * o.shape[-1] ** 0.5).chunk(2, -2)
        return (attention * F.silu(memory)).flatten(-2)

    def _parts(self, token: Token) -> tuple[Token, tuple[Tensor, Tensor, Tensor] | None]:
        """Return the token of the memory, and q, k, v of an attention beside it."""
        if self.config.placement != "gate":
            return token, None
        (q, near_q), (k, near_k), (v, near_v) = (x.chunk(2, -2) for x in token[:3])
        return token._replace(q=q, k=k, v=v), (near_q, near_k, near_v)

    def _onward(self, o: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the memory read (..., H, V) -> q, k, v of the attention behind it."""
        assert self.between is not None
        return split_heads((unit(o, READ_FLOOR) * o.shape[-1] ** 0.5).flatten(-2) @ self.between, self.config)


def _logit(p: float) -> float:
    return math.log(p / (1 - p))
