"""Deterministic comparison of texts and numbers: normalised words, token F1, ANLS, and mean relative accuracy.

F1     2 P R / (P + R) over the bags of words
ANLS   1 - lev(a, b) / max(|a|, |b|), 0 below 0.5; the best over all right answers (Biten et al. 2019)
MRA    share of the thresholds 0.50, 0.55 ... 0.95 with |p - y| / |y| <= 1 - threshold (VSI-Bench)
"""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction

_ARTICLES = frozenset({"a", "an", "the"})
_SMALL = {
    word: number
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty".split()
    )
}


def normalised(text: str) -> list[str]:
    """Return the words in small letters, without punctuation and articles.

    >>> normalised("The red Cup!")
    ['red', 'cup']
    """
    return [word for word in re.findall(r"\w+", text.lower()) if word not in _ARTICLES]


def token_f1(said: str, right: str) -> float:
    """Return the F1 of the words, 1 where both have none.

    >>> token_f1("the red cup", "a cup")
    0.6666666666666666
    """
    a, b = Counter(normalised(said)), Counter(normalised(right))
    if not a or not b:
        return float(a == b)
    shared = sum((a & b).values())
    return 2 * shared / (a.total() + b.total())


def anls(said: str, right: str) -> float:
    """Return the normalised similarity of the characters, 0 where it is below one half."""
    a, b = " ".join(said.lower().split()), " ".join(right.lower().split())
    if not a and not b:
        return 1.0
    near = 1 - edits(a, b) / max(len(a), len(b))
    return near if near >= 0.5 else 0.0


def edits(a: str, b: str) -> int:
    """Return the Levenshtein distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def mean_relative_accuracy(said: float, right: float) -> float:
    """Return the MRA of a number; thresholds are hundredths of whole numbers, so that no step is lost to rounding.

    >>> mean_relative_accuracy(1.3, 1.0), mean_relative_accuracy(4, 4)
    (0.5, 1.0)
    """
    truth, guess = Fraction(str(right)), Fraction(str(said))
    if truth == 0:
        return float(guess == 0)
    error = abs(guess - truth) / abs(truth)
    return sum(error <= 1 - Fraction(hundredths, 100) for hundredths in range(50, 100, 5)) / 10


def one_number(text: str) -> float | None:
    """Return the number of a reply; None where it holds none or several different ones.

    >>> one_number("about 2.5 metres"), one_number("2 of 3"), one_number("three times")
    (2.5, None, 3.0)
    """
    found = {float(item.replace(",", "")) for item in re.findall(r"-?\d+(?:,\d{3})*(?:\.\d+)?", text)}
    if not found:
        found = {float(_SMALL[word]) for word in re.findall(r"[a-z]+", text.lower()) if word in _SMALL}
    return found.pop() if len(found) == 1 else None


def yes_or_no(text: str) -> str | None:
    """Return "yes" or "no" where a reply begins with it or holds exactly one of them.

    >>> yes_or_no("No, not yet."), yes_or_no("Yes or no?"), yes_or_no("nothing")
    ('no', 'yes', None)
    """
    words = re.findall(r"[a-z]+", text.lower())
    if words and words[0] in ("yes", "no"):
        return words[0]
    found = {word for word in words if word in ("yes", "no")}
    return found.pop() if len(found) == 1 else None
