"""End-to-end memory network: several hops of attention over the last N inputs.

    u = B x;   every hop h:  p_i = softmax_i(u . (A_h x_i + T_h[age_i])),  o = sum_i p_i (C_h x_i + S_h[age_i])
    adjacent:   C_h = A_{h+1}, S_h = T_{h+1},  u <- u + o          layerwise:  one A, C, T, S,  u <- H u + o
    y = W u + b

The inputs themselves are stored, N * in_dim numbers: ``u . A x_i = (A^T u) . x_i``, so a hop costs two maps of the
query and not two of every entry. The softmax has a null slot, so an empty memory adds nothing. ``attention="linear"``
leaves the softmax out, which is how the paper starts training; set ``memory.attention = "softmax"`` to restore it.
``attention="hard"`` reads the one best entry, as memory networks do at inference; its choice has no gradient.

Limits: quadratic in the chunk of the sequence form. Of the paper's training tricks, random empty entries are not built
in; clip gradients (the paper: at 40).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from embodied_mem.memory.contract import MemoryConfig
from embodied_mem.memory.slot_loop import linear_macs
from embodied_mem.memory.window_memory import Window, WindowMemory, check_positive, visible_softmax
from embodied_mem.registry import register

__all__ = ["MemN2N", "MemN2NConfig"]

_INIT = 0.1


@dataclass(frozen=True)
class MemN2NConfig(MemoryConfig):
    """Entries and hops."""

    slots: int = 64
    """Entries N."""
    width: int = 64
    """Width of the query u."""
    hops: int = 3
    """Hops per step."""
    tying: Literal["adjacent", "layerwise"] = "adjacent"
    """Which embeddings the hops share."""
    attention: Literal["softmax", "linear", "hard"] = "softmax"
    """How a hop weighs the entries."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "slots", "width", "hops")


@register(
    "memory",
    "mem_n2n",
    family="slots",
    source="Sukhbaatar et al. 2015, arXiv 1503.08895",
    variants=({"slots": 7, "width": 7, "hops": 2, "tying": "layerwise"},),
)
class MemN2N(WindowMemory):
    """Ring of inputs, read in hops."""

    Config = MemN2NConfig

    def __init__(self, config: MemN2NConfig) -> None:
        super().__init__(config)
        self.config: MemN2NConfig = config
        self.slots, self.entry_dim = config.slots, config.in_dim
        self.attention = config.attention
        sets = config.hops + 1 if config.tying == "adjacent" else 2
        self.embed = nn.Parameter(_INIT * torch.randn(sets, config.width, config.in_dim))
        self.time = nn.Parameter(_INIT * torch.randn(sets, config.slots, config.width))
        self.query = nn.Linear(config.in_dim, config.width)
        self.turn = nn.Linear(config.width, config.width, bias=False) if config.tying == "layerwise" else None
        self.readout = nn.Linear(config.width, config.out_dim)

    def macs_per_token(self, t: int | None = None) -> int:
        """Query, readout, and per hop two embeddings of the query, the scores and the sums."""
        c = self.config
        turn = 0 if self.turn is None else c.hops * linear_macs(self.turn)
        hop = 2 * c.width * c.in_dim + 2 * self.held(t) * (c.in_dim + c.width)
        return linear_macs(self.query) + linear_macs(self.readout) + turn + c.hops * hop

    def entry(self, x: Tensor) -> Tensor:
        """Store the input itself."""
        return x

    def read(self, x: Tensor, window: Window) -> Tensor:
        """Hop over the entries."""
        u = self.query(x)
        items = window.items.transpose(1, 2)
        for hop in range(self.config.hops):
            key, value = (hop, hop + 1) if self.turn is None else (0, 1)
            products = (u @ self.embed[key]) @ items
            scores = window.scores(products.unsqueeze(1)).squeeze(1) + u @ self.time[key].T
            p = self._weights(scores, window.visible)
            mixed = window.mix(p.unsqueeze(1)).squeeze(1)
            o = mixed @ self.embed[value].T + p @ self.time[value]
            u = (u if self.turn is None else self.turn(u)) + o
        return self.readout(u)

    def _weights(self, scores: Tensor, visible: Tensor) -> Tensor:
        """(n, Q, N) -> weights of the ages, 0 where not visible."""
        if self.attention == "linear":
            return scores.masked_fill(~visible, 0)
        if self.attention == "softmax":
            return visible_softmax(scores, visible)
        best = scores.detach().masked_fill(~visible, -torch.inf).argmax(-1, keepdim=True)
        chosen = torch.zeros_like(scores).scatter(-1, best, 1.0)
        return chosen.masked_fill(~visible, 0)
