"""MemMamba, a reconstruction: a state space model that takes notes, and looks them up when its state may not hold them.

    layer l with input x, pool of the last P notes of the episode:
    s = sigmoid(MLP(x)),   if s > tau:  the note c = W x enters the pool after this step, the oldest note leaves
    f = sigmoid(W x),      x' = x + f attention(x; pool),
    weights of which are a softmax, with a null slot, of  q . W c / sqrt C + log s - slope * notes taken since
    every ``cross`` layers:  x' = x' + attention(x'; pools of all layers below),      h = ssd(x') + x'
    y = W rmsnorm(h of the last layer)

f stands for the forgetting score of the state: where it is small, the state answers alone. It weighs what is found
instead of switching it; s decides by threshold whether a note is taken, and by log s how much it weighs, which is how
it gets a gradient. A note is readable from the step after its own.

Reconstructed from the stated principle (notes on important tokens, cross-token and cross-layer attention over them);
the paper's equations and schedules were not checked. Notes leave in the order they came.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, MemoryModule, State, StateSpec
from embodied_mem.memory.fast_weights import READ_FLOOR, unit
from embodied_mem.memory.rows import opened_rows, replace_rows
from embodied_mem.memory.segments import segment_ids
from embodied_mem.memory.sliding import slide
from embodied_mem.memory.slot_loop import linear_macs
from embodied_mem.memory.ssd import SSD, SSDConfig
from embodied_mem.memory.window_memory import check_positive, visible_softmax
from embodied_mem.registry import register

__all__ = ["MemMamba", "MemMambaConfig"]

# Most tokens are noted at first, so that there is something to learn from.
_NOTED = 1.0
# What a note loses to each one taken after it: a value noted anew should win over the old one.
_SLOPE = 0.25


@dataclass(frozen=True)
class MemMambaConfig(MemoryConfig):
    """Layers, their state space models, and their pools."""

    layers: int = 1
    """Layers; more learn the rewrite task in several times the updates."""
    width: int = 64
    """Width of a layer."""
    heads: int = 2
    """Heads of a state space model."""
    key_dim: int = 32
    """State size of a state space model."""
    notes: int = 16
    """Notes P of a pool."""
    note_dim: int = 32
    """Width C of a note."""
    threshold: float = 0.5
    """Importance tau above which a token is noted."""
    cross: int = 2
    """Every how many layers the pools of the layers below are read."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "layers", "width", "heads", "key_dim", "notes", "note_dim", "cross")
        if self.width % self.heads:
            raise UsageError(f"expected a width divisible by heads = {self.heads}, got {self.width}")
        if not 0 <= self.threshold < 1:
            raise UsageError(f"expected 0 <= threshold < 1, got {self.threshold}")


class _Pool(NamedTuple):
    """Notes that the queries of a row may read."""

    notes: Tensor
    """(n, S, C)."""
    scores: Tensor
    """(n, S) log importance."""
    age: Tensor
    """(n, Q, S) int64 notes taken since, its own included."""
    visible: Tensor
    """(n, Q, S) bool."""


class _LookUp(nn.Module):
    """Attention over notes that maps queries and answers instead of every note."""

    def __init__(self, width: int, note_dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, note_dim)
        self.key = nn.Linear(note_dim, note_dim, bias=False)
        self.value = nn.Linear(note_dim, width, bias=False)
        # starts as the state space model alone
        nn.init.zeros_(self.value.weight)
        self.slope_log = nn.Parameter(torch.tensor(_SLOPE).log())

    def forward(self, x: Tensor, pools: list[_Pool]) -> Tensor:
        """x (n, Q, D) -> (n, Q, D), 0 where there is no note."""
        notes, scores = (torch.cat([pool[i] for pool in pools], 1) for i in range(2))
        age, visible = (torch.cat([pool[i] for pool in pools], 2) for i in (2, 3))
        asked = self.query(x) @ self.key.weight * notes.shape[-1] ** -0.5
        logits = asked @ notes.transpose(1, 2) + scores.unsqueeze(1) - self.slope_log.exp() * age
        weights = visible_softmax(logits, visible)
        return self.value(weights @ notes)


class _Layer(nn.Module):
    def __init__(self, config: MemMambaConfig, crosses: bool) -> None:
        super().__init__()
        D, C = config.width, config.note_dim
        decide = nn.Linear(C, 1)
        nn.init.constant_(decide.bias, _NOTED)
        self.importance = nn.Sequential(nn.Linear(D, C), nn.SiLU(), decide)
        self.note = nn.Linear(D, C)
        self.forgetting = nn.Linear(D, 1)
        self.own = _LookUp(D, C)
        self.below = _LookUp(D, C) if crosses else None
        self.ssd = SSD(
            SSDConfig(in_dim=D, out_dim=D, heads=config.heads, key_dim=config.key_dim, value_dim=D // config.heads)
        )

    def written(self, x: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
        """Notes of tokens (..., D): (..., C), their log importance (...), and whether they are taken (...) bool."""
        logit = self.importance(x).squeeze(-1)
        return self.note(x), F.logsigmoid(logit), logit.detach().sigmoid() > threshold

    def looked_up(self, x: Tensor, pool: _Pool, below: list[_Pool]) -> Tensor:
        """x (n, Q, D) with what its notes, and those of the layers below, say."""
        x = x + self.forgetting(x).sigmoid() * self.own(x, [pool])
        return x if self.below is None else x + self.below(x, below)


@register(
    "memory",
    "mem_mamba",
    family="test-time",
    source="MemMamba: rethinking memory patterns in state space model, 2025; a reconstruction",
    variants=({"layers": 2, "width": 6, "key_dim": 3, "notes": 3, "note_dim": 4},),
)
class MemMamba(MemoryModule):
    """State space layers with note pools (reconstruction)."""

    Config = MemMambaConfig
    properties = frozenset({"compilable", "hard_write"})
    parallel = "chunk"

    def __init__(self, config: MemMambaConfig) -> None:
        super().__init__(config)
        self.config: MemMambaConfig = config
        self.embed = nn.Linear(config.in_dim, config.width)
        crosses = [i > 0 and i % config.cross == config.cross - 1 for i in range(config.layers)]
        self.layers = nn.ModuleList([_Layer(config, each) for each in crosses])
        self.readout = nn.Linear(config.width, config.out_dim)

    def state_spec(self) -> dict[str, StateSpec]:
        """Per layer: the state of its ``ssd``; ``notes`` (P, C) and ``scores`` (P), the oldest first; ``fill``."""
        c = self.config
        spec: dict[str, StateSpec] = {}
        for i, layer in enumerate(self._layers()):
            spec |= {f"layer{i}/ssd/{key}": value for key, value in layer.ssd.state_spec().items()}
            spec[f"layer{i}/notes"] = StateSpec((c.notes, c.note_dim), role="ring")
            spec[f"layer{i}/scores"] = StateSpec((c.notes,), role="ring")
            spec[f"layer{i}/fill"] = StateSpec((), torch.int64, "counter")
        return spec

    def macs_per_token(self, t: int | None = None) -> int:
        """Every weight once, the fast weights, and the notes held."""
        c = self.config
        held = c.notes if t is None else min(t, c.notes)
        pools = sum(1 if layer.below is None else 1 + i for i, layer in enumerate(self._layers()))
        ssd = sum(layer.ssd.macs_per_token(t) - linear_macs(layer.ssd) for layer in self._layers())
        return linear_macs(self) + ssd + 2 * held * c.note_dim * pools

    def forward_step(
        self, inputs: MemoryInput, state: State, reset: Tensor | None, *, donate: bool
    ) -> tuple[Tensor, State]:
        """Look up, advance and take notes, layer by layer; see `MemoryModule.step`."""
        x = self.embed(inputs.x)
        new: State = {}
        below: list[_Pool] = []
        rows = opened_rows(reset)
        slot = torch.arange(self.config.notes, 0, -1, device=x.device)
        for i, layer in enumerate(self._layers()):
            held = {key: state[f"layer{i}/{key}"] for key in ("notes", "scores", "fill")}
            if rows is not None:
                held = {key: replace_rows(value, rows, 0) for key, value in held.items()}
            fill = held["fill"]
            age = slot.expand(len(x), 1, -1)
            pool = _Pool(held["notes"], held["scores"], age, (slot <= fill.unsqueeze(1)).unsqueeze(1))
            note, score, taken = layer.written(x, self.config.threshold)
            x = layer.looked_up(x.unsqueeze(1), pool, below).squeeze(1)
            x, inner = layer.ssd.forward_step(MemoryInput(x), self._inner(state, i), reset, donate=donate)
            below.append(pool)
            new |= {f"layer{i}/ssd/{key}": value for key, value in inner.items()}
            new[f"layer{i}/notes"] = torch.where(taken.view(-1, 1, 1), slide(pool.notes, note), pool.notes)
            new[f"layer{i}/scores"] = torch.where(taken.unsqueeze(1), slide(pool.scores, score), pool.scores)
            new[f"layer{i}/fill"] = (fill + taken.long()).clamp(max=self.config.notes)
        return self._emit(x), new

    def forward_sequence(
        self, inputs: MemoryInput, state: State, resets: Tensor | None, *, valid: Tensor | None, chunk: int | None
    ) -> tuple[Tensor, State]:
        """Run layer by layer, each over all tokens; see `MemoryModule.sequence`."""
        x = self.embed(inputs.x)
        new: State = {}
        below: list[_Pool] = []
        if resets is None:
            resets = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        for i, layer in enumerate(self._layers()):
            held = {key: state[f"layer{i}/{key}"] for key in ("notes", "scores", "fill")}
            note, score, taken = layer.written(x, self.config.threshold)
            pool, after = self._pool(held, note, score, taken if valid is None else taken & valid, resets, valid)
            x = layer.looked_up(x, pool, below)
            x, inner = layer.ssd.forward_sequence(
                MemoryInput(x), self._inner(state, i), resets, valid=valid, chunk=chunk
            )
            below.append(pool)
            new |= {f"layer{i}/ssd/{key}": value for key, value in inner.items()}
            new |= {f"layer{i}/{key}": value for key, value in after.items()}
        return self._emit(x), new

    def _pool(
        self, held: State, note: Tensor, score: Tensor, taken: Tensor, resets: Tensor, valid: Tensor | None
    ) -> tuple[_Pool, State]:
        """Line up carried and new notes: who may read which, and what is left after the last real token."""
        P, (n, T) = self.config.notes, resets.shape
        step, segment = torch.arange(T, device=resets.device), segment_ids(resets)
        exists = torch.arange(P, 0, -1, device=resets.device) <= held["fill"].unsqueeze(1)
        taken = torch.cat([exists, taken], 1)
        owner = torch.cat([torch.zeros_like(exists, dtype=segment.dtype), segment], 1)
        order = taken.long().cumsum(1)
        # notes taken before each token, its own left out
        before = torch.cat([order[:, P - 1 : P], order[:, P:-1]], 1)
        age = before.unsqueeze(2) - order.unsqueeze(1) + 1
        past = torch.arange(-P, T, device=resets.device) < step.unsqueeze(1)
        visible = taken.unsqueeze(1) & (owner.unsqueeze(1) == segment.unsqueeze(2)) & past & (age <= P)
        notes, scores = torch.cat([held["notes"], note], 1), torch.cat([held["scores"], score], 1)

        end = torch.full((n, 1), T, device=resets.device) if valid is None else valid.sum(1, keepdim=True)
        last = torch.cat([torch.zeros_like(segment[:, :1]), segment], 1).gather(1, end)
        kept = taken & (owner == last)
        index = torch.argsort(kept.long(), dim=1, stable=True)[:, -P:]
        there = kept.gather(1, index)
        found = notes.gather(1, index.unsqueeze(2).expand(-1, -1, notes.shape[2]))
        return _Pool(notes, scores, age, visible), {
            "notes": torch.where(there.unsqueeze(2), found, 0),
            "scores": torch.where(there, scores.gather(1, index), 0),
            "fill": there.sum(1),
        }

    def _emit(self, x: Tensor) -> Tensor:
        return self.readout(unit(x, READ_FLOOR) * x.shape[-1] ** 0.5)

    def _inner(self, state: State, layer: int) -> State:
        prefix = f"layer{layer}/ssd/"
        return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}

    def _layers(self) -> list[_Layer]:
        return list(self.layers)  # type: ignore[arg-type]
