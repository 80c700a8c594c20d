"""Answerers without a model: ``echo`` and ``scripted`` for tests, ``rule`` as a floor that every model has to beat."""

from __future__ import annotations

import re
from dataclasses import dataclass

from embodied_mem.registry import register
from embodied_mem.stream.answerers.base import (
    Answer,
    Answerer,
    AnswererError,
    Capabilities,
    ImagePart,
    Request,
    TextPart,
)

_IDLE = frozenset(
    "a an the is are was were be been do does did of in on at to for from with and or not what which who whom whose "
    "when where why how many much it its this that there their they he she his her you i we".split()
)

YES_NO = frozenset({"yes", "no"})


@dataclass(frozen=True)
class NoConfig:
    """Config of an answerer without options."""


@dataclass(frozen=True)
class ScriptedConfig:
    """What is said."""

    replies: tuple[str, ...] = ("",)
    """One per request, in order."""


@register("answerer", "echo")
class Echo(Answerer):
    """Says the question again."""

    Config = NoConfig
    capabilities = Capabilities(images=True, max_images=10**6, embeds=True)

    def reply(self, request: Request) -> Answer:
        """Return the question, and how many parts of each kind came."""
        texts = sum(isinstance(part, TextPart) for part in request.context)
        images = sum(isinstance(part, ImagePart) for part in request.context)
        return Answer(request.question, usage={"calls": 1, "texts": texts, "images": images})


@register("answerer", "scripted")
class Scripted(Answerer):
    """Says what the script says, one reply per request."""

    Config = ScriptedConfig
    capabilities = Echo.capabilities

    def __init__(self, config: ScriptedConfig) -> None:
        """Begin with the first reply."""
        super().__init__(config)
        self.requests: list[Request] = []

    def reply(self, request: Request) -> Answer:
        """Return the next reply.

        Raises:
            AnswererError: the script is over.
        """
        if len(self.requests) >= len(self.config.replies):
            raise AnswererError(f"expected at most {len(self.config.replies)} requests, the script is over")
        self.requests.append(request)
        return Answer(self.config.replies[len(self.requests) - 1], usage={"calls": 1})


@register("answerer", "rule")
class Rule(Answerer):
    """Says the line of the context that shares most words with the question; of equal ones the latest.

    With options: the one that shares most words with that line; of "yes" and "no", "yes" where one line holds every
    word of the question. A stretch of time is answered where the question begins with "when". The confidence is the
    share of the question's words that the line holds.
    """

    Config = NoConfig

    def reply(self, request: Request) -> Answer:
        """Return a line of the context, an option, or "unknown" where no word is shared."""
        asked = words(request.question)
        lines = [part for part in request.context if isinstance(part, TextPart)]
        best = max(enumerate(lines), key=lambda item: (len(asked & words(item[1].text)), item[0]), default=None)
        told = frozenset(option.lower() for option in request.options or ()) == YES_NO
        if best is None or not asked & words(best[1].text):
            return Answer("no" if told else "unknown", usage={"calls": 1}, confidence=0.0)
        line = best[1]
        share = len(asked & words(line.text)) / len(asked)

        def said(text: str) -> Answer:
            return Answer(text, usage={"calls": 1}, confidence=share, spans=((line.t0, line.t1),))

        if told:
            return said("yes" if share == 1 else "no")
        if request.options:
            shared = [len(words(option) & words(line.text)) for option in request.options]
            if max(shared) == 0 or shared.count(max(shared)) > 1:
                return Answer("unknown", usage={"calls": 1}, confidence=0.0)
            return said(request.options[shared.index(max(shared))])
        if request.question.strip().lower().startswith("when"):
            return said(f"{line.t0:.2f} s to {line.t1:.2f} s")
        return said(line.text)


def words(text: str) -> set[str]:
    """Return the words that say something, in small letters.

    >>> sorted(words("What is on the red table?"))
    ['red', 'table']
    """
    return set(re.findall(r"\w+", text.lower())) - _IDLE
