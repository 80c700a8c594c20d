"""Suites of questions about streams: what they have in common, and how ``embodied-mem eval`` finds them.

    @register("question_suite", "my-suite", about="...")
    def my_suite() -> QuestionSuite: ...

They have no agent and no environment: what is compared are stream memories, at equal bytes, on the same questions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from embodied_mem import registry
from embodied_mem.evaluation.suite import Option

Progress = Callable[[int, int, str], None]


class RunQuestions(Protocol):
    """What a suite of questions does when it is evaluated."""

    def __call__(
        self,
        *,
        tasks: list[str] | None,
        split: str | None,
        episodes: int | None,
        seeds: list[int] | None,
        controls: bool,
        out: Path | None,
        resume: bool,
        shard: str | None,
        progress: Progress | None,
        options: dict[str, Any],
    ) -> dict[str, Any]:
        """Return a result (`results.make_result`)."""


@dataclass(frozen=True)
class QuestionSuite:
    """A suite of questions."""

    name: str
    """Name on the command line."""
    about: str
    """One line for lists."""
    run: RunQuestions
    """What is done."""
    options: tuple[Option, ...] = ()
    """Options on the command line beside the common ones."""


def is_question_suite(name: str) -> bool:
    """Return whether there is a suite of questions of this name."""
    return name in registry.names("question_suite")


def load_question_suite(name: str) -> QuestionSuite:
    """Return the suite of questions registered under ``name``.

    Raises:
        UsageError: there is none.
    """
    return registry.get("question_suite", name)()
