"""Who says whether an open answer is right: words and characters by rule, or a language model.

The rules are the default, since they give the same score for ever. A model judge is any registered answerer; its name
and config go into the result. A verdict of a model that cannot be read counts as wrong and is counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from embodied_mem.errors import UsageError, nearest
from embodied_mem.stream.answerers.base import Answerer, Request, make_answerer
from embodied_mem.stream.qa.texts import anls, normalised, token_f1, yes_or_no

_SYSTEM = "You compare an answer about a video with the right one. Judge meaning, not wording."


@dataclass(frozen=True)
class Verdict:
    """What a judge says."""

    score: float
    """0..1."""
    correct: bool
    """Whether it counts as right."""
    grade: float | None = None
    """Grade on the judge's own scale."""
    readable: bool = True
    """False where a model's verdict could not be read."""


class Judge(Protocol):
    """Compares a reply with the right answers."""

    name: str

    def __call__(self, question: str, right: Sequence[str], said: str) -> Verdict:
        """Return the verdict on one reply."""
        ...

    def grade(self, question: str, right: Sequence[str], said: str, dimension: str) -> float:
        """Return a grade of 1 to 5 in one dimension."""
        ...


class RuleJudge:
    """The best similarity with any right answer; right from one half on."""

    def __init__(self, name: str, similarity: Callable[[str, str], float]) -> None:
        self.name, self._similarity = name, similarity

    def __call__(self, question: str, right: Sequence[str], said: str) -> Verdict:
        """Return the verdict on one reply."""
        score = max(self._similarity(said, text) for text in right)
        return Verdict(score, score >= 0.5)

    def grade(self, question: str, right: Sequence[str], said: str, dimension: str) -> float:
        """Return 1 + 4 * similarity, whatever the dimension: a rule knows one similarity only."""
        return 1 + 4 * self(question, right, said).score


class ModelJudge:
    """A language model: yes or no with a score of 0 to 5, or a grade of 1 to 5."""

    def __init__(self, answerer: Answerer, name: str) -> None:
        self.answerer, self.name = answerer, name

    def __call__(self, question: str, right: Sequence[str], said: str) -> Verdict:
        """Return the verdict on one reply: right where the model says yes."""
        asked = (
            f"{_case(question, right, said)}\nDo they mean the same? Reply with yes or no, then a score of 0 (nothing "
            "fits) to 5 (the same), for example: yes 4"
        )
        text = self._ask(asked)
        word, number = yes_or_no(text), re.search(r"[0-5](?:\.\d+)?", text)
        if word is None or number is None:
            return Verdict(0.0, False, None, readable=False)
        grade = float(number[0])
        return Verdict(min(grade, 5.0) / 5, word == "yes", grade)

    def grade(self, question: str, right: Sequence[str], said: str, dimension: str) -> float:
        """Return the model's grade, 1 where it gives none."""
        asked = (
            f"{_case(question, right, said)}\nGrade the {dimension} of the answer from 1 (worst) to 5 (best). "
            "Reply with the number alone."
        )
        number = re.search(r"\d+(?:\.\d+)?", self._ask(asked))
        return min(max(float(number[0]), 1.0), 5.0) if number else 1.0

    def _ask(self, asked: str) -> str:
        return self.answerer.answer(Request(asked, system=_SYSTEM, max_tokens=32)).text


RULES: Mapping[str, Callable[[str, str], float]] = {
    "exact": lambda said, right: float(normalised(said) == normalised(right)),
    "f1": token_f1,
    "anls": anls,
}


def make_judge(name: str = "f1", config: Mapping[str, Any] | None = None) -> Judge:
    """Return the judge ``exact``, ``f1``, ``anls``, or ``model:ANSWERER`` with the answerer's config.

    Raises:
        UsageError: there is no such judge, or the config is wrong.
    """
    if name.startswith("model:"):
        return ModelJudge(make_answerer(name.removeprefix("model:"), **(config or {})), name)
    if name not in RULES:
        raise UsageError(f"unknown judge {name!r}{nearest(name, RULES)}; judges: {', '.join(RULES)}, model:ANSWERER")
    if config:
        raise UsageError(f"expected no options for the judge {name!r}, got {', '.join(config)}")
    return RuleJudge(name, RULES[name])


def _case(question: str, right: Sequence[str], said: str) -> str:
    listed = " / ".join(right)
    return f"Question: {question}\nRight answer: {listed}\nAnswer given: {said or '(none)'}"
