"""An instruction as clauses, one per turn that it names and a last one that tells where to stop.

The regular expressions of the agent ``rules`` (`policies.scripted.street_rules`) read the numbers, wider ones find the
turns; a clause keeps its words too (`perception.street_words`), so that what the expressions miss can be learnt. The
text of a clause begins after the turn before it and ends with the sentence of its own turn.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from embodied_mem.policies.navigation.lessons import read_texts
from embodied_mem.policies.scripted import street_rules as rules

CLAUSES, WORDS = 10, 40
"""K and W: clauses of a text and tokens of a clause; the rest of a longer one is not read."""
SIDE, NUMBER, PASSED, STEPS, NUMBERS = range(5)
"""Columns of `Clauses.numbers`, and their count."""
LARGEST = 6
"""Junctions and steps told apart; more count as so many."""
STREET_END = LARGEST + 1
"""`NUMBER` of a turn where the street ends."""
_SOFT = (
    r"(?:a |an |the |your |this |that |another |yet another |one |very |sharp |hard |slight |slightly |small |soft |"
    r"quick |immediate |immediately |first |second |third |fourth |1st |2nd |3rd |next |last |final |"
    r"possible |available |direct |full |to the )"
)
_TURN = re.compile(
    # After 'once you turn left' the turn was told before.
    r"(?<!after )(?<!once )(?<!after you )(?<!once you )(?<!when you )(?<!as you )(?<!if you )"
    rf"\b(?:turn(?:ing)?|mak(?:e|ing)|tak(?:e|ing)|hang(?:ing)?|bear(?:ing)?|veer(?:ing)?|hook|swing) {_SOFT}{{0,4}}"
    r"(?P<side>left|right)\b(?! (?:hand )?(?:side|corner)|-hand side)"
    rf"|\b(?:go(?:ing)?|then|and|,) {_SOFT}{{0,3}}(?P<weak>left|right)\b"
    r"(?! (?:hand |-hand )?(?:side|of|past|by|before|next to|in front|behind|where|there|corner|down|through|after|to|"
    r"into|across|is|as|until|you|ahead))"
    r"|(?<!past the )(?<!pass the )(?<!past a )(?<!pass a )(?<!next )(?<!through the )(?<!after the )"
    r"\b(?P<other>left|right)(?:[- ]hand)? turn\b|(?:^|[.;!] ?)(?P<bare>left|right) (?:at|on|onto|turn)\b"
)
_ORIENTS = re.compile(r" ?,? ?(?:so|until|till|to face|and face|to align|facing)\b")
_OPENING = 120


class Clauses(NamedTuple):
    """The clauses of N texts."""

    tokens: np.ndarray
    """(N, K, W) uint8 concepts, zero-padded."""
    numbers: np.ndarray
    """(N, K, `NUMBERS`) int8: side (-1 left, 1 right, 0 for the last clause); junction since the turn before at which
    to turn or stop (0 unknown, `STREET_END`); junctions to pass before that; steps to the stop after them (0 unknown).
    """
    total: np.ndarray
    """(N,) int64 clauses, from 1 to K."""


def read_clauses(texts: Sequence[str]) -> Clauses:
    """Return the clauses of some texts.

    >>> found = read_clauses(["Go through one light. At the next light turn left. Stop at the second corner."])
    >>> found.total.tolist(), found.numbers[0, :2, :3].tolist()
    ([2], [[-1, 2, 1], [0, 1, 0]])
    """
    numbers = np.zeros((len(texts), CLAUSES, NUMBERS), np.int8)
    count = np.zeros(len(texts), np.int64)
    parts: list[str] = []
    places: list[tuple[int, int]] = []
    for row, text in enumerate(texts):
        found = _split(rules.plain(text))
        count[row] = len(found)
        for number, (part, values) in enumerate(found):
            parts.append(part)
            places.append((row, number))
            numbers[row, number] = values
    tokens = np.zeros((len(texts), CLAUSES, WORDS), np.uint8)
    rows, columns = np.array(places).T
    tokens[rows, columns] = read_texts(parts, WORDS).numpy()
    return Clauses(tokens, numbers, count)


def _split(text: str) -> list[tuple[str, tuple[int, int, int, int]]]:
    """Return text and numbers of every clause of a plain text."""
    found: list[tuple[str, tuple[int, int, int, int]]] = []
    since = 0
    for item in rules.find_turns(text, _TURN):
        if not found and item.start < _OPENING and _ORIENTS.match(text, item.stop):
            continue
        if len(found) == CLAUSES - 1:
            break
        number = STREET_END if item.junction == rules.END else min(item.junction, LARGEST)
        found.append((text[since : item.end], (item.side, number, min(item.passed, LARGEST), 0)))
        since = item.stop
    plan = rules.read_ending(text[since:])
    values = (min(number or 0, LARGEST) for number in (plan.junctions, plan.passed, plan.steps))
    found.append((text[since:], (0, *values)))  # type: ignore[arg-type]
    return found
