"""Any server that speaks ``POST /v1/chat/completions``: local (vLLM, SGLang, llama.cpp, Ollama) or hosted.

Text and images go out interleaved in the order of time, each with its time stamp as text; images as JPEG data URLs
within a pixel budget. Answers are streamed, which gives the time to the first token. A busy server (429, 5xx) or a
broken connection is tried again with growing pauses; everything ends at the deadline.

Standard library only; proxies of the environment are not used.
"""

from __future__ import annotations

import base64
import http.client
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
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
    TextPart,
)
from embodied_mem.stream.answerers.choices import LETTERS
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

    def __post_init__(self) -> None:
        check_at_least(self, retries=0, pause_s=0.0, max_images=0, pixels=1, quality=1)
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
        self.capabilities = Capabilities(images=config.max_images > 0, max_images=config.max_images)  # type: ignore[misc]

    def reply(self, request: Request) -> Answer:
        """Send the request, see `spoken`."""
        return self.spoken(request, None)

    def spoken(self, request: Request, on_text: OnText | None) -> Answer:
        """Send the request; ``on_text`` gets what has arrived, whenever more of it has.

        Raises:
            AnswererError: the server cannot be reached, refuses, is too slow, or sends no answer.
        """
        c = self.config
        body = json.dumps(self.body(request)).encode()
        began = time.monotonic()
        until, pause, attempt = began + c.timeout_s, c.pause_s, 0
        while True:
            attempt += 1
            try:
                return self._send(body, began, until, attempt, on_text)
            except _Again as again:
                if attempt > c.retries or time.monotonic() + pause >= until:
                    raise AnswererError(f"{c.url}: {again} ({attempt} attempts)") from again
            time.sleep(pause)
            pause *= 2

    def body(self, request: Request) -> Json:
        """Return the JSON body of a request."""
        c = self.config
        return {
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

    def _content(self, request: Request) -> list[Json]:
        images = [part for part in request.context if isinstance(part, ImagePart)]
        sent = {id(part) for part in evenly(images, self.config.max_images)}
        content: list[Json] = []
        for part in request.context:
            if isinstance(part, TextPart):
                content.append({"type": "text", "text": f"[{part.t0:.2f}-{part.t1:.2f} s] {part.text}"})
            elif isinstance(part, ImagePart) and id(part) in sent:
                url = data_url(part.rgb, self.config.pixels, self.config.quality)
                content.append({"type": "text", "text": f"[frame at {part.t:.2f} s]"})
                content.append({"type": "image_url", "image_url": {"url": url}})
        asked = request.question
        if request.options:
            listed = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, request.options))
            asked = f"{asked}\n{listed}\nAnswer with the letter alone."
        content.append({"type": "text", "text": asked})
        return content

    def _send(self, body: bytes, began: float, until: float, attempt: int, on_text: OnText | None) -> Answer:
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
                raise AnswererError(f"{self.config.url}: status {response.status}: {_short(response.read(2000))}")
            if "text/event-stream" in response.headers.get("Content-Type", ""):
                return self._streamed(response, began, until, attempt, on_text)
            whole = self._whole(response.read(), attempt)
            if on_text is not None:
                on_text(whole.text)
            return whole
        except TimeoutError as error:
            raise AnswererError(f"{self.config.url}: no answer within {self.config.timeout_s} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise _Again(f"the connection failed: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def _streamed(
        self, response: http.client.HTTPResponse, began: float, until: float, attempt: int, on_text: OnText | None
    ) -> Answer:
        text, first, usage = [], None, {"calls": attempt}
        for event in _events(response):
            if time.monotonic() > until:
                raise TimeoutError
            usage |= _usage(event)
            for choice in event.get("choices") or ():
                piece = (choice.get("delta") or {}).get("content") or ""
                if piece and first is None:
                    first = 1000 * (time.monotonic() - began)
                text.append(piece)
                if piece and on_text is not None:
                    on_text("".join(text))
        if first is None:
            raise AnswererError(f"{self.config.url}: the server sent no text")
        return Answer("".join(text), usage=usage, ttft_ms=first)

    def _whole(self, body: bytes, attempt: int) -> Answer:
        try:
            value = json.loads(body)
            text = value["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise AnswererError(f"{self.config.url}: expected a chat completion, got {_short(body)}") from error
        return Answer(str(text), usage={"calls": attempt, **_usage(value)})


class _Again(Exception):
    """Worth another attempt."""


def data_url(rgb: np.ndarray, pixels: int, quality: int) -> str:
    """Return an image (H, W, 3) uint8 as a JPEG data URL of at most ``pixels`` pixels."""
    height, width = rgb.shape[:2]
    factor = min(1.0, math.sqrt(pixels / (height * width)))
    if factor < 1:
        size = max(1, int(width * factor)), max(1, int(height * factor))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    _, packed = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return "data:image/jpeg;base64," + base64.b64encode(packed.tobytes()).decode()


def evenly(items: Sequence[ImagePart], most: int) -> list[ImagePart]:
    """Return at most ``most`` items, evenly spaced, the first and last among them where two fit."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)] if most else []


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
