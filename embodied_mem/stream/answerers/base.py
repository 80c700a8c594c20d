"""The protocol of answerers: a request with context in the order of time, an answer with its cost.

Every memory renders as text and key frames, so every back-end can be asked; `EmbedPart` is for local models that take
tokens. An answerer sees the request and nothing else: no source, no memory, no later frames.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from embodied_mem import registry
from embodied_mem.config import from_dict
from embodied_mem.errors import UsageError
from embodied_mem.stream.answerers.choices import find_choice
from embodied_mem.stream.evidence import Evidence

SYSTEM = (
    "Answer from the context alone. The context was recalled from a memory of a video stream; times are in seconds."
)


class AnswererError(UsageError):
    """A back-end that cannot answer: unreachable, too slow, or refusing. The message says which and what to do."""


@dataclass(frozen=True)
class TextPart:
    """A line about a stretch of time."""

    text: str
    t0: float
    t1: float


@dataclass(frozen=True)
class ImagePart:
    """A key frame."""

    rgb: np.ndarray
    """(H, W, 3) uint8."""
    t: float

    def __repr__(self) -> str:
        return f"ImagePart({self.rgb.shape[0]}x{self.rgb.shape[1]}, t={self.t:.2f})"


@dataclass(frozen=True)
class EmbedPart:
    """Tokens for models that take them."""

    tokens: Tensor
    """(M, D) float32."""
    times: Tensor
    """(M, 2) float64 seconds."""

    def __repr__(self) -> str:
        return f"EmbedPart({tuple(self.tokens.shape)})"


Part = TextPart | ImagePart | EmbedPart
OnText = Callable[[str], None]
"""Takes the answer so far; it may shrink again where a back-end has to start anew."""


@dataclass(frozen=True)
class Request:
    """A question with what was recalled for it."""

    question: str
    """What is asked."""
    options: tuple[str, ...] | None = None
    """Answers to choose from, without letters; None for an open question."""
    context: tuple[Part, ...] = ()
    """Parts in the order of time."""
    system: str = SYSTEM
    """What the answerer is told first."""
    max_tokens: int = 128
    """Longest answer, in the answerer's tokens."""
    temperature: float = 0.0
    """0 for the most likely answer."""
    seed: int = 0
    """Of the sampling, where there is any."""

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise UsageError("expected a question, got an empty text")
        if self.options is not None and not 2 <= len(self.options) <= 26:
            raise UsageError(f"expected 2 to 26 options, got {len(self.options)}")
        if self.max_tokens < 1 or self.temperature < 0:
            raise UsageError(
                f"expected max_tokens >= 1 and temperature >= 0, got {self.max_tokens} and {self.temperature}"
            )


@dataclass(frozen=True)
class Answer:
    """What came back."""

    text: str
    """The words."""
    choice: int | None = None
    """Index of the option chosen; None for open questions and for answers that name none."""
    parsed_by: str = ""
    """How the choice was found: logprobs, or in the words: letter, pattern, text; empty where it was not."""
    logprobs: tuple[float, ...] | None = None
    """Log-probabilities of the options, where the back-end gives them."""
    usage: Mapping[str, int] = field(default_factory=dict)
    """Tokens, images and calls."""
    ttft_ms: float | None = None
    """Milliseconds to the first token, where the back-end streams."""
    total_ms: float = 0.0
    """Milliseconds to the end."""
    confidence: float | None = None
    """0..1, where the back-end states one."""
    spans: tuple[tuple[float, float], ...] = ()
    """Seconds: the stretches of the context that the answer rests on, where the back-end points at them."""


@dataclass(frozen=True)
class Capabilities:
    """What a back-end takes and gives."""

    images: bool = False
    max_images: int = 0
    video: bool = False
    embeds: bool = False
    logprobs: bool = False
    text: bool = True
    """False where lines of text are not read; they are then not written either."""


class Answerer(ABC):
    """One back-end; a subclass writes `reply` and names its frozen dataclass in ``Config``."""

    Config: ClassVar[type]
    capabilities: ClassVar[Capabilities] = Capabilities()

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def reply(self, request: Request) -> Answer:
        """Return the words, and the choice where log-probabilities make it; `answer` adds what is missing."""

    def prepare(self) -> None:  # noqa: B027
        """Load what takes long, so that no answer's time holds it; answering does it where this was not called.

        Raises:
            AnswererError: it cannot be loaded.
        """

    def answer(self, request: Request) -> Answer:
        """Answer one request.

        Raises:
            AnswererError: the back-end cannot answer.
        """
        return self.stream(request, None)

    def stream(self, request: Request, on_text: OnText | None) -> Answer:
        """Answer one request and call ``on_text`` with the text so far, as often as the back-end gives more of it.

        Raises:
            AnswererError: the back-end cannot answer.
        """
        began = time.perf_counter()
        found = self.spoken(request, on_text)
        choice, parsed_by = found.choice, found.parsed_by
        if choice is None:
            choice, parsed_by = find_choice(found.text, request.options) if request.options else (None, "")
        return replace(found, choice=choice, parsed_by=parsed_by, total_ms=1000 * (time.perf_counter() - began))

    def spoken(self, request: Request, on_text: OnText | None) -> Answer:
        """Return `reply`; a back-end that gives its answer piece by piece overrides this."""
        found = self.reply(request)
        if on_text is not None:
            on_text(found.text)
        return found


def request_for(
    question: str,
    evidence: Evidence,
    *,
    options: Sequence[str] | None = None,
    embeds: bool = False,
    text: bool = True,
    **more: Any,
) -> Request:
    """Return the request for a question and its evidence: text and key frames in the order of time.

    Args:
        question: what is asked.
        evidence: what was recalled.
        options: answers to choose from, without letters.
        embeds: also give the tokens, for models that take them.
        text: give the lines of text; a model that reads tokens alone has no use for them.
        more: other fields of `Request`.
    """
    lines = evidence.text if text else ()
    parts: list[tuple[float, int, Part]] = [(span.t0, 0, TextPart(*span)) for span in lines]
    parts += [(frame.t_s, 1, ImagePart(frame.rgb, frame.t_s)) for frame in evidence.frames]
    context = [part for _, _, part in sorted(parts, key=lambda item: item[:2])]
    if embeds:
        context.append(EmbedPart(evidence.tokens, evidence.times))
    return Request(question, None if options is None else tuple(options), tuple(context), **more)


def make_answerer(name: str, **config: Any) -> Answerer:
    """Build the registered answerer ``name``.

    Raises:
        UsageError: the name, a key or a value is wrong.

    >>> make_answerer("echo").answer(Request("what is red?")).text
    'what is red?'
    """
    cls = registry.get("answerer", name)
    return cls(from_dict(cls.Config, config))
