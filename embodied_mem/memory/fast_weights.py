"""What the memories of the linear-attention family share: projections, short convolution, fast weights, read-out.

    q, k, v = split(conv(W x)),   S' = where(reset, S_init, exp(a) S),   S = write(S', k, v),   o = q S
    y = skip(x) + W read(o, gate)

A memory says what becomes of a projected token (`token`) and, if it is not a plain product, how the fast weights run
(`advance`, `run`) and are read (`read`). The recurrence itself is `chunk_core`. The scale 1 / sqrt(K) of a read is left
out where a norm follows, which cancels it.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.chunk_core import reset_linear_attention, reset_linear_attention_step
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, MemoryModule, State, StateSpec
from embodied_mem.memory.rows import opened_rows, replace_rows
from embodied_mem.memory.segments import reset_distance, segment_ids
from embodied_mem.memory.short_conv import short_conv, short_conv_step

__all__ = [
    "FastWeights",
    "FastWeightsConfig",
    "Token",
    "half_life_spread",
    "near_identity",
    "softplus_inverse",
    "split_heads",
    "uniform",
    "unit",
]

# Floors of a norm: below it a vector is scaled by a constant instead of to unit length.
KEY_FLOOR = 1e-3
READ_FLOOR = 1e-2


@dataclass(frozen=True)
class FastWeightsConfig(MemoryConfig):
    """Shape of the fast weights."""

    heads: int = 4
    """Fast-weight matrices."""
    key_dim: int = 32
    """Key and query width of a head."""
    value_dim: int = 32
    """Value width of a head."""
    conv: int = 4
    """Taps of the short causal convolution on queries, keys and values; 1 for none."""
    learned_init: bool = False
    """Learn the state that an episode starts from, instead of zeros."""
    chunk: int = 32
    """Tokens per chunk of the parallel form."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("heads", "key_dim", "value_dim", "conv", "chunk"):
            if getattr(self, name) < 1:
                raise UsageError(f"expected {name} >= 1, got {getattr(self, name)}")


class Token(NamedTuple):
    """What one or T tokens do to the fast weights; ``...`` is (n,) or (n, T)."""

    q: Tensor
    """(..., H, K) query."""
    k: Tensor
    """(..., H, K) key; 0 writes nothing."""
    v: Tensor
    """(..., H, V) value."""
    log_decay: Tensor
    """(..., H) or, per channel, (..., H, K); <= 0."""
    beta: Tensor | None = None
    """(..., H) write strength of the delta rule, None for a plain sum."""
    extra: Tensor | None = None
    """What one memory needs besides."""


class FastWeights(MemoryModule):
    """Base of the family. ``heads_width`` columns of the projection go through the convolution."""

    Config = FastWeightsConfig
    properties = frozenset({"compilable"})
    parallel = "chunk"
    clocked = False
    """Whether `token` needs the position in the episode; the state then holds a ``clock``."""

    def __init__(
        self,
        config: FastWeightsConfig,
        heads_width: int,
        gate_width: int,
        bias: Tensor,
        *,
        rows: int | None = None,
        read_width: int | None = None,
    ) -> None:
        """Build what is shared.

        Args:
            config: the config.
            heads_width: columns that become q, k and v.
            gate_width: columns of the output gate, 0 for none.
            bias: (G,) initial bias of G further columns, which `token` gets as ``gates``.
            rows: rows of the fast weights, None for key_dim.
            read_width: width of what `read` returns, None for heads * value_dim.
        """
        super().__init__(config)
        self.config: FastWeightsConfig = config
        H, V = config.heads, config.value_dim
        self.rows = rows or config.key_dim
        self.sizes = [heads_width, gate_width, len(bias)]
        # (in, out), not nn.Linear's (out, in): half the time of a product with few rows
        self.project = nn.Parameter(uniform(config.in_dim, sum(self.sizes)))
        self.bias = nn.Parameter(torch.cat([torch.zeros(heads_width + gate_width), bias]))
        self.conv = nn.Parameter(near_identity(config.conv, heads_width)) if config.conv > 1 else None
        self.S_init = nn.Parameter(torch.zeros(H, self.rows, V)) if config.learned_init else None
        self.out = nn.Parameter(uniform(read_width or H * V, config.out_dim))
        same = config.in_dim == config.out_dim
        self.skip = None if same else nn.Parameter(uniform(config.in_dim, config.out_dim))

    @abstractmethod
    def token(self, pre: Tensor, gates: Tensor, position: Tensor | None) -> Token:
        """Turn projections into a token.

        Args:
            pre: (..., heads_width), convolved, before any nonlinearity.
            gates: (..., G).
            position: (...) int64 tokens since the episode began if ``clocked``, else None.
        """

    def read(self, o: Tensor, gate: Tensor, token: Token) -> Tensor:
        """Turn what was read, o (..., H, V), into (..., H V): unit mean square per head, gated by SiLU."""
        return unit(o, READ_FLOOR).flatten(-2) * o.shape[-1] ** 0.5 * F.silu(gate)

    def fast_spec(self) -> dict[str, StateSpec]:
        """Return the spec of the fast weights alone."""
        c = self.config
        return {"S": StateSpec((c.heads, self.rows, c.value_dim), role="param_like")}

    def start_of(self, key: str) -> Tensor | None:
        """Return the learned start of one tensor of the state, without rows; None where it is zeros."""
        return self.S_init if key == "S" else None

    def advance(self, token: Token, state: State, position: Tensor | None, *, donate: bool) -> tuple[Tensor, State]:
        """Advance the fast weights by one token: what was read (n, H, V), and their new state."""
        o, S = reset_linear_attention_step(*token[:5], state["S"], donate=donate)
        return o, {"S": S}

    def run(
        self,
        token: Token,
        state: State,
        resets: Tensor,
        valid: Tensor | None,
        position: Tensor | None,
        chunk: int,
    ) -> tuple[Tensor, State]:
        """Advance the fast weights by T tokens: what was read (n, T, H, V), and their state after the last.

        Where not ``valid`` the key is 0 and the log decay 0.
        """
        o, S = reset_linear_attention(*token[:5], reset=resets, S0=state["S"], S_init=self.start_of("S"), chunk=chunk)
        return o, {"S": S}

    def state_spec(self) -> dict[str, StateSpec]:
        """Fast weights, what the convolution carries (taps - 1, columns), and a ``clock`` where positions count."""
        spec = self.fast_spec()
        if self.conv is not None:
            spec["conv"] = StateSpec((self.config.conv - 1, self.sizes[0]))
        if self.clocked:
            spec["clock"] = StateSpec((), torch.int64, "counter")
        return spec

    def fresh(self, key: str, spec: StateSpec, n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return zeros, or the learned initial fast weights."""
        start = self.start_of(key)
        if start is not None:
            return start.to(device, dtype).expand(n, *spec.shape).clone()
        return super().fresh(key, spec, n, device, dtype)

    def macs_per_token(self, t: int | None = None) -> int:
        """Projections, convolution, and the fast weights."""
        conv = 0 if self.conv is None else self.conv.numel()
        return self._projection_macs() + conv + self.fast_macs()

    def fast_macs(self) -> int:
        """Multiply-accumulates of one write and one read."""
        c = self.config
        return 2 * c.heads * self.rows * c.value_dim

    def forward_step(
        self, inputs: MemoryInput, state: State, reset: Tensor | None, *, donate: bool
    ) -> tuple[Tensor, State]:
        """Advance one token; see `MemoryModule.step`."""
        pre, gate, gates = torch.addmm(self.bias, inputs.x, self.project).split_with_sizes(self.sizes, -1)
        donate = donate and not torch.is_grad_enabled()
        opens = opened_rows(reset)
        if opens is not None:
            state = {key: self._opened(key, value, opens, donate) for key, value in state.items()}
        new: State = {}
        if self.conv is not None:
            pre, new["conv"] = short_conv_step(pre, state["conv"], self.conv)
        position = state.get("clock")
        if position is not None:
            new["clock"] = position + 1
        token = self.token(pre, gates, position)
        if opens is not None:
            q, k, v, log_decay, beta, extra = token
            token = Token(q, k, v, replace_rows(log_decay, opens, 0.0), beta, extra)
        o, fast = self.advance(token, state, position, donate=donate)
        return self._write_out(inputs.x, self.read(o, gate, token)), {**fast, **new}

    def forward_sequence(
        self, inputs: MemoryInput, state: State, resets: Tensor | None, *, valid: Tensor | None, chunk: int | None
    ) -> tuple[Tensor, State]:
        """Advance T tokens, `chunk` at a time; see `MemoryModule.sequence`."""
        pre, gate, gates = (inputs.x @ self.project + self.bias).split_with_sizes(self.sizes, -1)
        if resets is None:
            resets = torch.zeros(inputs.x.shape[:2], dtype=torch.bool, device=inputs.x.device)
        new: State = {}
        if self.conv is not None:
            pre, new["conv"] = short_conv(pre, state["conv"], self.conv, resets, valid)
        position = None
        if self.clocked:
            position, new["clock"] = _positions(state["clock"], resets, valid)
        token = self.token(pre, gates, position)
        if valid is not None:
            padded = ~valid.view(*valid.shape, 1, 1)
            log_decay = token.log_decay.masked_fill(padded.view(*valid.shape, *[1] * (token.log_decay.dim() - 2)), 0)
            token = token._replace(k=token.k.masked_fill(padded, 0), log_decay=log_decay)
        o, fast = self.run(token, state, resets, valid, position, chunk or self.config.chunk)
        return self._write_out(inputs.x, self.read(o, gate, token)), {**fast, **new}

    def _opened(self, key: str, value: Tensor, opens: Tensor, donate: bool) -> Tensor:
        start = self.start_of(key)
        return replace_rows(value, opens, 0 if start is None else start, donate=donate)

    def _projection_macs(self) -> int:
        return sum(weight.numel() for weight in (self.project, self.out, self.skip) if weight is not None)

    def _write_out(self, x: Tensor, read: Tensor) -> Tensor:
        """x (..., in_dim), read (..., H V) -> (..., out_dim)."""
        base = x if self.skip is None else x @ self.skip
        y = torch.addmm(base.reshape(-1, self.out_dim), read.reshape(-1, read.shape[-1]), self.out)
        return y.view(*x.shape[:-1], self.out_dim)


def split_heads(pre: Tensor, config: FastWeightsConfig) -> tuple[Tensor, Tensor, Tensor]:
    """(..., H (2K + V)) -> q, k (..., H, K), v (..., H, V)."""
    H, K, V = config.heads, config.key_dim, config.value_dim
    q, k, v = pre.view(*pre.shape[:-1], H, 2 * K + V).split_with_sizes((K, K, V), -1)
    return q, k, v


def unit(x: Tensor, floor: float = KEY_FLOOR) -> Tensor:
    """Vectors (..., d) scaled to length 1, or by ``1 / floor`` where they are shorter than ``floor``."""
    if torch.is_grad_enabled() and x.requires_grad:
        return _Unit.apply(x, floor)
    return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(floor)


class _Unit(torch.autograd.Function):
    """`unit` with its gradient written out, ``(g - y (g . y)) / |x|``: autograd's own takes twice the passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, floor: float) -> Tensor:
        """Return x (..., d) at unit length."""
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = norm.clamp_min(floor)
        y = x / scale
        # a vector below the floor is scaled by a constant: nothing is taken off its gradient
        ctx.save_for_backward(y, scale, norm < floor)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of x."""
        y, scale, short = ctx.saved_tensors
        along = (grad * y).sum(-1, keepdim=True).masked_fill_(short, 0)
        return torch.addcmul(grad, y, along, value=-1).div_(scale), None


def uniform(fan_in: int, fan_out: int) -> Tensor:
    """(fan_in, fan_out), as `torch.nn.Linear` starts."""
    return (torch.rand(fan_in, fan_out) * 2 - 1) / fan_in**0.5


def near_identity(taps: int, channels: int) -> Tensor:
    """Present tap 1, earlier taps uniform in [-1/2, 1/2]: the content passes, and the recent past is mixed in."""
    weight = torch.rand(taps, channels) - 0.5
    weight[0] = 1.0
    return weight


def softplus_inverse(x: Tensor) -> Tensor:
    """Return z with ``softplus(z) = x``, for x > 0."""
    return x + torch.log(-torch.expm1(-x))


def half_life_spread(shortest: float, longest: float, count: int) -> Tensor:
    """(count,) half-lives in steps, spaced evenly in the logarithm.

    Raises:
        UsageError: not ``0 < shortest <= longest``.
    """
    if not 0 < shortest <= longest:
        raise UsageError(f"expected 0 < shortest_half_life <= longest_half_life, got {shortest} and {longest}")
    return torch.logspace(0, 1, count, base=longest / shortest) * shortest


def _positions(clock: Tensor, resets: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Tokens before each one in its episode (n, T), padding standing still at the last real one; and the new clock."""
    step = torch.arange(resets.shape[1], device=resets.device)
    position = torch.where(segment_ids(resets) > 0, reset_distance(resets), clock.unsqueeze(1) + step)
    if valid is None:
        return position, position[:, -1] + 1
    seen = torch.cat([clock.unsqueeze(1) - 1, position], 1)
    last = seen.gather(1, valid.sum(1, keepdim=True))
    return torch.where(valid, position, last), last.squeeze(1) + 1
