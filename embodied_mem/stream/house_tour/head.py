"""The question head: an encoded question attends over memory tokens and their times and scores the options.

    kind      words and pairs of words, hashed, summed, two linear layers
    presence  p_i = sigmoid(MLP(a_i, -log(1 - a_i), a_i / max a, mean of 3 and of 9 neighbours, log duration, log M));
              a_i = amount of what is asked for in token i of M
    last      p_i prod over tokens that end later of (1 - p_j): the latest token that shows it; ``first`` likewise
    any       p_i^2 / sum p^2;   a kind attends with its own learned mixture of the three
    walls     amounts of the wall colours to a learned power, their sum 1
    room      tokens near an attended one in time and alike in walls: exp(-gap / tau) (walls . walls)^eta

Where and last read the walls under the attention, when its times, what and colour the presence of the options in the
room, order the first attention of every option, count the wall colours with a presence, change the walls of first and
last attention, never the strongest presence. A learned prior answers where there are no tokens.

Tokens are concepts (`perception.house_words`), so the head is small; it was trained on frames, on merged tokens of
several memories and on none at all (`embodied_mem.experiments.house_head`).
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.perception.house_words import COLOUR_WORDS, COLOURS, PAIRS, THINGS, WALL_WORDS, find_pairs, pair
from embodied_mem.stream.house_tour.questions import KINDS, YES_NO

BUCKETS = 1024
WEIGHTS = Path(__file__).parent / "weights" / "house_head.safetensors"
FIXED = ("when", "count", "change", "never")
"""Kinds whose options stand in a fixed order, so that a prior over them makes sense."""
_NEAR = 8
_TINY = 1e-4
_SUREST = 0.996
Dims = list[int]


@dataclass(frozen=True)
class Parsed:
    """A question as the head reads it."""

    kind: str
    """One of `KINDS`."""
    subject: Dims
    """Concepts of what is asked about; empty for none."""
    thing: int | None
    """What the colour is asked of."""
    options: tuple[Dims | tuple[float, float] | None, ...]
    """Concepts, numbers or seconds of every option; None where the words mean nothing here."""


def buckets(text: str) -> list[int]:
    """Return the hashed words and pairs of neighbours of a text; things and colours are blanked."""
    words = ["^"]
    for word in re.findall(r"[a-z]+", text.lower()):
        single = word if word in THINGS else word.removesuffix("s")
        words.append("#" if single in THINGS else "*" if word in COLOURS else word)
    both = [*words[1:], *(f"{a} {b}" for a, b in zip(words, words[1:]))]
    return [zlib.crc32(word.encode()) % BUCKETS for word in both]


def parse(kind: str, text: str, options: Sequence[str]) -> Parsed:
    """Return what a question of a known kind is about."""
    named = find_pairs(text)
    thing = None
    if kind == "colour":
        bare = [n for n in named if n[0] is None]
        thing = bare[0][1] if bare else None
        named = [n for n in named if n is not (bare[0] if bare else None)]
    subject = _dims(*named[0]) if named and kind != "order" else []
    return Parsed(kind, subject, thing, tuple(_option(kind, option, thing) for option in options))


def _dims(colour: int | None, thing: int) -> Dims:
    return [pair(thing, k) for k in (range(len(COLOURS)) if colour is None else (colour,))]


def _option(kind: str, text: str, thing: int | None) -> Dims | tuple[float, float] | None:
    words = text.strip().lower()
    if kind in ("where", "last"):
        return next(([PAIRS + k] for k, name in enumerate(WALL_WORDS) if re.search(rf"\b{name}\b", words)), None)
    if kind == "colour":
        found = next((k for k, name in enumerate(COLOUR_WORDS) if re.search(rf"\b{name}\b", words)), None)
        return None if found is None or thing is None else [pair(thing, found)]
    if kind in ("what", "order"):
        named = find_pairs(words)
        return _dims(*named[0]) if named else None
    if kind in ("change", "never"):
        return (float(YES_NO.index(words)), 0.0) if words in YES_NO else None
    numbers = [float(n) for n in re.findall(r"\d+(?:\.\d+)?", words)]
    if kind == "count":
        return (numbers[0], 0.0) if numbers else None
    return (numbers[0], numbers[1]) if len(numbers) == 2 else None


class HouseHead(nn.Module):
    """Questions and tokens to logits of options; see the module."""

    def __init__(self) -> None:
        """Make the layers, with fresh weights."""
        super().__init__()
        kinds = len(KINDS)
        self.words = nn.EmbeddingBag(BUCKETS, 24, mode="mean")
        self.kind = nn.Linear(24, kinds + 1)
        first, last = nn.Linear(7, 16), nn.Linear(16, 1)
        nn.init.constant_(last.bias, -4.5)
        self.presence = nn.Sequential(first, nn.Tanh(), last)
        self.plain = nn.Parameter(torch.tensor([5.0, 2.0, 2.0, 2.0, 2.0, 1.0, -1.0]))
        self.sharp = nn.Parameter(torch.zeros(kinds))
        self.shift = nn.Parameter(torch.zeros(kinds))
        self.mix = nn.Parameter(torch.zeros(kinds, 3))
        self.scale = nn.Parameter(torch.zeros(kinds))
        self.bias = nn.Parameter(torch.zeros(kinds))
        self.prior = nn.Parameter(torch.zeros(kinds, 4))
        self.near = nn.Parameter(torch.tensor([3.0, 6.5, -2.0, 1.0]))
        self.keen = nn.Parameter(torch.tensor(0.5))
        with torch.no_grad():
            self.mix[:, 0] = 1.0

    def kinds(self, texts: Sequence[str]) -> Tensor:
        """Return logits (N, 10) of the kinds of questions; the last one is "none of these"."""
        found = [buckets(text) or [0] for text in texts]
        starts = torch.tensor([0, *(len(f) for f in found[:-1])]).cumsum(0)
        return self.kind(self.words(torch.tensor(sum(found, [])), starts))

    def forward(self, question: Parsed, tokens: Tensor, times: Tensor) -> Tensor:
        """Return logits (O,) of the options.

        Args:
            question: see `parse`.
            tokens: (M, 128) float32, M >= 0.
            times: (M, 2) seconds, float.
        """
        number = KINDS.index(question.kind)
        count = len(question.options)
        prior = torch.zeros(count)
        if question.kind in FIXED:
            slots = [self._slot(question.kind, option, k) for k, option in enumerate(question.options)]
            prior = torch.stack([self.prior[number, s] if s is not None else torch.tensor(0.0) for s in slots])
        known = torch.tensor([option is not None for option in question.options])
        if len(tokens):
            view = _View(self, number, tokens, times.float())
            prior = prior + self.scale[number].exp() * self._scores(question, view)
        return prior.masked_fill(~known, -30.0)

    def look(self, question: Parsed, tokens: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """Return how surely each token shows the subject, as logits (M,), and the attention (M,) of the kind."""
        view = _View(self, KINDS.index(question.kind), tokens, times.float())
        logits = view.logits([question.subject])[0]
        return logits, view.attend(logits.sigmoid())

    @staticmethod
    def _slot(kind: str, option: object, index: int) -> int | None:
        if kind == "when":
            return index if index < 4 else None
        value = int(option[0]) if isinstance(option, tuple) else -1
        value -= kind == "count"
        return value if 0 <= value < 4 else None

    def _scores(self, q: Parsed, view: _View) -> Tensor:
        number = view.number
        if q.kind == "order":
            return -10 * view.first_times([_concepts(option) for option in q.options])
        logits = view.logits([q.subject])[0]
        p = logits.sigmoid()
        if q.kind == "never":
            return self._yes_no(q, logits.max() + self.bias[number])
        if q.kind == "change":
            moved = 1 - (view.first(p) @ view.walls) @ (view.last(p) @ view.walls)
            return self._yes_no(q, 8 * (moved - self.bias[number].sigmoid()))
        if q.kind == "count":
            between = 1 - torch.exp(torch.log1p(-(p[:, None] * view.walls).clamp(max=0.999)).sum(0))
            values = torch.tensor([option[0] if isinstance(option, tuple) else -9.0 for option in q.options])
            return -4 * (between.sum() + self.bias[number] - values) ** 2
        attended = view.attend(p)
        if q.kind == "when":
            spans = torch.tensor([option if isinstance(option, tuple) else (-2.0, -1.0) for option in q.options])
            ends = view.times[:, 1]
            inside = (ends >= spans[:, :1] - 0.5) & (ends < spans[:, 1:] + 0.5)
            return torch.log(inside.float() @ attended + 1e-2)
        if q.kind in ("where", "last"):
            walls = torch.tensor([option[0] - PAIRS if isinstance(option, list) else 0 for option in q.options])
            return torch.log((attended @ view.walls)[walls] + 1e-2)
        room = view.room(attended) if q.subject else torch.ones(len(view.tokens))
        shown = view.logits([_concepts(option) for option in q.options]).sigmoid()
        return torch.log((room * shown).amax(1) + _TINY)

    @staticmethod
    def _yes_no(q: Parsed, yes: Tensor) -> Tensor:
        signs = [0.5 if isinstance(option, tuple) and option[0] == 0 else -0.5 for option in q.options]
        return yes * torch.tensor(signs)


def _concepts(option: Dims | tuple[float, float] | None) -> Dims:
    return option if isinstance(option, list) else []


class _View:
    """Tokens and times as one kind of question sees them."""

    def __init__(self, head: HouseHead, number: int, tokens: Tensor, times: Tensor) -> None:
        self.head, self.number, self.tokens, self.times = head, number, tokens, times
        walls = tokens[:, PAIRS:].clamp(min=_TINY) ** head.keen.exp()
        self.walls = walls / walls.sum(1, keepdim=True)
        self.span = torch.log1p(times[:, 1] - times[:, 0]) / 8
        self.by_end, self.by_start = times[:, 1].argsort(stable=True), times[:, 0].argsort(stable=True)
        self.now = times[:, 1].max().clamp(min=1.0)

    def logits(self, things: Sequence[Dims]) -> Tensor:
        """Return (O, M) how surely each token shows one of the concepts of each thing; nothing is shown of none."""
        none = torch.zeros(len(self.tokens))
        a = torch.stack([self.tokens[:, dims].amax(1) if dims else none for dims in things])
        in_time = a[:, None, self.by_start]
        around = [F.avg_pool1d(F.pad(in_time, (k, k), "replicate"), 2 * k + 1, 1)[:, 0] for k in (1, 4)]
        near, wide = (torch.empty_like(a).index_copy(1, self.by_start, mean) for mean in around)
        share = a / a.amax(1, keepdim=True).clamp(min=0.1)
        many = torch.full_like(a, math.log1p(len(self.tokens)) / 8)
        sure = -torch.log1p(-a.clamp(0, _SUREST)) / 5
        parts = torch.stack([a, sure, share, near, wide, self.span.expand_as(a), many], -1)
        found = self.head.presence(parts)[..., 0] + parts @ self.head.plain
        return found * self.head.sharp[self.number].exp() + self.head.shift[self.number]

    def last(self, p: Tensor) -> Tensor:
        """Return (M,) attention to the latest token that shows it."""
        return self._earliest(p, self.by_end.flip(0))

    def first(self, p: Tensor) -> Tensor:
        """Return (M,) attention to the first token that shows it."""
        return self._earliest(p, self.by_start)

    @staticmethod
    def _earliest(p: Tensor, order: Tensor) -> Tensor:
        in_order = p[..., order].clamp(1e-6, 1 - 1e-6)
        left = torch.log1p(-in_order).cumsum(-1)
        before = F.pad(left[..., :-1], (1, 0))
        weights = in_order * before.exp()
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-6)
        return torch.empty_like(p).index_copy(-1, order, weights)

    def attend(self, p: Tensor) -> Tensor:
        """Return (M,) the attention of this kind."""
        share = self.head.mix[self.number].softmax(0)
        squares = p**2
        return share[0] * self.last(p) + share[1] * self.first(p) + share[2] * squares / squares.sum().clamp(min=1e-6)

    def first_times(self, things: Sequence[Dims]) -> Tensor:
        """Return (O,) when each came first, as a share of the stream; 1 where it never did."""
        p = self.logits(things).sigmoid()
        never = torch.log1p(-p.clamp(max=1 - 1e-6)).sum(1).exp()
        return (1 - never) * (self.first(p) @ (self.times[:, 0] / self.now)) + never

    def room(self, attended: Tensor) -> Tensor:
        """Return (M,) how surely each token is of the room that is attended to, at about that time."""
        weight, index = attended.topk(min(_NEAR, len(attended)))
        start, end = self.times[index, 0][:, None], self.times[index, 1][:, None]
        gap = torch.maximum(self.times[:, 0] - end, start - self.times[:, 1]).clamp(min=0)
        short, long, share, power = self.head.near
        share = share.sigmoid()
        close = (1 - share) * torch.exp(-gap / short.exp()) + share * torch.exp(-gap / long.exp())
        alike = (self.walls[index] @ self.walls.T).clamp(min=1e-3) ** power.exp()
        return (weight / weight.sum().clamp(min=1e-6)) @ (close * alike)


def load_head(path: str | Path | None = None) -> HouseHead:
    """Return the head with the weights of a file, None for those of the package, ready to be used.

    Raises:
        UsageError: there is no such file.
    """
    from safetensors.torch import load_file

    file = Path(path) if path is not None else WEIGHTS
    if not file.is_file():
        raise UsageError(f"expected weights of the house head in {file}, found nothing there")
    head = HouseHead()
    head.load_state_dict(load_file(file))
    return head.eval()
