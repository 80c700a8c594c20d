"""Gated delta rule: a fast-weight matrix per head that forgets by a gate and overwrites by key (GatedDeltaNet).

    q, k = l2norm(silu(conv(W x))),  v = silu(conv(W x)),  b = sigmoid(W x),  a = -exp(A_log) softplus(W x + dt_bias)
    S'  = where(reset, S_init, exp(a) S),   S = S' + b k^T (v - k S'),   o = q S
    y   = skip(x) + W (rmsnorm(o) * silu(W x))

The scale 1 / sqrt(K) of a read and the weight of the norm are left out: the norm cancels the one, W absorbs the other.

Some heads never forget (``a = 0``): what they hold stays until its key is written again, at any distance. The others
start with half-lives spaced evenly in the logarithm. The sequence form is chunk-parallel (`chunk_core`).

Limits: one layer and a decay per head, not per channel; bfloat16 inputs are computed in float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.chunk_core import reset_linear_attention, reset_linear_attention_step
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, MemoryModule, State, StateSpec
from embodied_mem.memory.fast_weights import KEY_FLOOR, READ_FLOOR, near_identity, softplus_inverse, uniform, unit
from embodied_mem.memory.rows import opened_rows, replace_rows
from embodied_mem.memory.short_conv import short_conv, short_conv_step
from embodied_mem.registry import register

__all__ = ["GatedDelta", "GatedDeltaConfig"]


@dataclass(frozen=True)
class GatedDeltaConfig(MemoryConfig):
    """Shape and gates of the fast weights."""

    heads: int = 4
    """Fast-weight matrices."""
    key_dim: int = 32
    """Key and query width of a head."""
    value_dim: int = 32
    """Value width of a head."""
    conv: int = 4
    """Taps of the short causal convolution on queries, keys and values; 1 for none."""
    persistent_heads: int = 1
    """Heads whose gate is fixed at 1: they overwrite but never forget."""
    shortest_half_life: float = 4.0
    """Initial half-life in steps of the fastest forgetting head."""
    longest_half_life: float = 1024.0
    """Initial half-life in steps of the slowest forgetting head."""
    tied_keys: bool = False
    """Start with equal query and key weights, so that a read finds what was stored under a similar input."""
    neg_eigval: bool = False
    """Write strength in (0, 2) instead of (0, 1): negative eigenvalues, which state tracking needs."""
    learned_init: bool = False
    """Learn the state that an episode starts from, instead of zeros."""
    chunk: int = 32
    """Tokens per chunk of the parallel form; 32 was fastest on CPU (16 to 64 differ little)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("heads", "key_dim", "value_dim", "conv", "chunk"):
            if getattr(self, name) < 1:
                raise UsageError(f"expected {name} >= 1, got {getattr(self, name)}")
        if not 0 <= self.persistent_heads <= self.heads:
            raise UsageError(f"expected 0 <= persistent_heads <= heads = {self.heads}, got {self.persistent_heads}")
        if not 0 < self.shortest_half_life <= self.longest_half_life:
            raise UsageError(
                "expected 0 < shortest_half_life <= longest_half_life, "
                f"got {self.shortest_half_life} and {self.longest_half_life}"
            )


@register(
    "memory",
    "gated_delta",
    family="linear",
    source="Yang et al. 2024, Gated Delta Networks",
    variants=({"conv": 1, "learned_init": True}, {"neg_eigval": True, "key_dim": 12, "value_dim": 20, "chunk": 4}),
)
class GatedDelta(MemoryModule):
    """Fast weights with the gated delta rule."""

    Config = GatedDeltaConfig
    properties = frozenset({"compilable"})
    parallel = "chunk"

    def __init__(self, config: GatedDeltaConfig) -> None:
        super().__init__(config)
        self.config: GatedDeltaConfig = config
        H, K, V = config.heads, config.key_dim, config.value_dim
        self.sizes = [H * (2 * K + V), H * V, 2 * H]
        # (in, out), not nn.Linear's (out, in): half the time of a product with few rows
        self.project = nn.Parameter(uniform(config.in_dim, sum(self.sizes)))
        self.bias = nn.Parameter(torch.cat([torch.zeros(sum(self.sizes) - H), _dt_bias(config)]))
        self.conv = nn.Parameter(near_identity(config.conv, self.sizes[0])) if config.conv > 1 else None
        if config.tied_keys:
            _tie_keys(self.project, config)
            if self.conv is not None:
                _tie_keys(self.conv, config)
        self.A_log = nn.Parameter(torch.zeros(H))
        persistent = torch.arange(H) < config.persistent_heads
        self.sign: Tensor
        self.register_buffer("sign", torch.where(persistent, 0.0, -1.0), persistent=False)
        self.S_init = nn.Parameter(torch.zeros(H, K, V)) if config.learned_init else None
        self.out = nn.Parameter(uniform(H * V, config.out_dim))
        same = config.in_dim == config.out_dim
        self.skip = None if same else nn.Parameter(uniform(config.in_dim, config.out_dim))

    def state_spec(self) -> dict[str, StateSpec]:
        """Fast weights ``S`` (H, K, V) and what the convolution carries, ``conv`` (taps - 1, H (2K + V))."""
        config = self.config
        spec = {"S": StateSpec((config.heads, config.key_dim, config.value_dim), role="param_like")}
        if config.conv > 1:
            spec["conv"] = StateSpec((config.conv - 1, self.sizes[0]))
        return spec

    def fresh(self, key: str, spec: StateSpec, n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return zeros, or the learned initial fast weights."""
        if key == "S" and self.S_init is not None:
            return self.S_init.to(device, dtype).expand(n, *spec.shape).clone()
        return super().fresh(key, spec, n, device, dtype)

    def macs_per_token(self, t: int | None = None) -> int:
        """Projections, convolution, and two reads and one write of the fast weights."""
        config = self.config
        projections = sum(weight.numel() for weight in (self.project, self.out, self.skip) if weight is not None)
        conv = config.conv * self.sizes[0] if config.conv > 1 else 0
        return projections + conv + 3 * config.heads * config.key_dim * config.value_dim

    def forward_step(
        self, inputs: MemoryInput, state: State, reset: Tensor | None, *, donate: bool
    ) -> tuple[Tensor, State]:
        """Advance one token; see `MemoryModule.step`."""
        pre, gate, gates = torch.addmm(self.bias, inputs.x, self.project).split_with_sizes(self.sizes, -1)
        S, buffer = state["S"], state.get("conv")
        donate = donate and not torch.is_grad_enabled()
        opens = opened_rows(reset)
        if opens is not None:
            S = replace_rows(S, opens, 0.0 if self.S_init is None else self.S_init, donate=donate)
            buffer = None if buffer is None else replace_rows(buffer, opens, 0.0, donate=donate)
        new: State = {}
        if self.conv is not None and buffer is not None:
            pre, new["conv"] = short_conv_step(pre, buffer, self.conv)
        q, k, v, log_decay, beta = self._token(pre, gates)
        if opens is not None and self.S_init is not None:
            log_decay = replace_rows(log_decay, opens, 0.0)
        o, S = reset_linear_attention_step(q, k, v, log_decay, beta, S, donate=donate)
        return self._read_out(inputs.x, o, gate), {"S": S, **new}

    def forward_sequence(
        self, inputs: MemoryInput, state: State, resets: Tensor | None, *, valid: Tensor | None, chunk: int | None
    ) -> tuple[Tensor, State]:
        """Advance T tokens, `chunk` at a time; see `MemoryModule.sequence`."""
        B, T, _ = inputs.x.shape
        flat, parts = inputs.x.reshape(B * T, -1), zip(self.bias.split(self.sizes), self.project.split(self.sizes, 1))
        # part by part: the gradient of a joined product would first be joined, 8 MB at a training batch
        pre, gate, gates = (torch.addmm(bias, flat, weight).view(B, T, -1) for bias, weight in parts)
        if resets is None:
            resets = torch.zeros(inputs.x.shape[:2], dtype=torch.bool, device=inputs.x.device)
        new: State = {}
        if self.conv is not None:
            pre, new["conv"] = short_conv(pre, state["conv"], self.conv, resets, valid)
        q, k, v, log_decay, beta = self._token(pre, gates)
        if valid is not None:
            padded = ~valid.unsqueeze(-1)
            log_decay, beta = log_decay.masked_fill(padded, 0), beta.masked_fill(padded, 0)
        o, S = reset_linear_attention(
            q, k, v, log_decay, beta, reset=resets, S0=state["S"], S_init=self.S_init, chunk=chunk or self.config.chunk
        )
        return self._read_out(inputs.x, o, gate), {"S": S, **new}

    def _token(self, pre: Tensor, gates: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(..., H (2K + V)) and (..., 2H) -> q, k (..., H, K), v (..., H, V), log decay and write strength (..., H)."""
        H, K, V = self.config.heads, self.config.key_dim, self.config.value_dim
        lead = pre.shape[:-1]
        qk, v = F.silu(pre).view(*lead, H, 2 * K + V).split_with_sizes((2 * K, V), -1)
        q, k = unit(qk.view(*lead, H, 2, K), KEY_FLOOR).unbind(-2)
        write, forget = gates.split_with_sizes((H, H), -1)
        beta = write.sigmoid()
        if self.config.neg_eigval:
            beta = 2 * beta
        return q, k, v, F.softplus(forget) * (self.A_log.exp() * self.sign), beta

    def _read_out(self, x: Tensor, o: Tensor, gate: Tensor) -> Tensor:
        """x (..., in_dim), o (..., H, V), gate (..., H V) -> (..., out_dim)."""
        read = unit(o, READ_FLOOR).flatten(-2) * F.silu(gate)
        base = x if self.skip is None else x @ self.skip
        # alpha turns unit length into unit mean square
        y = torch.addmm(
            base.reshape(-1, self.out_dim), read.reshape(-1, read.shape[-1]), self.out, alpha=o.shape[-1] ** 0.5
        )
        return y.view(*x.shape[:-1], self.out_dim)


@torch.no_grad()
def _tie_keys(weight: Tensor, config: GatedDeltaConfig) -> None:
    """Give the keys of ``weight`` (..., H (2K + V) or more) the values of the queries of their head, in place."""
    K, step = config.key_dim, 2 * config.key_dim + config.value_dim
    for first in range(0, config.heads * step, step):
        weight[..., first + K : first + 2 * K] = weight[..., first : first + K]


def _dt_bias(config: GatedDeltaConfig) -> Tensor:
    """Bias of the gate (H,): ``softplus(dt_bias) = ln 2 / half-life``; persistent heads come first and ignore it."""
    n = config.heads - config.persistent_heads
    half_life = torch.logspace(math.log10(config.shortest_half_life), math.log10(config.longest_half_life), max(n, 1))
    dt = math.log(2) / torch.cat([half_life.new_ones(config.persistent_heads), half_life[:n]])
    return softplus_inverse(dt)
