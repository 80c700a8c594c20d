"""The question head: an encoded question attends over memory tokens and their times and scores the options.

    kind      words and pairs of words, hashed, summed, two linear layers
    presence  p_i = sigmoid(MLP(a_i, s_i = -log(1 - a_i), a_i / max a, mean of 3 and of 9 neighbours, log duration,
              log M, s of the strongest other thing of that colour, s_i as a share of both, likewise of that thing in
              other colours, support of a^2 within a minute and within ten, of a^8 and of the other thing within a
              minute, the share of the first and the last of these, log of the time so far));
              a_i = amount of what is asked for in token i of M
    support   of x: sum over other tokens of exp(-|t_i - t_j| / tau) (walls_i . walls_j) x_j
    hazard    h_i = 1 - (1 - p_i)^(1 / n_i),  n_i = 1 + g support of p / p_i^2: errors about one room at about one time
              are not independent, so that such tokens count as one, and the surest of them most
    last      h_i prod over tokens that end later of (1 - h_j): the latest token that shows it; ``first`` likewise
    any       p_i^2 / sum p^2;   a kind attends with its own learned mixture of the three
    walls     amounts of the wall colours to a learned power, their sum 1
    room      tokens near an attended one in time and alike in walls: exp(-gap / tau) (walls . walls)^eta
    between   walls w: 1 - exp(-(sum_i g_iw^T)^(1/T)), g_iw = -log(1 - p_i walls_iw); from "any of them" at T = 1 to
              "the surest of them" as T grows

Where and last read the walls under the attention, when its times, what and colour the presence of the options in the
room, order the chance of every option to be the first, count the chance of so many of the eight "between", each on its
own, change the walls of first and last attention, never the strongest presence. A learned prior is added, that of count
follows the length of the stream; without tokens it is all there is. Histories of more than `LONG` frames are read as
stretches (`stretches`), or what is false in each frame would add up.

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
LONG = 256
"""Frames of a history that are read one by one; those of longer ones are joined."""
_NEAR = 16
_STRETCH = 48
_POWER = 3
_TAUS = (60.0, 600.0)
_BINS, _REACH = 3, 12
_FEW = 320
_FAR = 40.0
_MOST = 4
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
        first, last = nn.Linear(16, 24), nn.Linear(24, 1)
        nn.init.constant_(last.bias, -4.5)
        self.presence = nn.Sequential(first, nn.Tanh(), last)
        plain = [5.0, 2.0, 2.0, 2.0, 2.0, 1.0, -1.0, -1.0, 2.0, 1.0, 1.0, 1.0, 1.0, -1.0, 1.0, 0.0]
        self.plain = nn.Parameter(torch.tensor(plain))
        self.same = nn.Parameter(torch.full((kinds,), -1.0))
        self.sharp = nn.Parameter(torch.zeros(kinds))
        self.shift = nn.Parameter(torch.zeros(kinds))
        self.mix = nn.Parameter(torch.zeros(kinds, 3))
        self.scale = nn.Parameter(torch.zeros(kinds))
        self.bias = nn.Parameter(torch.zeros(kinds))
        self.prior = nn.Parameter(torch.zeros(kinds, 4))
        self.many = nn.Parameter(torch.zeros(4, 2))
        self.surest = nn.Parameter(torch.tensor(0.7))
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
        return self.both(question, tokens, times)[0]

    def both(self, question: Parsed, tokens: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (O,) of the options, and (R, M) that each token of `stretches` shows what is `sought`."""
        number = KINDS.index(question.kind)
        tokens, times = stretches(tokens, times)
        logits, found = torch.zeros(len(question.options)), torch.zeros(len(sought(question)), 0)
        if len(tokens):
            view = _View(self, number, tokens, times.float())
            found = view.sightings(sought(question))
            logits = logits + self.scale[number].exp() * self._scores(question, view, view.kindly(found))
        if question.kind in FIXED:
            slots = [self._slot(question.kind, option, k) for k, option in enumerate(question.options)]
            prior = self.many @ view.age if question.kind == "count" and len(tokens) else self.prior[number]
            taken = torch.tensor([-1 if slot is None else slot for slot in slots])
            logits = logits + torch.where(taken < 0, torch.zeros(()), prior[taken.clamp(min=0)])
        known = torch.tensor([option is not None for option in question.options])
        return logits.masked_fill(~known, -30.0), found

    def look(self, question: Parsed, tokens: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """Return how surely each token shows the subject, as logits (M,), and the attention (M,) of the kind.

        The tokens are those of `stretches`.
        """
        view = _View(self, KINDS.index(question.kind), tokens, times.float())
        logits = view.kindly(view.sightings([question.subject]))[0]
        return logits, view.attend(view.hazard(logits.sigmoid()))

    @staticmethod
    def _slot(kind: str, option: object, index: int) -> int | None:
        if kind == "when":
            return index if index < 4 else None
        value = int(option[0]) if isinstance(option, tuple) else -1
        value -= kind == "count"
        return value if 0 <= value < 4 else None

    def _scores(self, q: Parsed, view: _View, logits: Tensor) -> Tensor:
        """Return scores (O,) of the options, from logits (R, M) that each token shows what is `sought`."""
        number, shown = view.number, logits[0].sigmoid()
        if q.kind == "order":
            return torch.log(view.earliest(logits.sigmoid()) + 1e-2)
        if q.kind == "never":
            return self._yes_no(q, logits[0].max() + self.bias[number])
        if q.kind == "count":
            values = torch.tensor([int(option[0]) if isinstance(option, tuple) else -1 for option in q.options])
            chance = view.how_many(shown)
            inside = (values >= 0) & (values <= _MOST)
            return torch.log(torch.where(inside, chance[values.clamp(0, _MOST)], torch.zeros(())) + 1e-3)
        p = view.hazard(shown)
        if q.kind == "change":
            moved = 1 - (view.first(p) @ view.walls) @ (view.last(p) @ view.walls)
            return self._yes_no(q, 8 * (moved - self.bias[number].sigmoid()))
        attended = view.attend(p)
        if q.kind == "when":
            spans = torch.tensor([option if isinstance(option, tuple) else (-2.0, -1.0) for option in q.options])
            start, end = view.times[:, 0] - 0.5, view.times[:, 1] + 0.5
            shared = torch.minimum(end, spans[:, 1:] + 0.5) - torch.maximum(start, spans[:, :1] - 0.5)
            return torch.log((shared.clamp(min=0) / (end - start)) @ attended + 1e-2)
        if q.kind in ("where", "last"):
            walls = torch.tensor([option[0] - PAIRS if isinstance(option, list) else 0 for option in q.options])
            chance = (attended @ view.walls)[walls]
            return torch.log(chance / chance.sum().clamp(min=1e-6) + 1e-2)
        room = view.room(attended) if q.subject else torch.ones(len(view.tokens))
        return torch.log((room * logits[1:].sigmoid()).amax(1) + _TINY)

    @staticmethod
    def _yes_no(q: Parsed, yes: Tensor) -> Tensor:
        signs = [0.5 if isinstance(option, tuple) and option[0] == 0 else -0.5 for option in q.options]
        return yes * torch.tensor(signs)


def sought(q: Parsed) -> list[Dims]:
    """Return what the head looks for: the subject, or the options of ``order``; of ``what`` and ``colour`` both."""
    options = [option if isinstance(option, list) else [] for option in q.options]
    return options if q.kind == "order" else [q.subject, *(options if q.kind in ("what", "colour") else [])]


class _View:
    """Tokens and times as one kind of question sees them."""

    def __init__(self, head: HouseHead, number: int, tokens: Tensor, times: Tensor) -> None:
        self.head, self.number, self.tokens, self.times = head, number, tokens, times
        walls = tokens[:, PAIRS:].clamp(min=_TINY) ** head.keen.exp()
        self.walls = walls / walls.sum(1, keepdim=True)
        self.span = torch.log1p(times[:, 1] - times[:, 0]) / 8
        self.by_end, self.by_start = times[:, 1].argsort(stable=True), times[:, 0].argsort(stable=True)
        self.past = math.log1p(float(times[:, 1].max().clamp(min=1.0)))
        self.age = torch.tensor([1.0, self.past / 2 - 3.5])
        """(2,) 1, and the length of the stream: -1 for some minutes, 1.7 for 10 hours."""
        self._grids: dict[float, tuple[Tensor, int]] = {}
        self._near: dict[float, Tensor] = {}

    def kindly(self, sightings: Tensor) -> Tensor:
        """Return `sightings` with the sharpness and the threshold of the kind."""
        return sightings * self.head.sharp[self.number].exp() + self.head.shift[self.number]

    def sightings(self, things: Sequence[Dims]) -> Tensor:
        """Return (O, M) how surely each token shows one of the concepts of each thing; nothing is shown of none."""
        a, other, tint = self._shown(things)
        in_time = a[:, None, self.by_start]
        around = [F.avg_pool1d(F.pad(in_time, (k, k), "replicate"), 2 * k + 1, 1)[:, 0] for k in (1, 4)]
        near, wide = (torch.empty_like(a).index_copy(1, self.by_start, mean) for mean in around)
        share = a / a.amax(1, keepdim=True).clamp(min=0.1)
        many = torch.full_like(a, math.log1p(len(self.tokens)) / 8)
        past = torch.full_like(a, self.past / 10)
        sure, rival, colour = -torch.log1p(-torch.stack([a, other, tint]).clamp(0, _SUREST)) / 5
        ahead, plainly = sure / (sure + rival + 0.02), sure / (sure + colour + 0.02)
        square = a**2
        minute = self.support(torch.cat([square, square**4, other**2]), _TAUS[0]).unflatten(0, (3, -1))
        over = minute[0] / (minute[0] + minute[2] + 0.1)
        own, clear, others = torch.log1p(minute) / 2
        long = torch.log1p(self.support(square, _TAUS[1])) / 2
        parts = [a, sure, share, near, wide, self.span.expand_as(a), many, rival, ahead, plainly]
        inputs = torch.stack([*parts, own, long, clear, others, over, past], -1)
        return self.head.presence(inputs)[..., 0] + inputs @ self.head.plain

    def _shown(self, things: Sequence[Dims]) -> tuple[Tensor, Tensor, Tensor]:
        """Return (O, M) amounts: of each thing, of other things of that colour, of that thing in other colours."""
        kinds = torch.tensor([dims[0] // len(COLOURS) if dims else 0 for dims in things])
        asked = torch.zeros(len(things), len(COLOURS))
        for row, dims in enumerate(things):
            asked[row, [d % len(COLOURS) for d in dims]] = 1.0
        rows = self.tokens[:, :PAIRS].unflatten(1, (len(THINGS), len(COLOURS)))
        own = rows[:, kinds]
        a, which = (own * asked).max(2)
        tints = (own * (1 - asked)).amax(2)
        alike = rows.gather(2, which[:, None].expand(-1, len(THINGS), -1))
        rivals = alike.scatter(1, kinds.expand(len(rows), 1, -1), 0.0).amax(1)
        return a.T, rivals.T, tints.T

    def support(self, values: Tensor, tau: float) -> Tensor:
        """Return (R, M) the sum of the values (R, M) of other tokens at about that time, between such walls.

        Exponential in time with scale ``tau``; of more than a few tokens on a grid of a third of it.
        """
        if len(self.tokens) <= _FEW:
            if not self._near:
                # in place where it can be: tables of this size are given back to the system and fetched again;
                # not below exp(-_FAR): arithmetic on numbers near the smallest there are takes ten times as long
                middle, alike = self.times.mean(1), (self.walls @ self.walls.T).fill_diagonal_(0.0)
                gaps = (middle[:, None] - middle).abs_()
                self._near = {tau: torch.mul(gaps, -1 / tau).clamp_(min=-_FAR).exp_().mul_(alike) for tau in _TAUS}
            return values @ self._near[tau]
        if tau not in self._grids:
            middle = self.times.mean(1) / (tau / _BINS)
            cells = (middle - middle.min()).round().long()
            self._grids[tau] = cells, int(cells.max()) + 1
        cells, count = self._grids[tau]
        spread = (values[:, None] * self.walls.T).flatten(0, 1)
        grid = torch.zeros(len(spread), count).index_add(1, cells, spread)
        kernel = torch.exp(-(torch.arange(-_REACH, _REACH + 1).abs() / _BINS))[None, None]
        around = F.conv1d(grid[:, None], kernel, padding=_REACH)[:, 0][:, cells]
        around = around.unflatten(0, (len(values), -1))
        return ((around - values[:, None] * self.walls.T) * self.walls.T).sum(1).clamp(min=0)

    def how_many(self, p: Tensor) -> Tensor:
        """Return (5,) the chance that it was shown between 0 to 4 wall colours, presences p (M,); see the module."""
        power = 1 + self.head.surest.exp()
        each = -torch.log1p(-(p[:, None] * self.walls).clamp(1e-6, 0.999))
        between = -torch.expm1(-torch.exp(torch.logsumexp(power * each.log(), 0) / power))
        chance = F.one_hot(torch.tensor(0), _MOST + 1).float()
        for one in between:
            chance = chance + one * (F.pad(chance[:-1], (1, 0)) - chance)
        return chance

    def hazard(self, p: Tensor) -> Tensor:
        """Return h (..., M) of presences p (..., M); see the module."""
        p = p.clamp(1e-6, 1 - 1e-6)
        rows = p.reshape(-1, p.shape[-1])
        alike = self.support(rows**2, _TAUS[1]) / (rows**2 + 1e-4)
        share = 1 + self.head.same[self.number].exp() * alike
        return -torch.expm1(torch.log1p(-rows) / share).reshape(p.shape)

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

    def earliest(self, p: Tensor) -> Tensor:
        """Return (O,) how likely each thing is the first of them to be shown, presences p (O, M)."""
        hazards = self.hazard(p)[:, self.by_start].clamp(1e-6, 1 - 1e-6)
        left = torch.log1p(-hazards)
        before = F.pad(left.cumsum(1)[:, :-1], (1, 0))
        # within a token nobody is first: half of the hazard of the others counts
        others = (before + left / 2).sum(0) - left / 2
        return (hazards * others.exp()).sum(1)

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


def stretches(tokens: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """Return tokens (S, 128) and times (S, 2) of stretches of frames, or what is given where it is no long history.

    More than `LONG` tokens of one moment each are joined where they follow each other within 2 s between the same
    walls, 48 at most, by the cubic mean.

    Args:
        tokens: (M, 128) float32.
        times: (M, 2) seconds.
    """
    if len(tokens) <= LONG or bool((times[:, 0] != times[:, 1]).any()):
        return tokens, times
    order = times[:, 0].argsort(stable=True)
    tokens, times = tokens[order], times[order]
    around = F.avg_pool1d(F.pad(tokens[:, PAIRS:].T[None], (2, 2), "replicate"), 5, 1)[0]
    walls, starts = around.argmax(0), times[:, 0]
    opens = F.pad((walls[1:] != walls[:-1]) | (starts[1:] - starts[:-1] > 2), (1, 0), value=True)
    index = torch.arange(len(tokens))
    since = index - torch.where(opens, index, 0).cummax(0).values
    number = (opens | (since % _STRETCH == 0)).long().cumsum(0) - 1
    counts = number.bincount()
    total = torch.zeros(len(counts), tokens.shape[1]).index_add(0, number, tokens**_POWER)
    ends = counts.cumsum(0) - 1
    return (total / counts[:, None]) ** (1 / _POWER), torch.stack([starts[ends - counts + 1], times[ends, 1]], 1)


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
