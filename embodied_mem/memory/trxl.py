"""Transformer-XL: every layer attends to the cached inputs of the last steps, with relative positions.

    norm="pre":   h = h^l + attention(LN h^l_t; LN h^l_{t-M} .. LN h^l_t),   h^{l+1} = h + FF(LN h),   y = W LN h^L
    norm="post":  h = LN(h^l + attention(h^l_t; h^l_{t-M} .. h^l_t)),   h^{l+1} = LN(h + FF(h)),   y = W h^L

The published form is "post"; "pre" learns in fewer updates.
h^0 = W x. With ``clock`` = P, h^0 = W [x, sin(w_i t), cos(w_i t)] of the step t of the episode, at ``width // 4`` rates
w_i from 2 radians a step down to 1 / P: an item can then be looked up by when it was (the i-th from the start, or the
mirror image of now), not only by how long ago. Memory Gym's transformer (Pleines et al. 2023) has such a code too.
``window="sliding"``: a query sees the last M = ``memory`` inputs of its episode and its own. ``window="segment"``, the
published form: segments of M tokens are counted from the start of the episode, and a query sees its own segment so far
and the whole one before it. Both have a step form, and may be cut anywhere. With L layers an output depends on the last
L M steps, or on as many segments.

Gradients flow through the cache as far as its graph goes: within a `sequence` call, and across calls unless the state
is detached in between. The published stop-gradient is `detach` at the start of every learner row.

Limits: cached inputs of a stored state were computed by the weights of that time, so what a learner recomputes from a
stored state deviates as the weights move. Attention of a long window costs its length at every step.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, MemoryModule, State, StateSpec
from embodied_mem.memory.relative_attention import RelativeAttention
from embodied_mem.memory.rows import opened_rows, replace_rows
from embodied_mem.memory.sliding import Sliding, slide
from embodied_mem.memory.slot_loop import linear_macs
from embodied_mem.memory.window_memory import check_positive
from embodied_mem.registry import register

__all__ = ["CachedTransformer", "CachedTransformerConfig", "TrXL", "TrXLConfig"]

_BLOCK = 64


@dataclass(frozen=True)
class CachedTransformerConfig(MemoryConfig):
    """Size of the transformer and of its cache."""

    layers: int = 2
    """Layers L; each has a cache."""
    width: int = 64
    """Width D."""
    heads: int = 2
    """Attention heads."""
    memory: int = 32
    """Cached steps M of the window."""
    expansion: int = 2
    """Inner width of the feed-forward part, in multiples of ``width``."""
    window: Literal["sliding", "segment"] = "sliding"
    """What a query sees: the last M steps, or its segment of M steps and the one before."""
    clock: int = 0
    """Longest time scale in steps of a code of the step of the episode beside the input; 0 for none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "layers", "width", "heads", "memory", "expansion")
        if self.width % self.heads or self.width % 2:
            raise UsageError(f"expected an even width divisible by heads = {self.heads}, got {self.width}")
        if self.window not in ("sliding", "segment"):
            raise UsageError(f"expected window 'sliding' or 'segment', got {self.window!r}")
        if self.clock < 0 or (self.clock and self.width < 8):
            raise UsageError(f"expected clock >= 0, and a width >= 8 with one, got {self.clock} and {self.width}")


@dataclass(frozen=True)
class TrXLConfig(CachedTransformerConfig):
    """Config of `TrXL`."""

    norm: Literal["post", "pre"] = "pre"
    """Normalise what enters a sublayer, or, as published, the sums."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm not in ("post", "pre"):
            raise UsageError(f"expected norm 'post' or 'pre', got {self.norm!r}")


class Sublayers(nn.Module):
    """One layer: relative attention, a feed-forward part, and the two norms."""

    def __init__(self, config: CachedTransformerConfig, ages: int) -> None:
        super().__init__()
        D = config.width
        self.attention = RelativeAttention(D, config.heads, ages)
        self.feed = nn.Sequential(nn.Linear(D, config.expansion * D), nn.ReLU(), nn.Linear(config.expansion * D, D))
        self.norms = nn.ModuleList([nn.LayerNorm(D), nn.LayerNorm(D)])


class CachedTransformer(MemoryModule, ABC):
    """Base of `TrXL` and `GTrXL`: the cache and both forms; a subclass says how a layer joins its parts."""

    Config = CachedTransformerConfig
    properties = frozenset({"compilable"})
    parallel = "attend"

    def __init__(self, config: CachedTransformerConfig) -> None:
        super().__init__(config)
        self.config: CachedTransformerConfig = config
        segments = config.window == "segment"
        self.cached = 2 * config.memory - 1 if segments else config.memory
        rates = clock_rates(config.clock, config.width // 4)
        self.rates: Tensor
        self.register_buffer("rates", rates, persistent=False)
        self.embed = nn.Linear(config.in_dim + 2 * len(rates), config.width)
        self.layers = nn.ModuleList([self.layer() for _ in range(config.layers)])
        self.readout = nn.Linear(config.width, config.out_dim)

    def layer(self) -> Sublayers:
        """Return one new layer."""
        return Sublayers(self.config, self.cached + 1)

    def attended(self, layer: Sublayers, h: Tensor) -> Tensor:
        """Return what attention reads of a layer's input (..., D), and the cache holds."""
        return h

    @abstractmethod
    def join(self, layer: Sublayers, h: Tensor, read: Tensor) -> Tensor:
        """Return the output of a layer from its input and what attention read, (..., D) each."""

    def final(self, h: Tensor) -> Tensor:
        """Return the output (..., out_dim) for the last layer's (..., D)."""
        return self.readout(h)

    def state_spec(self) -> dict[str, StateSpec]:
        """``layer0`` ...: cached layer inputs (M, D), the oldest first; ``count``: steps of the episode."""
        c = self.config
        caches = {f"layer{i}": StateSpec((self.cached, c.width), role="ring") for i in range(c.layers)}
        return {**caches, "count": StateSpec((), torch.int64, "counter")}

    def macs_per_token(self, t: int | None = None) -> int:
        """Every weight once, and per head the products of a query with what the cache holds."""
        c = self.config
        held = 1 + (self.cached if t is None else min(t, self.cached))
        return linear_macs(self) + c.layers * c.heads * c.width * (2 * held + self.cached + 1)

    def forward_step(
        self, inputs: MemoryInput, state: State, reset: Tensor | None, *, donate: bool
    ) -> tuple[Tensor, State]:
        """Attend to the caches and shift them; see `MemoryModule.step`."""
        donate = donate and not torch.is_grad_enabled()
        rows = opened_rows(reset)
        if rows is not None:
            state = {key: replace_rows(value, rows, 0, donate=donate) for key, value in state.items()}
        count = state["count"]
        age = torch.arange(self.cached, -1, -1, device=count.device)
        visible = age <= torch.minimum(count, self._reach(count)).unsqueeze(1)
        h, new = self._entered(inputs.x, count), {}
        for i, layer in enumerate(self._layers()):
            x = self.attended(layer, h)
            items = torch.cat([state[f"layer{i}"], x.unsqueeze(1)], 1)
            h = self.join(layer, h, layer.attention.one(x, items, visible))
            new[f"layer{i}"] = slide(state[f"layer{i}"], x)
        return self.final(h), {**new, "count": count + 1}

    def forward_sequence(
        self, inputs: MemoryInput, state: State, resets: Tensor | None, *, valid: Tensor | None, chunk: int | None
    ) -> tuple[Tensor, State]:
        """Attend layer by layer, `chunk` queries at a time; see `MemoryModule.sequence`."""
        sliding = Sliding.of(state["count"], self.cached, resets, valid, inputs.x.shape[1])
        reach = self._reach(sliding.position)
        h, new = self._entered(inputs.x, sliding.position), {}
        for i, layer in enumerate(self._layers()):
            x = self.attended(layer, h)
            items = torch.cat([state[f"layer{i}"], x], 1)
            h = self.join(layer, h, layer.attention.many(x, items, sliding, reach, chunk or _BLOCK))
            new[f"layer{i}"] = sliding.carry(items)
        return self.final(h), {**new, "count": sliding.after}

    def _entered(self, x: Tensor, position: Tensor) -> Tensor:
        """Map the input (..., in_dim) and the step of the episode (...) int64 to the first layer's input (..., D)."""
        if self.config.clock:
            angle = position.unsqueeze(-1) * self.rates
            x = torch.cat([x, angle.sin(), angle.cos()], -1)
        return self.embed(x)

    def _reach(self, position: Tensor) -> Tensor:
        """Return the age of the oldest input that a query at ``position`` of its episode may see."""
        M = self.config.memory
        return position % M + M if self.config.window == "segment" else torch.full_like(position, M)

    def _layers(self) -> list[Sublayers]:
        return list(self.layers)  # type: ignore[arg-type]


def clock_rates(longest: int, count: int) -> Tensor:
    """Return ``count`` rates in radians per step, spaced evenly in the logarithm from 2 to 1 / longest; none for 0.

    >>> clock_rates(8, 3).tolist()
    [2.0, 0.5, 0.125]
    """
    return torch.logspace(1, -math.log2(longest), count, base=2.0) if longest else torch.zeros(0)


@register(
    "memory",
    "trxl",
    family="attention",
    source="Dai et al. 2019, Transformer-XL",
    variants=(
        {"layers": 1, "memory": 7, "width": 12, "norm": "post", "window": "segment"},
        {"layers": 1, "memory": 5, "width": 8, "clock": 40},
    ),
)
class TrXL(CachedTransformer):
    """Transformer-XL."""

    Config = TrXLConfig

    def __init__(self, config: TrXLConfig) -> None:
        super().__init__(config)
        self.pre = config.norm == "pre"
        self.last = nn.LayerNorm(config.width) if self.pre else nn.Identity()
        if self.pre:
            # every layer starts as the identity: the rewrite task is learned in half the updates
            for layer in self._layers():
                for parameter in (*layer.attention.out.parameters(), *layer.feed[2].parameters()):
                    nn.init.zeros_(parameter)

    def attended(self, layer: Sublayers, h: Tensor) -> Tensor:
        """Return the input, normalised in the pre-norm form."""
        return layer.norms[0](h) if self.pre else h

    def join(self, layer: Sublayers, h: Tensor, read: Tensor) -> Tensor:
        """Add what was read, then the feed-forward part."""
        if self.pre:
            h = h + read
            return h + layer.feed(layer.norms[1](h))
        h = layer.norms[0](h + read)
        return layer.norms[1](h + layer.feed(h))

    def final(self, h: Tensor) -> Tensor:
        """Map the output, normalised in the pre-norm form."""
        return self.readout(self.last(h))
