"""Answerer ``house-head``: the built-in question head over tokens of the encoder ``house``; offline, on the CPU.

It understands nine kinds of English questions about painted houses (`embodied_mem.stream.house_tour.questions`) and
says "unknown" to everything else. With options it chooses one; without, it answers a wall colour, a colour, a pair, a
number, a stretch of time, or yes and no, and "not seen" where no token shows what is asked about; which of several came
first is chosen from those that the question names.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from embodied_mem.perception.house_words import COLOUR_WORDS, PAIRS, WALL_WORDS, WIDTH, find_pairs, pair, pair_name
from embodied_mem.registry import register
from embodied_mem.stream.answerers.base import Answer, Answerer, AnswererError, Capabilities, EmbedPart, Request
from embodied_mem.stream.house_tour.head import KINDS, YES_NO, load_head, parse, stretches

_SURE = 0.5
_SEEN = 0.3
_OPEN: dict[str, tuple[str, ...]] = {
    "where": WALL_WORDS,
    "last": WALL_WORDS,
    "colour": COLOUR_WORDS,
    "what": tuple(pair_name(k) for k in range(PAIRS)),
    "count": tuple(str(k) for k in range(1, 5)),
    "change": YES_NO,
    "never": YES_NO,
}
"""What is chosen from where a question comes without options."""


def _named(text: str) -> tuple[str, ...]:
    """Return the pairs that a text names, of two and more of which one can be the first."""
    found = [pair_name(pair(thing, colour)) for colour, thing in find_pairs(text) if colour is not None]
    return tuple(dict.fromkeys(found)) if len(found) > 1 else ()


@dataclass(frozen=True)
class HouseHeadConfig:
    """Where the weights are."""

    weights: str | None = None
    """File of other weights (safetensors); None for those of the package."""


@register("answerer", "house-head", about="built-in question head over tokens of the encoder house")
class HouseHeadAnswerer(Answerer):
    """Answers questions about painted houses from tokens of the encoder ``house``."""

    Config = HouseHeadConfig
    capabilities = Capabilities(embeds=True, logprobs=True, text=False)

    def __init__(self, config: HouseHeadConfig) -> None:
        """Load the weights.

        Raises:
            UsageError: there are no such weights.
        """
        super().__init__(config)
        self.head = load_head(config.weights)

    @torch.no_grad()
    def reply(self, request: Request) -> Answer:
        """Return the option with the highest logit, or "unknown" where the question is of none of the kinds.

        Raises:
            AnswererError: the context has tokens of another width than the encoder ``house`` gives.
        """
        parts = [part for part in request.context if isinstance(part, EmbedPart)]
        tokens = torch.cat([part.tokens.float() for part in parts]) if parts else torch.zeros(0, WIDTH)
        times = torch.cat([part.times.double() for part in parts]) if parts else torch.zeros(0, 2)
        if len(tokens) and tokens.shape[1] != WIDTH:
            raise AnswererError(
                f"house-head reads tokens of the encoder house ({WIDTH} numbers each), got {tokens.shape[1]}; "
                "use encoder house, or another answerer"
            )
        usage = {"calls": 1, "tokens": len(tokens)}
        tokens, times = stretches(tokens, times)
        surest = self.head.kinds([request.question])[0].softmax(0)
        number = int(surest.argmax())
        if number >= len(KINDS) or surest[number] < _SURE:
            return Answer("unknown", usage=usage)
        kind = KINDS[number]
        if request.options is None:
            return Answer(self._open(kind, request.question, tokens, times), usage=usage)
        logits = self.head(parse(kind, request.question, request.options), tokens, times)
        chances = tuple(logits.log_softmax(0).tolist())
        return Answer(request.options[int(logits.argmax())], logprobs=chances, usage=usage)

    def _open(self, kind: str, question: str, tokens: torch.Tensor, times: torch.Tensor) -> str:
        options = _named(question) if kind == "order" else _OPEN.get(kind, ())
        parsed = parse(kind, question, options)
        if kind == "order":
            return options[int(self.head(parsed, tokens, times).argmax())] if options and len(tokens) else "unknown"
        if kind != "never" and (not len(tokens) or not parsed.subject):
            return "not seen" if parsed.subject else "unknown"
        logits, attended = self.head.look(parsed, tokens, times)
        if kind != "never" and float(logits.max().sigmoid()) < _SEEN:
            return "not seen"
        if kind == "when":
            start, end = times[int(attended.argmax())].tolist()
            return f"{start:.0f} s to {end:.0f} s"
        if kind == "what":
            asked = {options[k] for k in parsed.subject}
            scores = self.head(parsed, tokens, times)
            order = scores.argsort(descending=True).tolist()
            return next(options[k] for k in order if options[k] not in asked)
        return options[int(self.head(parsed, tokens, times).argmax())]
