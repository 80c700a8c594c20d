"""What a benchmark is: a loader of its file format, its prompt, its scores, and how they are averaged.

    @register("benchmark", "mvbench", about=..., data=...)
    class MVBench(Benchmark): ...

A reply that cannot be read is wrong and counted (``unparsed``), never left out. With ``official=True`` a benchmark
scores as its published scorer does, quirks included (`Benchmark.official`); a benchmark whose publication has no rule
for reading replies refuses that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from embodied_mem import registry
from embodied_mem.errors import UsageError
from embodied_mem.stream.answerers.base import Answer
from embodied_mem.stream.answerers.choices import LETTERS
from embodied_mem.stream.qa.judges import Judge
from embodied_mem.stream.qa.sample import Sample
from embodied_mem.stream.qa.texts import mean_relative_accuracy, one_number, yes_or_no

INDEX_RULE = "submissions hold the index of an option from 0: the reply is that number itself, and nothing else"
Headline = Literal["samples", "tasks", "groups"]
_SUFFIX = {
    "count": "Answer with one whole number.",
    "number": "Answer with one number.",
    "yes_no": "Answer yes or no.",
    "open": "Answer in a few words.",
    "choice": "",
    "proactive": "",
}


@dataclass(frozen=True)
class Mark:
    """The score of one reply."""

    score: float | None
    """0..1; None where the published scorer leaves the question out."""
    pred: str
    """What was read."""
    parsed_by: str = ""
    """How it was read; empty where it was not."""


class Benchmark(ABC):
    """Base of every benchmark."""

    headline: ClassVar[Headline] = "samples"
    """Mean over samples, over task means, or over group means of task means."""
    apart: ClassVar[frozenset[str]] = frozenset()
    """Tasks that are no part of the headline."""
    official_rule: ClassVar[str | None] = None
    """One line on how the published scorer reads replies; None where none is published."""
    judged: ClassVar[bool] = False
    """Whether some replies go to a judge."""

    @abstractmethod
    def load(self, path: Path) -> list[Sample]:
        """Return the samples of the user's annotation file or folder.

        Raises:
            UsageError: it is not there or of another format.
        """

    def group(self, task: str) -> str | None:
        """Return the group of a task, None where there are no groups."""
        return None

    def prompt(self, sample: Sample) -> str:
        """Return the question as it is asked."""
        suffix = _SUFFIX[sample.kind]
        return f"{sample.question}\n{suffix}" if suffix else sample.question

    def poll_prompt(self, sample: Sample, official: bool) -> str:
        """Return what is asked every second about a proactive question; the published poll tells the output."""
        told = f' The output would be "{sample.answer}".' if official else ""
        return f"{sample.question}\nIs it time for this output now?{told} Answer yes or no."

    def final_prompt(self, sample: Sample) -> str:
        """Return what is asked once the reply to a poll was yes."""
        return f"{sample.question}\nIt is time now. Reply with the output alone."

    def mark(self, sample: Sample, answer: Answer, judge: Judge) -> Mark:
        """Return the strict score of a reply."""
        if sample.kind == "choice":
            if answer.choice is None:
                return Mark(0.0, "")
            return Mark(float(answer.choice == sample.answer), LETTERS[answer.choice], answer.parsed_by)
        if sample.kind == "yes_no":
            said = yes_or_no(answer.text)
            return Mark(0.0, "") if said is None else Mark(float(said == sample.answer), said, "word")
        if sample.kind in ("count", "number"):
            number = one_number(answer.text)
            if number is None:
                return Mark(0.0, "")
            right = float(sample.answer)
            score = float(number == right) if sample.kind == "count" else mean_relative_accuracy(number, right)
            return Mark(score, f"{number:g}", "number")
        return self.judged_mark(sample, answer.text, judge)

    def judged_mark(self, sample: Sample, text: str, judge: Judge) -> Mark:
        """Return the score of an open answer: whether the judge counts it as right."""
        if not text.strip():
            return Mark(0.0, "")
        verdict = judge(sample.question, (str(sample.answer), *sample.answers_extra), text)
        return Mark(float(verdict.correct), text, judge.name if verdict.readable else "")

    def official(self, sample: Sample, text: str | None, judge: Judge) -> Mark:
        """Return the score of the published scorer; only where ``official_rule`` is set."""
        raise UsageError(
            f"{type(self).__name__} publishes no rule for reading replies; run it without the official scoring"
        )


def make_benchmark(name: str) -> Benchmark:
    """Return the registered benchmark ``name``.

    Raises:
        UsageError: there is none; the message names the nearest.
    """
    return registry.get("benchmark", name)()


def gold_letter(sample: Sample) -> str:
    """Return the letter of the right option; "@", which no reply is, where none is right."""
    return LETTERS[int(sample.answer)] if int(sample.answer) >= 0 else "@"


def index_mark(sample: Sample, text: str | None) -> Mark:
    """Return the score where submissions hold the index of an option: the reply is that number, or wrong."""
    said = (text or "").strip()
    return Mark(float(said == str(sample.answer)), said, "index" if said.isdigit() else "")


def check_unique(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples.

    Raises:
        UsageError: two have the same qid.
    """
    seen: set[str] = set()
    for sample in samples:
        if sample.qid in seen:
            raise UsageError(f"expected every question once, got {sample.qid!r} twice")
        seen.add(sample.qid)
    return list(samples)
