"""Continuum memory system: a chain of small networks that learn at test time, each at its own pace.

    q_0, k_0 = l2norm(W x),   v = l2norm(W x),   MLP_l(z) = silu(z W1_l) W2_l
    q_l = q_{l-1} + MLP_l(l2norm(q_{l-1})),      k_l likewise,      y = skip(x) + W (rmsnorm(q_L) * silu(W x))
    level l, every C_l tokens:  W_l = W_l - sum over the last C_l tokens i of  eta_i grad_W 1/2 |MLP_l(k_i) - v_i|^2

The gradients of a level are all taken at the weights since its last update, so within C_l tokens it is a fixed network;
a token is read before it is learned from. Tokens are counted from the start of the episode. The step

    eta_i = sigmoid(W x)_l / (C_l (1 + |silu(k_i W1)|^2 + |W2|^2))

is bounded so that no update overshoots on the tokens it learns from, however alike they are; the published rule leaves
step sizes open. Gradients of the inner loss are written out, so nothing depends on the autograd mode, and the outer
loss is differentiated through the updates.

A soft reset clears the levels listed in ``reset_levels`` only: slow levels may keep what they learned over the episodes
of one scene. A reset clears all.

The sequence form takes as many sequential steps per level as it has updates: T / C_l, and one more for every reset.

Limits: the chain alone, without the self-modifying Titans block that the paper calls Hope; keys, values and step sizes
are plain maps of the input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, MemoryModule, State, StateSpec
from embodied_mem.memory.fast_weights import uniform, unit
from embodied_mem.memory.rows import opened_rows, replace_rows
from embodied_mem.memory.sliding import Sliding
from embodied_mem.memory.window_memory import check_positive
from embodied_mem.registry import register

__all__ = ["ContinuumMemory", "ContinuumMemoryConfig"]

_WEIGHTS = ("W1", "W2", "G1", "G2")


@dataclass(frozen=True)
class ContinuumMemoryConfig(MemoryConfig):
    """Levels of the chain."""

    periods: tuple[int, ...] = (1, 8, 64)
    """Tokens between two updates of a level, C_l, first level first."""
    width: int = 16
    """Width of keys, queries and values."""
    hidden: int = 32
    """Hidden width of a level's network."""
    reset_levels: tuple[int, ...] = (0,)
    """Levels that a soft reset clears."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "width", "hidden")
        if not self.periods or min(self.periods) < 1:
            raise UsageError(f"expected at least one period, each >= 1, got {self.periods}")
        wrong = [level for level in self.reset_levels if not 0 <= level < len(self.periods)]
        if wrong:
            raise UsageError(f"expected reset_levels in 0 .. {len(self.periods) - 1}, got {wrong}")


class _Level(nn.Module):
    """Where the weights of a level start; their present values are state."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.W1, self.W2 = nn.Parameter(torch.randn(width, hidden)), nn.Parameter(uniform(hidden, width) / 4)


class _Network(NamedTuple):
    """The weights of a level and its gradients since the last update, (n, width, hidden) or (n, hidden, width)."""

    W1: Tensor
    W2: Tensor
    G1: Tensor
    G2: Tensor

    def __call__(self, z: Tensor) -> Tensor:
        """(n, C, width) -> (n, C, width)."""
        return F.silu(z @ self.W1) @ self.W2

    def learn(self, k: Tensor, v: Tensor, rate: Tensor) -> tuple[Tensor, _Network]:
        """Add the gradients of tokens k, v (n, C, width), rate (n, C); return MLP(k) and the new gradients."""
        pre = k @ self.W1
        gate = pre.sigmoid()
        a = pre * gate
        found = a @ self.W2
        size = 1 + a.square().sum(-1) + self.W2.square().sum((1, 2)).unsqueeze(1)
        error = (v - found) * (rate / size).unsqueeze(-1)
        inner = (error @ self.W2.transpose(1, 2)) * (gate * (1 + pre * (1 - gate)))
        G1, G2 = self.G1 + k.transpose(1, 2) @ inner, self.G2 + a.transpose(1, 2) @ error
        return found, self._replace(G1=G1, G2=G2)

    def update(self, now: Tensor) -> _Network:
        """Apply the gradients in the rows ``now`` (n,) bool."""
        now = now.view(-1, 1, 1)
        applied = [torch.where(now, W + G, W) for W, G in ((self.W1, self.G1), (self.W2, self.G2))]
        return _Network(*applied, *(torch.where(now, 0, G) for G in (self.G1, self.G2)))

    def update_all(self) -> _Network:
        """Apply the gradients in all rows."""
        none = torch.zeros_like(self.G1), torch.zeros_like(self.G2)
        return _Network(self.W1 + self.G1, self.W2 + self.G2, *none)

    def start(self, rows: Tensor, level: _Level) -> _Network:
        """Start afresh in the rows ``rows`` (n,) bool."""
        rows = rows.view(-1, 1, 1)
        weights = torch.where(rows, level.W1, self.W1), torch.where(rows, level.W2, self.W2)
        return _Network(*weights, torch.where(rows, 0, self.G1), torch.where(rows, 0, self.G2))


@register(
    "memory",
    "continuum_memory",
    family="test-time",
    source="Behrouz et al. 2025, Nested learning",
    variants=({"periods": (2, 5), "width": 5, "hidden": 7, "reset_levels": (1,)},),
)
class ContinuumMemory(MemoryModule):
    """Chain of networks that learn at several paces."""

    Config = ContinuumMemoryConfig
    properties = frozenset({"compilable", "soft_reset"})
    parallel = "loop"

    def __init__(self, config: ContinuumMemoryConfig) -> None:
        super().__init__(config)
        self.config: ContinuumMemoryConfig = config
        d, L = config.width, len(config.periods)
        self.sizes = [d, d, d, d, L]
        self.project = nn.Linear(config.in_dim, sum(self.sizes))
        self.levels = nn.ModuleList([_Level(d, config.hidden) for _ in range(L)])
        self.out = nn.Linear(d, config.out_dim, bias=False)
        same = config.in_dim == config.out_dim
        self.skip = nn.Identity() if same else nn.Linear(config.in_dim, config.out_dim, bias=False)

    def state_spec(self) -> dict[str, StateSpec]:
        """Per level: ``W1``, ``W2``, the gradients ``G1``, ``G2`` since the last update, ``clock``: tokens read."""
        d, h = self.config.width, self.config.hidden
        spec: dict[str, StateSpec] = {}
        for i in range(len(self.config.periods)):
            for key, shape in zip(_WEIGHTS, ((d, h), (h, d), (d, h), (h, d))):
                spec[f"level{i}/{key}"] = StateSpec(shape, role="param_like")
            spec[f"level{i}/clock"] = StateSpec((), torch.int64, "counter")
        return spec

    def fresh(self, key: str, spec: StateSpec, n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return the learned start of the weights, zeros for the rest."""
        start = self._start(key)
        if isinstance(start, Tensor):
            return start.to(device, dtype).expand(n, *spec.shape).clone()
        return super().fresh(key, spec, n, device, dtype)

    def macs_per_token(self, t: int | None = None) -> int:
        """Maps of the input, and per level two passes and a gradient."""
        c = self.config
        maps = sum(p.numel() for part in (self.project, self.out, self.skip) for p in part.parameters() if p.dim() > 1)
        return maps + 7 * len(c.periods) * c.width * c.hidden

    def forward_step(
        self,
        inputs: MemoryInput,
        state: State,
        reset: Tensor | None,
        *,
        donate: bool,
        soft_reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Read through the chain, then learn; see `MemoryModule.step`."""
        q, k, v, gate, rates = self._project(inputs.x.unsqueeze(1))
        new: State = {}
        for i, period in enumerate(self.config.periods):
            rows = opened_rows(self._clears(i, reset, soft_reset))
            held = {key: state[f"level{i}/{key}"] for key in (*_WEIGHTS, "clock")}
            if rows is not None:
                held = {key: replace_rows(held[key], rows, self._start(f"level{i}/{key}")) for key in held}
            network = _Network(*(held[key] for key in _WEIGHTS))
            q = q + network(unit(q))
            key = unit(k)
            found, network = network.learn(key, v, rates[..., i] / period)
            k = key + found
            network = network.update(held["clock"] % period == period - 1)
            new |= {f"level{i}/{name}": value for name, value in zip(_WEIGHTS, network)}
            new[f"level{i}/clock"] = held["clock"] + 1
        return self._emit(inputs.x, q.squeeze(1), gate.squeeze(1)), new

    def forward_sequence(
        self,
        inputs: MemoryInput,
        state: State,
        resets: Tensor | None,
        *,
        valid: Tensor | None,
        chunk: int | None,
        soft_resets: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Run the levels one after the other, each from update to update; see `MemoryModule.sequence`."""
        q, k, v, gate, rates = self._project(inputs.x)
        new: State = {}
        for i, (period, level) in enumerate(zip(self.config.periods, self.levels)):
            assert isinstance(level, _Level)
            key = unit(k)
            network = _Network(*(state[f"level{i}/{name}"] for name in _WEIGHTS))
            opens = self._clears(i, resets, soft_resets)
            sliding = Sliding.of(state[f"level{i}/clock"], 0, opens, valid, q.shape[1])
            blocks = _Blocks.of(sliding, period)
            tokens = blocks.cut(torch.cat([unit(q), key, v, rates[..., i : i + 1] / period], -1)).unbind(1)
            d, reads = self.config.width, []
            for part, begin, end in zip(tokens, blocks.begins.unbind(1), blocks.ends.unbind(1)):
                asked, learned, target, rate = part.split_with_sizes((d, d, d, 1), -1)
                if bool(begin.any()):
                    network = network.start(begin, level)
                found, after = network.learn(learned, target, rate.squeeze(-1))
                reads.append(torch.cat([network(asked), found], -1))
                network = after.update_all() if bool(end.all()) else after.update(end)
            read, found = blocks.join(torch.stack(reads, 1)).chunk(2, -1)
            q, k = q + read, key + found
            new |= {f"level{i}/{name}": value for name, value in zip(_WEIGHTS, network)}
            new[f"level{i}/clock"] = sliding.after
        return self._emit(inputs.x, q, gate), new

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        q, k, v, gate, rates = self.project(x).split_with_sizes(self.sizes, -1)
        return unit(q), k, unit(v), gate, rates.sigmoid()

    def _emit(self, x: Tensor, q: Tensor, gate: Tensor) -> Tensor:
        return self.skip(x) + self.out(unit(q) * q.shape[-1] ** 0.5 * F.silu(gate))

    def _start(self, key: str) -> Tensor | float:
        level, _, name = key.partition("/")
        return getattr(self.levels[int(level[5:])], name) if name in ("W1", "W2") else 0

    def _clears(self, level: int, reset: Tensor | None, soft: Tensor | None) -> Tensor | None:
        """Which rows or tokens clear this level."""
        if soft is None or level not in self.config.reset_levels:
            return reset
        return soft if reset is None else reset | soft


class _Blocks(NamedTuple):
    """The tokens of every row cut where a level updates or starts afresh: J blocks of at most C tokens."""

    place: Tensor
    """(n, T) int64 place of every token in (J C); the padding lies at J C."""
    source: Tensor
    """(n, J C) int64 token at every place, T where there is none."""
    begins: Tensor
    """(n, J) bool, True where a block starts afresh."""
    ends: Tensor
    """(n, J) bool, True where a block is complete."""

    @classmethod
    def of(cls, sliding: Sliding, period: int) -> _Blocks:
        """Cut the tokens of a sequence."""
        position, device = sliding.position, sliding.position.device
        n, T = position.shape
        step = torch.arange(T, device=device)
        real = step < sliding.lengths.unsqueeze(1)
        changed = torch.cat([sliding.segment[:, :1] > 0, sliding.segment.diff(dim=1) > 0], 1)
        block = (changed | (position % period == 0)).cumsum(1)
        J = int(block.max()) + 1
        place = torch.where(real, block * period + position % period, J * period)
        source = torch.full((n, J * period + 1), T, device=device).scatter(1, place, step.expand(n, T))[:, :-1]
        begins = torch.zeros(n, J, dtype=torch.int64, device=device).scatter_add(1, block, (changed & real).long()) > 0
        return cls(place, source, begins, source.view(n, J, period)[..., -1] < T)

    def cut(self, x: Tensor) -> Tensor:
        """(n, T, E) -> (n, J, C, E), 0 where a block has no token."""
        padded = F.pad(x, (0, 0, 0, 1))
        taken = padded.gather(1, self.source.unsqueeze(2).expand(-1, -1, x.shape[2]))
        return taken.unflatten(1, (self.begins.shape[1], -1))

    def join(self, x: Tensor) -> Tensor:
        """(n, J, C, E) -> (n, T, E), 0 at the padding."""
        padded = F.pad(x.flatten(1, 2), (0, 0, 0, 1))
        return padded.gather(1, self.place.unsqueeze(2).expand(-1, -1, x.shape[3]))
