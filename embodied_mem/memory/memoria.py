"""Memoria: engrams that fire together are recalled together, and live longer the more they are attended to.

    working engrams w = FFN(attention of learned queries over a segment), when the segment is full
    short term   the k engrams of the highest -mean_w |w - v|^2
    long term    from each of these the engram it fired with most; then, ``depth`` times, from every engram reached
                 the one it fired with most and that was not reached yet; of all reached the k of the highest
                 -mean_w |w - v|^2
    firing       counts[i, j] += 1 for all pairs of working and recalled engrams
    life         + extend * (share of the attention of the segment) * (engrams shown), for those shown; - 1 for all;
                 gone at 0
    next segment every layer:   h <- h + self-attention + W_o attention(h, working and recalled engrams)

Working engrams become short-term ones at the next write, the oldest of more than ``short`` short-term ones long-term.
New engrams take empty slots, then those of the long-term engrams with the least life. What is recalled, counted and
forgotten has no gradient, nor have engrams in the bank; learning acts through the working engrams that the next segment
sees and through the attention to all. Lives and distances are rounded
to 3 decimals, and ties go to the lowest slot.

Paths of the long-term walk advance together and share what they have reached; the published code walks them one by one
and keeps engrams in lists that grow, here ``slots`` bounds them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import State, StateSpec
from embodied_mem.memory.segment_policy import SegmentConfig, SegmentMemory
from embodied_mem.memory.slot_loop import linear_macs
from embodied_mem.memory.window_memory import check_positive, visible_softmax
from embodied_mem.registry import register

__all__ = ["Bank", "Memoria", "MemoriaConfig", "remember"]

EMPTY, WORKING, SHORT, LONG = range(4)
# Of lives and distances, so that what is equal stays equal in float32 and ties are ties.
_DECIMALS = 3


@dataclass(frozen=True)
class MemoriaConfig(SegmentConfig):
    """Engrams. Published scale: 400 short-term engrams of which 50 are recalled, depth 10."""

    slots: int = 32
    """Engrams E of all kinds."""
    working: int = 2
    """Engrams made of a segment."""
    short: int = 8
    """Short-term engrams before the oldest becomes long-term."""
    recall_short: int = 4
    """Short-term engrams recalled."""
    recall_long: int = 4
    """Long-term engrams recalled."""
    depth: int = 4
    """Steps of the walk from engram to engram."""
    life: float = 9.0
    """Segments that a new engram lives."""
    extend: float = 8.0
    """Life that average attention adds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "slots", "working", "short", "recall_short", "recall_long")
        if self.depth < 0 or self.life <= 0 or self.extend < 0:
            raise UsageError(
                f"expected depth >= 0, life > 0 and extend >= 0, got {self.depth}, {self.life} and {self.extend}"
            )
        least = self.short + 2 * self.working
        if self.slots < max(least, self.recall_short, self.recall_long):
            raise UsageError(
                f"expected slots >= {max(least, self.recall_short, self.recall_long)}, "
                f"room for short + 2 * working and for what is recalled, got {self.slots}"
            )

    @property
    def shown(self) -> int:
        """Engrams that a segment may see."""
        return self.working + self.recall_short + self.recall_long


class Bank(NamedTuple):
    """Engrams of R rows."""

    vectors: Tensor
    """(R, E, D)."""
    kind: Tensor
    """(R, E) int64: empty, working, short or long."""
    life: Tensor
    """(R, E)."""
    counts: Tensor
    """(R, E, E), how often two fired together."""
    born: Tensor
    """(R, E) int64, rank of birth in the episode."""


@register(
    "memory",
    "memoria",
    family="events",
    source="Park & Bak 2023, Memoria, arXiv 2310.03052",
    variants=(
        {
            "segment": 4,
            "width": 8,
            "layers": 2,
            "slots": 8,
            "short": 3,
            "recall_short": 2,
            "recall_long": 2,
            "life": 2.0,
            "extend": 1.0,
        },
    ),
)
class Memoria(SegmentMemory):
    """Bank of engrams, and those that the present segment sees."""

    Config = MemoriaConfig
    properties = frozenset({"compilable", "soft_reset", "hard_write"})

    def __init__(self, config: MemoriaConfig) -> None:
        super().__init__(config)
        self.config: MemoriaConfig = config
        D = config.width
        self.extra_dim = config.layers * D
        self.asked = nn.Parameter(torch.randn(config.working, D))
        self.offered = nn.Linear(D, 2 * D)
        self.abstract = nn.Sequential(nn.LayerNorm(D), nn.Linear(D, D), nn.GELU(), nn.Linear(D, D), nn.LayerNorm(D))
        self.readers = nn.ModuleList(_Reader(config) for _ in range(config.layers))

    def held_spec(self) -> dict[str, StateSpec]:
        """The `Bank`, ``written``: segments of the episode, and what is ``shown`` (S, D) from which ``place`` (S,).

        ``place`` is the slot of what is shown, -1 where nothing is.
        """
        c = self.config
        return {
            "vectors": StateSpec((c.slots, c.width), role="ring"),
            "kind": StateSpec((c.slots,), torch.int64, "counter"),
            "life": StateSpec((c.slots,), role="ring"),
            "counts": StateSpec((c.slots, c.slots), role="ring"),
            "born": StateSpec((c.slots,), torch.int64, "counter"),
            "written": StateSpec((), torch.int64, "counter"),
            "shown": StateSpec((c.shown, c.width)),
            "place": StateSpec((c.shown,), torch.int64, "counter"),
        }

    def starts(self) -> dict[str, Tensor | int]:
        """Return an empty bank."""
        return {key: -1 if key == "place" else 0 for key in self.held_spec()}

    def memory_macs(self) -> tuple[int, int]:
        """Attention to what is shown; the working engrams, their distances to all, and the walk."""
        c = self.config
        read = linear_macs(self.readers) + 2 * c.layers * c.shown * c.width * c.heads
        make = c.segment * (linear_macs(self.offered) + 2 * c.width * c.working) + c.working * linear_macs(
            self.abstract
        )
        mass = c.segment * c.layers * (c.width + c.shown) * c.width * c.heads
        return read, make + mass + c.working * c.slots * c.width + (1 + c.depth) * c.recall_short * c.slots

    def record(self, e: Tensor, inputs: list[Tensor]) -> list[Tensor]:
        """Keep the inputs of the layers."""
        return inputs

    def mixed(self, layer: int, h: Tensor, local: Tensor, held: State) -> Tensor:
        """Add what the engrams shown answer."""
        reader = cast(_Reader, self.readers[layer])
        weights = reader.weights(h, held["shown"], held["place"] >= 0)
        return h + local + reader.answer((weights @ held["shown"].unsqueeze(1)).transpose(1, 2).flatten(2))

    def close(self, held: State, segment: Tensor, length: Tensor) -> State:
        """Make working engrams of the segment, recall others for the next, and let the unused ones go."""
        c = self.config
        inputs = segment[..., -self.extra_dim :].unflatten(2, (c.layers, c.width))
        exists = torch.arange(segment.shape[1], device=length.device) < length.unsqueeze(1)
        # all layers' inputs count for what was attended to, the last one's for what is made of the segment
        key, value = self.offered(inputs[:, :, -1]).chunk(2, -1)
        scores = self.asked @ key.transpose(1, 2) * c.width**-0.5
        found = visible_softmax(scores, exists.unsqueeze(1), null_slot=False) @ value
        working = self.abstract(found)
        with torch.no_grad():
            mass = torch.zeros_like(held["place"], dtype=working.dtype)
            for layer, reader in enumerate(cast(Iterable[_Reader], self.readers)):
                weights = reader.weights(inputs[:, :, layer], held["shown"], held["place"] >= 0)
                mass = mass + torch.where(exists.view(len(exists), 1, -1, 1), weights, 0).sum((1, 2))
            bank = Bank(*(held[key] for key in Bank._fields))
            bank, place = remember(bank, working, held["written"], mass, held["place"], c)
            slot = place.clamp(min=0).unsqueeze(2).expand(-1, -1, c.width)
            shown = torch.where((place >= 0).unsqueeze(2), bank.vectors.gather(1, slot), 0)
        shown = torch.cat([working, shown[:, c.working :]], 1)
        return {**bank._asdict(), "written": held["written"] + 1, "shown": shown, "place": place}


class _Reader(nn.Module):
    """Cross-attention of one layer; engrams are attended to as they are."""

    def __init__(self, config: MemoriaConfig) -> None:
        super().__init__()
        D, self.heads = config.width, config.heads
        self.norm = nn.LayerNorm(D)
        self.query = nn.Linear(D, self.heads * D)
        # no bias: nothing read must be exactly nothing
        self.answer = nn.Linear(self.heads * D, D, bias=False)

    def weights(self, h: Tensor, shown: Tensor, exists: Tensor) -> Tensor:
        """h (R, Q, D), shown (R, S, D), exists (R, S) -> (R, H, Q, S)."""
        D = h.shape[2]
        q = self.query(self.norm(h)).unflatten(2, (self.heads, D)).transpose(1, 2)
        return visible_softmax(q @ shown.transpose(1, 2).unsqueeze(1) * D**-0.5, exists.unsqueeze(1).unsqueeze(1))


def remember(
    bank: Bank, working: Tensor, written: Tensor, mass: Tensor, place: Tensor, config: MemoriaConfig
) -> tuple[Bank, Tensor]:
    """Advance the bank by one segment.

    Args:
        bank: engrams of R rows. working: (R, n, D) the new ones. written: (R,) int64 segments so far.
        mass: (R, S) attention that the engrams shown have got. place: (R, S) int64 their slots, -1 for none.

    Returns:
        The bank, and the slots (R, S) int64 of what is shown next: working, recalled short-term, recalled long-term.
    """
    kind, life, counts, born = bank.kind, bank.life, bank.counts, bank.born
    R, E = kind.shape
    shown = place >= 0
    share = torch.where(shown, mass, 0)
    share = share / share.sum(1, keepdim=True).clamp_min(1e-12) * shown.sum(1, keepdim=True)
    life = (life.scatter_add(1, place.clamp(min=0), config.extend * share) - 1).round(decimals=_DECIMALS)
    kind = torch.where(life > 0, kind, EMPTY)

    # ageing: working to short term, the oldest short-term ones to long term
    kind = torch.where(kind == WORKING, SHORT, kind)
    short = kind == SHORT
    older = (short.unsqueeze(1) & (born.unsqueeze(1) < born.unsqueeze(2))).sum(2)
    kind = torch.where(short & (older < short.sum(1, keepdim=True) - config.short), LONG, kind)

    # the config leaves room for the new ones beside the short-term ones
    keep = torch.where(kind == EMPTY, -torch.inf, life.masked_fill(kind == SHORT, torch.inf))
    slots = keep.argsort(dim=1, stable=True)[:, : config.working]
    new = torch.zeros_like(kind, dtype=torch.bool).scatter(1, slots, True)
    vectors = bank.vectors.scatter(1, slots.unsqueeze(2).expand_as(working), working)
    kind = torch.where(new, WORKING, kind)
    life = torch.where(new, config.life, life)
    order = written.unsqueeze(1) * config.working + torch.arange(config.working, device=slots.device)
    born = born.scatter(1, slots, order)
    gone = new | (kind == EMPTY)
    counts = torch.where(gone.unsqueeze(1) | gone.unsqueeze(2), 0, counts)

    near = -(working.unsqueeze(2) - vectors.unsqueeze(1)).square().sum(3).mean(1).round(decimals=_DECIMALS)
    recent = _best(near, kind == SHORT, config.recall_short)
    reached = _walk(counts, recent, kind == LONG, config.depth)
    distant = _best(near, reached, config.recall_long)

    place = torch.cat([slots, recent, distant], 1)
    fired = torch.zeros(R, E + 1, dtype=torch.bool, device=kind.device)
    fired = fired.scatter(1, torch.where(place >= 0, place, E), True)[:, :E]
    counts = counts + (fired.unsqueeze(1) & fired.unsqueeze(2)).to(counts.dtype)
    return Bank(vectors, kind, life, counts, born), place


def _best(score: Tensor, among: Tensor, k: int) -> Tensor:
    """Return the slots (R, k) of the highest score (R, E) among those allowed (R, E) bool, -1 where there are fewer."""
    order = score.masked_fill(~among, -torch.inf).argsort(dim=1, descending=True, stable=True)[:, :k]
    return torch.where(among.gather(1, order), order, -1)


def _walk(counts: Tensor, start: Tensor, among: Tensor, depth: int) -> Tensor:
    """Return the engrams (R, E) bool reached from slots ``start`` (R, k), by the largest counts among those allowed."""
    E = counts.shape[1]
    reached = torch.zeros_like(among)
    now = start
    for _ in range(depth + 1):
        rows = counts.gather(1, now.clamp(min=0).unsqueeze(2).expand(-1, -1, E))
        allowed = (among & ~reached).unsqueeze(1) & (rows > 0) & (now >= 0).unsqueeze(2)
        following = rows.masked_fill(~allowed, -1).argmax(2)
        now = torch.where(allowed.any(2), following, -1)
        hit = torch.zeros(len(now), E + 1, dtype=torch.bool, device=now.device)
        reached = reached | hit.scatter(1, torch.where(now >= 0, now, E), True)[:, :E]
    return reached
