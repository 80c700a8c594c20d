"""Sparse code index: a code of one winner per module for every step, an index of past steps, and a measure of novelty.

    f    = the ``active`` largest of F fixed random projections of x, as bits
    u    = f . W[:, q, k] / active  in [0, 1],  W binary;    G = mean over modules q of max_k u
    code = argmax_k of gain(G) u + z,  z a fixed random projection of f,   gain = steep * G^2 / (1 - G + 0.05)
    W[:, q, code_q] |= f,   unless more than ``fill`` of that unit's weights are set
    y = skip(x) + w (1 - G) + W_o attention over the ``top_k`` steps whose codes share most winners with that of x

A reconstruction of Sparsey's principle: a familiar input (G near 1) gets the code it got before, a novel one (G near 0)
a code that depends on the input alone; inputs that share features share winners, and one trial is enough. Where Sparsey
draws winners at random, z is a function of f, so that both forms of the memory and every repetition agree. What is
stored under the codes, and the attention over the shortlist (queries and keys, code of age, overlap times a learned
weight, a null slot), is ours: the code alone carries no gradient. Equal overlaps go to the later step.

`novelty` returns 1 - G, for intrinsic rewards. Limits: one level, and no context from the code of the step before.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, State, StateSpec
from embodied_mem.memory.rows import opened_rows, replace_rows
from embodied_mem.memory.slot_loop import linear_macs
from embodied_mem.memory.window_memory import Window, WindowMemory, check_positive, visible_softmax
from embodied_mem.registry import register

__all__ = ["SparseCodeIndex", "SparseCodeIndexConfig"]

_ROOM = 0.05


@dataclass(frozen=True)
class SparseCodeIndexConfig(MemoryConfig):
    """Codes and the steps that they index."""

    slots: int = 64
    """Steps N that are held."""
    width: int = 32
    """Width of what is stored of a step."""
    heads: int = 2
    """Attention heads."""
    modules: int = 8
    """Competitive modules, each with one winner."""
    units: int = 8
    """Units of a module."""
    features: int = 32
    """Binary features F of an input."""
    active: int = 8
    """Features that are set."""
    top_k: int = 16
    """Steps that are shortlisted by their codes."""
    steep: float = 2.0
    """How fast familiarity takes over from the input's own code."""
    fill: float = 0.75
    """Share of set weights at which a unit stops learning."""
    seed: int = 0
    """Seed of the projections."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "slots", "width", "heads", "modules", "units", "features", "active", "top_k")
        if self.width % self.heads:
            raise UsageError(f"expected width divisible by heads = {self.heads}, got {self.width}")
        if self.active > self.features:
            raise UsageError(f"expected active <= features = {self.features}, got {self.active}")
        if self.steep < 0 or not 0 < self.fill <= 1:
            raise UsageError(f"expected steep >= 0 and 0 < fill <= 1, got {self.steep} and {self.fill}")


@register(
    "memory",
    "sparse_code_index",
    family="events",
    source="Rinkus 2014, Sparsey (reconstruction)",
    variants=({"slots": 7, "width": 6, "modules": 3, "units": 4, "features": 9, "active": 3, "top_k": 2},),
)
class SparseCodeIndex(WindowMemory):
    """Ring of steps with their codes, and the binary weights that give codes."""

    Config = SparseCodeIndexConfig
    properties = frozenset({"compilable", "hard_write"})
    queries = 64

    def __init__(self, config: SparseCodeIndexConfig) -> None:
        super().__init__(config)
        self.config: SparseCodeIndexConfig = config
        D, H, M = config.width, config.heads, config.modules
        self.slots, self.entry_dim = config.slots, D + M
        generator = torch.Generator().manual_seed(config.seed)
        self.projection: Tensor
        self.own_code: Tensor
        self.register_buffer("projection", torch.randn(config.in_dim, config.features, generator=generator))
        own = torch.randn(config.features, M * config.units, generator=generator) * config.active**-0.5
        self.register_buffer("own_code", own)
        self.embed, self.query = nn.Linear(config.in_dim, D), nn.Linear(config.in_dim, D)
        self.key = nn.Parameter(torch.randn(H, D // H, D) * D**-0.5)
        self.value = nn.Parameter(torch.randn(H, D, D // H) * D**-0.5)
        self.code = nn.Parameter(-0.1 * torch.log1p(torch.arange(config.slots, dtype=torch.float32)).repeat(H, 1))
        self.overlap = nn.Parameter(torch.ones(H))
        self.out, self.novel = nn.Linear(D, config.out_dim), nn.Linear(1, config.out_dim, bias=False)
        self.skip = nn.Linear(config.in_dim, config.out_dim, bias=False)

    def state_spec(self) -> dict[str, StateSpec]:
        """``ring`` (N, D + Q): steps and their winners; ``count``; ``weights`` (F, Q K) bool."""
        c = self.config
        return {
            **super().state_spec(),
            "weights": StateSpec((c.features, c.modules * c.units), torch.bool, "ring"),
        }

    def macs_per_token(self, t: int | None = None) -> int:
        """Maps, features and codes, scores of the steps held, and sums of those shortlisted."""
        c = self.config
        maps = sum(linear_macs(part) for part in (self.embed, self.query, self.out, self.skip))
        codes = self.projection.numel() + 2 * self.own_code.numel()
        read = self.key.numel() + self.value.numel() + 2 * self.held(t) * c.width * c.heads
        return maps + codes + read + self.held(t) * c.modules

    def forward_step(
        self, inputs: MemoryInput, state: State, reset: Tensor | None, *, donate: bool
    ) -> tuple[Tensor, State]:
        """Code, read, write one step; see `MemoryModule.step`."""
        weights, rows = state["weights"], opened_rows(reset)
        if rows is not None:
            weights = replace_rows(weights, rows, False)
        winners, familiar, weights = self.encode(inputs.x, weights)
        marked = inputs._replace(x=torch.cat([inputs.x, winners.to(inputs.x.dtype), 1 - familiar.unsqueeze(1)], 1))
        y, held = super().forward_step(marked, {key: state[key] for key in ("ring", "count")}, reset, donate=donate)
        return y, {**held, "weights": weights}

    def forward_sequence(
        self, inputs: MemoryInput, state: State, resets: Tensor | None, *, valid: Tensor | None, chunk: int | None
    ) -> tuple[Tensor, State]:
        """Code step by step, then attend `chunk` steps at a time; see `MemoryModule.sequence`."""
        x, weights, marks = inputs.x, state["weights"], []
        for t in range(x.shape[1]):
            rows = opened_rows(None if resets is None else resets[:, t])
            if rows is not None:
                weights = replace_rows(weights, rows, False)
            winners, familiar, new = self.encode(x[:, t], weights)
            weights = new if valid is None else torch.where(valid[:, t].view(-1, 1, 1), new, weights)
            marks.append(torch.cat([winners.to(x.dtype), 1 - familiar.unsqueeze(1)], 1))
        marked = inputs._replace(x=torch.cat([x, torch.stack(marks, 1)], 2))
        held = {key: state[key] for key in ("ring", "count")}
        y, held = super().forward_sequence(marked, held, resets, valid=valid, chunk=chunk)
        return y, {**held, "weights": weights}

    @torch.no_grad()
    def encode(self, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Choose codes and learn them.

        Args:
            x: (n, in_dim). weights: (n, F, Q K) bool.

        Returns:
            Winners (n, Q) int64 in 0 .. K - 1, familiarity G (n,) before learning, and the weights after it.
        """
        c = self.config
        n = len(x)
        features = (x @ self.projection).topk(c.active, -1).indices
        f = torch.zeros(n, c.features, dtype=x.dtype, device=x.device).scatter(1, features, 1.0)
        u = torch.bmm(f.unsqueeze(1), weights.to(x.dtype)).view(n, c.modules, c.units) / c.active
        G = u.amax(2).mean(1)
        gain = c.steep * G.square() / (1 - G + _ROOM)
        own = (f @ self.own_code).view(n, c.modules, c.units)
        winners = (gain.view(n, 1, 1) * u + own).argmax(2)
        chosen = torch.zeros_like(u, dtype=torch.bool).scatter(2, winners.unsqueeze(2), True).flatten(1)
        learning = chosen & (weights.to(x.dtype).mean(1) <= c.fill)
        return winners, G, weights | ((f > 0).unsqueeze(2) & learning.unsqueeze(1))

    def novelty(self, x: Tensor, state: State) -> Tensor:
        """Return 1 - G of inputs x (n, in_dim), (n,) in [0, 1], without learning them."""
        return 1 - self.encode(x.to(self.float_dtype), state["weights"])[1]

    def entry(self, x: Tensor) -> Tensor:
        """Embed an input, and keep its winners (the last Q + 1 numbers of x are winners and novelty)."""
        features, winners, _ = self._parts(x)
        return torch.cat([self.embed(features), winners], -1)

    def read(self, x: Tensor, window: Window) -> Tensor:
        """Shortlist by codes, then attend."""
        features, winners, novelty = self._parts(x)
        c, (n, Q, N) = self.config, window.place.shape
        items, codes = window.items[..., : c.width], window.items[..., c.width :]
        shared = (winners.unsqueeze(2) == codes.unsqueeze(1)).sum(3).to(x.dtype).gather(2, window.place)
        age = torch.arange(N, device=x.device)
        # whole numbers: more winners first, then the later step
        rank = (shared * N - age).masked_fill(~window.visible, -torch.inf)
        best = rank.topk(min(c.top_k, N), -1).indices
        listed = window.visible & torch.zeros_like(window.visible).scatter(2, best, True)
        q = self.query(features).view(n, Q, c.heads, -1).transpose(1, 2)
        asked = q @ self.key * q.shape[-1] ** -0.5
        scores = window.scores(asked @ items.transpose(1, 2).unsqueeze(1)) + self.code.unsqueeze(1)
        scores = scores + self.overlap.view(-1, 1, 1) * (shared / c.modules).unsqueeze(1)
        weights = visible_softmax(scores, listed.unsqueeze(1))
        found = window.mix(weights, items) @ self.value
        return self.skip(features) + self.novel(novelty) + self.out(found.transpose(1, 2).flatten(2))

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split into input (..., in_dim), winners (..., Q) and novelty (..., 1)."""
        features, winners, novelty = x.split([self.in_dim, self.config.modules, 1], -1)
        return features, winners, novelty
