"""Questions about a tour, asked online, with the answer from the log: nine kinds, all with options.

| kind | asks for | options | chance |
|---|---|---|---|
| ``where`` | walls of the room of a pair that was seen in rooms of one wall colour only | 4 | 1/4 |
| ``last`` | walls where a pair was last seen that was seen between several | 4 | 1/4 |
| ``what`` | which pair was seen in the same room as another, when that was last seen | 4 | 1/4 |
| ``colour`` | of a thing seen in the same room as a pair, when that was last seen | 4 | 1/4 |
| ``when`` | in which quarter of the stream so far a pair was last seen | 4 | 1/4 |
| ``order`` | which of four pairs was seen first | 4 | 1/4 |
| ``count`` | between how many wall colours a pair was seen | 4 | 1/4 |
| ``change`` | whether a pair is between other walls than at first | 2 | 1/2 |
| ``never`` | whether a pair was seen at all; half of the answers are "no" | 2 | 1/2 |

A pair is a thing in a colour ("red bed"). The time of a question is uniform over the stream after its first tenth. The
age of the evidence is drawn uniformly over the stream so far, and of the questions that the log allows the one nearest
to that age is asked. Paints are drawn by seed, so the words of a question tell nothing about its answer; where counts
and yes or no can be guessed they are balanced as far as the log allows, and the blind control measures the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from embodied_mem.perception.house_words import COLOUR_WORDS, COLOURS, PAIRS, THINGS, WALL_WORDS, pair, pair_name
from embodied_mem.stream.house_tour.tours import TourLog

KINDS = ("where", "last", "what", "colour", "when", "order", "count", "change", "never")
CHANCE = {kind: 0.5 if kind in ("change", "never") else 0.25 for kind in KINDS}
TEMPLATES: dict[str, tuple[str, ...]] = {
    "where": (
        "Between walls of which colour was the {x} seen?",
        "Where was the {x}, in a room with walls of which colour?",
        "Which colour did the walls around the {x} have?",
    ),
    "last": (
        "Between walls of which colour was the {x} last seen?",
        "Where was the {x} last seen, in a room with walls of which colour?",
        "Which colour did the walls around the {x} have the last time it was seen?",
    ),
    "what": (
        "What was seen in the same room as the {x}?",
        "Which of these stood in one room with the {x}?",
        "What else was in the room of the {x}?",
    ),
    "colour": (
        "Which colour did the {y} have in the same room as the {x}?",
        "What was the colour of the {y} that stood in one room with the {x}?",
        "Which colour was the {y} in the room of the {x}?",
    ),
    "when": (
        "When was the {x} last seen?",
        "At what time was the {x} seen most recently?",
        "When did the {x} last come into view?",
    ),
    "order": (
        "Which of these was seen first?",
        "What came into view before all others?",
        "Which of these was the earliest to be seen?",
    ),
    "count": (
        "Between walls of how many colours was the {x} seen?",
        "In rooms of how many wall colours was the {x}?",
        "How many colours of walls was the {x} seen between?",
    ),
    "change": (
        "Did the {x} change its room between the first and the last time it was seen?",
        "Was the {x} moved to a room with other walls?",
        "Has the {x} changed place since it was first seen?",
    ),
    "never": (
        "Was a {x} seen at all?",
        "Was there a {x} anywhere?",
        "Did a {x} ever come into view?",
    ),
}
STATED: dict[str, tuple[str, ...]] = {
    "never": (
        "a {x} is seen",
        "you see a {x}",
        "a {x} comes into view",
        "there is a {x}",
        "a {x} appears",
        "the {x} is in view",
        "Is there a {x}?",
        "Is a {x} in view?",
    ),
}
"""Other words for a kind, those of "tell me when ..." among them; nothing is asked in them."""
YES_NO = ("yes", "no")
_LATER_GLIMPSE_S = 45
_TRIES = 40


@dataclass(frozen=True)
class Question:
    """One question with its answer."""

    kind: str
    """One of `KINDS`."""
    text: str
    """What is asked."""
    options: tuple[str, ...]
    """Answers to choose from."""
    answer: int
    """Index of the right option."""
    ask_s: float
    """Seconds into the stream at which it is asked; frames up to then are known."""
    evidence: tuple[float, float]
    """Seconds, first and last frame that it is about."""
    age: float | None
    """Age of the evidence as a share of the stream so far, 0..1; None where nothing was to be seen."""
    subjects: tuple[int, ...] = ()
    """Pairs that are named."""


def ask(log: TourLog, each: int, seed: int, kinds: Sequence[str] = KINDS) -> list[Question]:
    """Return up to ``each`` questions of every kind in the order of their times.

    A kind that the log does not allow (nothing moved in two minutes, say) gives fewer.

    Args:
        log: of the whole stream.
        each: questions per kind.
        seed: of times, ages, words and options.
        kinds: some of `KINDS`.
    """
    asker = _Asker(log)
    found = []
    for kind in kinds:
        draw = np.random.default_rng([seed, KINDS.index(kind)])
        for _ in range(each):
            for _ in range(_TRIES):
                now = int(draw.integers(max(20, len(log) // 10), len(log)))
                question = asker.question(kind, now, draw)
                if question is not None:
                    found.append(question)
                    break
    return sorted(found, key=lambda q: (q.ask_s, q.kind))


class _Asker:
    """Tables over a log, and one method per kind."""

    def __init__(self, log: TourLog) -> None:
        frames = np.arange(len(log), dtype=np.int32)[:, None]
        self.log = log
        self.last = np.maximum.accumulate(np.where(log.seen, frames, -1))
        self.glimpse = np.maximum.accumulate(np.where(log.glimpsed, frames, -1))
        never = len(log)
        self.first = np.where(log.seen.any(0), log.seen.argmax(0), never)
        self.first_between = np.full((PAIRS, len(WALL_WORDS)), never)
        for wall in np.unique(log.walls):
            part = log.seen & (log.walls == wall)[:, None]
            self.first_between[:, wall] = np.where(part.any(0), part.argmax(0), never)
        places = np.unique(log.place)
        self.first_glimpse = {}
        for place in places.tolist():
            part = log.glimpsed & (log.place == place)[:, None]
            self.first_glimpse[place] = np.where(part.any(0), part.argmax(0), never)
        turns = np.flatnonzero(np.diff(log.place, prepend=-1))
        run = np.searchsorted(turns, np.arange(len(log)), side="right") - 1
        self.stay_start = turns[run]
        self.stay_end = np.append(turns[1:], len(log))[run] - 1

    def question(self, kind: str, now: int, draw: np.random.Generator) -> Question | None:
        """Return a question of a kind asked at frame ``now``, or None where there is none."""
        method: Callable[[int, np.random.Generator], Question | None] = getattr(self, f"_{kind}")
        return method(now, draw)

    # Choosing

    def _clear(self, now: int) -> np.ndarray:
        """Return (120,) bool: pairs seen by now, and not merely glimpsed long after."""
        last = self.last[now]
        return (last >= 0) & (self.glimpse[now] - last <= _LATER_GLIMPSE_S)

    def _pick(self, good: np.ndarray, when: np.ndarray, now: int, draw: np.random.Generator) -> int | None:
        """Return one of the pairs ``good`` (120,) whose frame ``when`` (120,) is nearest to a uniform one."""
        some = np.flatnonzero(good)
        if len(some) == 0:
            return None
        far = np.abs(when[some] - draw.uniform(0, now))
        return int(some[np.argsort(far + draw.random(len(some)))[0]])

    def _between(self, now: int) -> np.ndarray:
        """Return (120, 8) bool: between which walls each pair was seen by now."""
        return self.first_between <= now

    def _made(
        self, kind: str, now: int, draw: np.random.Generator, right: str, wrong: Sequence[str], span: tuple[int, int],
        subjects: tuple[int, ...], fixed: Sequence[str] | None = None, thing: str = "", age: bool = True,
    ) -> Question:  # fmt: skip
        options = list(fixed) if fixed is not None else [right, *wrong]
        if fixed is None:
            options = [options[k] for k in draw.permutation(len(options))]
        text = TEMPLATES[kind][int(draw.integers(len(TEMPLATES[kind])))]
        words = text.format(x=pair_name(subjects[0]) if subjects else "", y=thing)
        share = (now - span[1]) / max(now, 1) if age else None
        where = (float(span[0]), float(span[1]))
        return Question(kind, words, tuple(options), options.index(right), float(now), where, share, subjects)

    # Kinds

    def _walls_question(self, kind: str, now: int, draw: np.random.Generator, several: bool) -> Question | None:
        between = self._between(now)
        many = between.sum(1)
        p = self._pick(self._clear(now) & ((many >= 2) if several else (many == 1)), self.last[now], now, draw)
        if p is None:
            return None
        t = int(self.last[now, p])
        right = int(self.log.walls[t])
        known = np.unique(self.log.walls[: now + 1])
        order = [m for m in np.flatnonzero(between[p]) if m != right]
        for group in (known, np.arange(len(WALL_WORDS))):
            order += [m for m in draw.permutation(group) if m != right and m not in order]
        wrong = [WALL_WORDS[int(m)] for m in order[:3]]
        span = (int(self.stay_start[t]), t)
        return self._made(kind, now, draw, WALL_WORDS[right], wrong, span, (p,))

    def _where(self, now: int, draw: np.random.Generator) -> Question | None:
        return self._walls_question("where", now, draw, False)

    def _last(self, now: int, draw: np.random.Generator) -> Question | None:
        return self._walls_question("last", now, draw, True)

    def _stay(self, p: int, now: int) -> tuple[int, int, np.ndarray, np.ndarray]:
        """Return first and last frame of the stay that last showed ``p``, and what was seen and ever glimpsed there."""
        t = int(self.last[now, p])
        start, end = int(self.stay_start[t]), min(int(self.stay_end[t]), now)
        seen = np.asarray(self.log.seen[start : end + 1].any(0))
        return start, end, seen, self.first_glimpse[int(self.log.place[t])] <= now

    def _what(self, now: int, draw: np.random.Generator) -> Question | None:
        p = self._pick(self._clear(now), self.last[now], now, draw)
        if p is None:
            return None
        start, end, seen, ever = self._stay(p, now)
        seen[p] = False
        others = np.flatnonzero(seen)
        away = np.flatnonzero(self._clear(now) & ~ever)
        if len(others) == 0 or len(away) < 3:
            return None
        right = pair_name(int(draw.choice(others)))
        wrong = [pair_name(int(k)) for k in draw.permutation(away)[:3]]
        return self._made("what", now, draw, right, wrong, (start, end), (p,))

    def _colour(self, now: int, draw: np.random.Generator) -> Question | None:
        p = self._pick(self._clear(now), self.last[now], now, draw)
        if p is None:
            return None
        start, end, seen, ever = self._stay(p, now)
        table = seen.reshape(len(THINGS), len(COLOURS))
        good = (table.sum(1) == 1) & (ever.reshape(table.shape).sum(1) == 1)
        good[p // len(COLOURS)] = False
        if not good.any():
            return None
        thing = int(draw.choice(np.flatnonzero(good)))
        right = int(table[thing].argmax())
        elsewhere = [k for k in range(len(COLOURS)) if self.last[now, pair(thing, k)] >= 0 and k != right]
        rest = [k for k in draw.permutation(len(COLOURS)).tolist() if k != right and k not in elsewhere]
        wrong = [COLOUR_WORDS[k] for k in [*draw.permutation(elsewhere).astype(int).tolist(), *rest][:3]]
        words = THINGS[thing]
        return self._made("colour", now, draw, COLOUR_WORDS[right], wrong, (start, end), (p,), thing=words)

    def _when(self, now: int, draw: np.random.Generator) -> Question | None:
        p = self._pick(self._clear(now), self.last[now], now, draw)
        if p is None:
            return None
        t = int(self.last[now, p])
        edges = np.linspace(0, now + 1, 5).round().astype(int)
        spans = [f"{a} s to {b - 1} s" for a, b in zip(edges[:-1], edges[1:])]
        right = spans[int(np.searchsorted(edges, t, side="right")) - 1]
        return self._made("when", now, draw, right, (), (int(self.stay_start[t]), t), (p,), fixed=spans)

    def _order(self, now: int, draw: np.random.Generator) -> Question | None:
        p = self._pick(self.first <= now, self.first, now, draw)
        if p is None:
            return None
        start = int(self.first[p])
        # what was glimpsed long before it was seen would be unfair
        later = np.flatnonzero((self.first <= now) & (self.first >= start + 20))
        later = later[[not self.log.glimpsed[: start + 5, k].any() for k in later]] if len(later) else later
        if len(later) < 3:
            return None
        wrong = [pair_name(int(k)) for k in draw.permutation(later)[:3]]
        end = min(int(self.stay_end[start]), now)
        return self._made("order", now, draw, pair_name(p), wrong, (start, end), ())

    def _count(self, now: int, draw: np.random.Generator) -> Question | None:
        many = self._between(now).sum(1)
        clear = self._clear(now)
        known = [k for k in range(1, 5) if (clear & (many == k)).any()]
        if not known:
            return None
        right = int(draw.choice(known))
        p = self._pick(clear & (many == right), self.last[now], now, draw)
        assert p is not None
        span = (int(self.first[p]), int(self.last[now, p]))
        return self._made("count", now, draw, str(right), (), span, (p,), fixed=("1", "2", "3", "4"))

    def _change(self, now: int, draw: np.random.Generator) -> Question | None:
        clear = self._clear(now) & (self.last[now] - np.minimum(self.first, now) >= 30)
        first = self.log.walls[np.minimum(self.first, now)]
        moved = first != self.log.walls[np.maximum(self.last[now], 0)]
        both = (clear & moved).any() and (clear & ~moved).any()
        if not both:
            return None
        yes = bool(draw.random() < 0.5)
        p = self._pick(clear & (moved == yes), self.last[now], now, draw)
        assert p is not None
        span = (int(self.first[p]), int(self.last[now, p]))
        return self._made("change", now, draw, YES_NO[1 - yes], (), span, (p,), fixed=YES_NO)

    def _never(self, now: int, draw: np.random.Generator) -> Question | None:
        if draw.random() < 0.5:
            p = self._pick(self._clear(now), self.last[now], now, draw)
            if p is None:
                return None
            t = int(self.last[now, p])
            return self._made("never", now, draw, "yes", (), (int(self.stay_start[t]), t), (p,), fixed=YES_NO)
        absent = np.flatnonzero(self.glimpse[now] < 0)
        if len(absent) == 0:
            return None
        p = int(draw.choice(absent))
        return self._made("never", now, draw, "no", (), (0, now), (p,), fixed=YES_NO, age=False)
