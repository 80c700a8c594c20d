"""Any server that speaks ``POST /v1/chat/completions``: local (vLLM, SGLang, llama.cpp, Ollama) or hosted.

Text and images go out interleaved in the order of time, each with its time stamp as text; images as JPEG data URLs
within a pixel budget. Answers are streamed, which gives the time to the first token. A busy server (429, 5xx) or a
broken connection is tried again with growing pauses; everything ends at the deadline.

Options: the server is asked for the log-probabilities of its first token. Where the letters hold at least half of the
probability and the reply names no other option ("A dog, so B"), the most likely letter is the choice (``parsed_by``
logprobs); else the reply is read as words. Not every server gives them: ``logprobs=auto`` asks without them from then
on where they are refused, ``always`` makes it an error.

Standard library only; proxies of the environment are not used.
"""

from __future__ import annotations

import base64
import http.client
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlsplit

import cv2
import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.registry import register
from embodied_mem.stream.answerers.base import (
    Answer,
    Answerer,
    AnswererError,
    Capabilities,
    ImagePart,
    OnText,
    Request,
)
from embodied_mem.stream.answerers.choices import LETTERS, find_choice
from embodied_mem.stream.answerers.prompt import most_likely, shown, within
from embodied_mem.stream.memory import check_at_least

Json = dict[str, Any]


@dataclass(frozen=True)
class OpenAIConfig:
    """Where the server is and what it is sent."""

    url: str = "http://localhost:8000/v1"
    """Up to and without ``/chat/completions``."""
    model: str = "default"
    """Name the server knows."""
    key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the API key; no key is sent where it is unset."""
    timeout_s: float = 60.0
    """Deadline of one request, retries included."""
    retries: int = 3
    """Further attempts after 429, 5xx or a broken connection."""
    pause_s: float = 0.5
    """Pause before the first retry, doubled each time."""
    max_images: int = 8
    """Images per request; of more, evenly spaced ones are sent."""
    pixels: int = 512 * 512
    """Pixels of one image at most."""
    quality: int = 90
    """JPEG quality."""
    stream: bool = True
    """Ask for the answer piece by piece."""
    logprobs: Literal["auto", "always", "never"] = "auto"
    """Whether options are chosen by log-probabilities."""
    top_logprobs: int = 20
    """Candidates of the first token that are asked for; servers have limits of their own (5 to 20)."""

    def __post_init__(self) -> None:
        check_at_least(self, retries=0, pause_s=0.0, max_images=0, pixels=1, quality=1, top_logprobs=1)
        if self.logprobs not in ("auto", "always", "never"):
            raise UsageError(f"expected logprobs auto, always or never, got {self.logprobs!r}")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"expected a URL like http://host:8000/v1, got {self.url!r}")
        if self.timeout_s <= 0:
            raise UsageError(f"expected timeout_s > 0, got {self.timeout_s}")


@register("answerer", "openai")
class OpenAICompatible(Answerer):
    """A server that speaks the chat completions protocol."""

    Config = OpenAIConfig
    capabilities = Capabilities(images=True, max_images=8)

    def __init__(self, config: OpenAIConfig) -> None:
        """Keep the config; nothing is sent before the first request."""
        super().__init__(config)
        self._gives_logprobs = config.logprobs != "never"
        self.capabilities = Capabilities(  # type: ignore[misc]
            images=config.max_images > 0, max_images=config.max_images, logprobs=self._gives_logprobs
        )

    def reply(self, request: Request) -> Answer:
        """Send the request, see `spoken`."""
        return self.spoken(request, None)

    def spoken(self, request: Request, on_text: OnText | None) -> Answer:
        """Send the request; ``on_text`` gets what has arrived, whenever more of it has.

        Raises:
            AnswererError: the server cannot be reached, refuses, is too slow, or sends no answer.
        """
        c = self.config
        began = time.monotonic()
        until, pause, attempt = began + c.timeout_s, c.pause_s, 0
        while True:
            attempt += 1
            try:
                return self._send(request, began, until, attempt, on_text)
            except _NoLogprobs:
                self._gives_logprobs = False
            except _Again as again:
                if attempt > c.retries or time.monotonic() + pause >= until:
                    raise AnswererError(f"{c.url}: {again} ({attempt} attempts)") from again
                time.sleep(pause)
                pause *= 2

    def body(self, request: Request) -> Json:
        """Return the JSON body of a request."""
        c = self.config
        body: Json = {
            "model": c.model,
            "messages": [
                {"role": "system", "content": request.system},
                {"role": "user", "content": self._content(request)},
            ],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "seed": request.seed,
            "stream": c.stream,
        }
        if request.options and self._gives_logprobs:
            body |= {"logprobs": True, "top_logprobs": c.top_logprobs}
        return body

    def _content(self, request: Request) -> list[Json]:
        content: list[Json] = []
        for part in shown(request, self.config.max_images):
            if isinstance(part, ImagePart):
                url = data_url(part.rgb, self.config.pixels, self.config.quality)
                content.append({"type": "image_url", "image_url": {"url": url}})
            else:
                content.append({"type": "text", "text": part})
        return content

    def _send(self, request: Request, began: float, until: float, attempt: int, on_text: OnText | None) -> Answer:
        fields = self.body(request)
        options = request.options if "logprobs" in fields else None
        body = json.dumps(fields).encode()
        parts = urlsplit(self.config.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(str(parts.hostname), parts.port, timeout=max(until - time.monotonic(), 0.001))
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}
        key = os.environ.get(self.config.key_env)
        if key:
            headers["Authorization"] = f"Bearer {key}"
        try:
            connection.request("POST", f"{parts.path.rstrip('/')}/chat/completions", body, headers)
            response = connection.getresponse()
            if response.status == 429 or response.status >= 500:
                raise _Again(f"status {response.status}: {_short(response.read(2000))}")
            if response.status != 200:
                said = _short(response.read(2000))
                if options and response.status in (400, 422) and "logprobs" in said and self.config.logprobs == "auto":
                    raise _NoLogprobs
                raise AnswererError(f"{self.config.url}: status {response.status}: {said}")
            if "text/event-stream" in response.headers.get("Content-Type", ""):
                answer, first = self._streamed(response, began, until, attempt, on_text)
            else:
                answer, first = self._whole(response.read(), attempt)
                if on_text is not None:
                    on_text(answer.text)
            return self._chosen(answer, first, options) if options else answer
        except TimeoutError as error:
            raise AnswererError(f"{self.config.url}: no answer within {self.config.timeout_s} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise _Again(f"the connection failed: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def _streamed(
        self, response: http.client.HTTPResponse, began: float, until: float, attempt: int, on_text: OnText | None
    ) -> tuple[Answer, Json]:
        text, first, usage = [], None, {"calls": attempt}
        likely: Json = {}
        for event in _events(response):
            if time.monotonic() > until:
                raise TimeoutError
            usage |= _usage(event)
            for choice in event.get("choices") or ():
                piece = (choice.get("delta") or {}).get("content") or ""
                if piece and first is None:
                    first = 1000 * (time.monotonic() - began)
                text.append(piece)
                likely = likely or _first_token(choice)
                if piece and on_text is not None:
                    on_text("".join(text))
        if first is None:
            raise AnswererError(f"{self.config.url}: the server sent no text")
        return Answer("".join(text), usage=usage, ttft_ms=first), likely

    def _whole(self, body: bytes, attempt: int) -> tuple[Answer, Json]:
        try:
            value = json.loads(body)
            choice = value["choices"][0]
            text = choice["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise AnswererError(f"{self.config.url}: expected a chat completion, got {_short(body)}") from error
        return Answer(str(text), usage={"calls": attempt, **_usage(value)}), _first_token(choice)

    def _chosen(self, answer: Answer, first: Json, options: tuple[str, ...]) -> Answer:
        if not first:
            if self.config.logprobs == "always":
                raise AnswererError(f"{self.config.url}: the server gives no log-probabilities; use logprobs=auto")
            return answer
        scores = letter_logprobs(first, len(options))
        best = most_likely(scores)
        if sum(map(math.exp, scores)) < 0.5 or find_choice(answer.text, options)[0] not in (None, best):
            return replace(answer, logprobs=scores)
        return replace(answer, choice=best, parsed_by="logprobs", logprobs=scores)


class _Again(Exception):
    """Worth another attempt."""


class _NoLogprobs(Exception):
    """The server refuses log-probabilities."""


def letter_logprobs(first: Json, count: int) -> tuple[float, ...]:
    """Return the log-probability of each of ``count`` letters among the candidates of a first token, -inf for none.

    >>> letter_logprobs({"top_logprobs": [{"token": " B", "logprob": -0.5}, {"token": "The", "logprob": -1.0}]}, 2)
    (-inf, -0.5)
    """
    found = dict.fromkeys(LETTERS[:count], 0.0)
    for candidate in first.get("top_logprobs") or ():
        letter = str(candidate.get("token", "")).strip(" \n\u2581\u0120()")
        if letter in found:
            found[letter] += math.exp(float(candidate["logprob"]))
    return tuple(math.log(share) if share > 0 else -math.inf for share in found.values())


def _first_token(choice: Json) -> Json:
    """Return candidates of the first token of a choice or of a piece of one; empty where the server gives none."""
    tokens = (choice.get("logprobs") or {}).get("content") or []
    return tokens[0] if tokens and isinstance(tokens[0], dict) else {}


def data_url(rgb: np.ndarray, pixels: int, quality: int) -> str:
    """Return an image (H, W, 3) uint8 as a JPEG data URL of at most ``pixels`` pixels."""
    rgb = within(rgb, pixels)
    _, packed = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return "data:image/jpeg;base64," + base64.b64encode(packed.tobytes()).decode()


def _events(response: http.client.HTTPResponse) -> Iterator[Json]:
    """Yield the JSON of every server-sent event up to ``[DONE]``."""
    for line in response:
        name, _, value = line.decode("utf-8", "replace").strip().partition(":")
        if name != "data":
            continue
        if value.strip() == "[DONE]":
            return
        try:
            event = json.loads(value)
        except ValueError as error:
            raise AnswererError(f"expected JSON in the stream of the server, got {value[:80]!r}") from error
        if isinstance(event, dict):
            yield event


def _usage(value: Json) -> dict[str, int]:
    found = value.get("usage") or {}
    return {name: int(count) for name, count in found.items() if isinstance(count, int)}


def _short(body: bytes) -> str:
    return " ".join(body.decode("utf-8", "replace").split())[:200]
