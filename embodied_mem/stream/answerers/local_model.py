"""A vision-language model in a local folder, run by transformers: one adapter for every architecture it knows.

``AutoProcessor`` writes the prompt (its chat template places the images) and ``AutoModelForImageTextToText`` answers.
Nothing is fetched and no code of the folder is run.

    choose=logprobs   options: log p(letter | prompt) of one forward pass, " A" and "A" added up; the greatest is taken
    choose=text       options: the reply is read like any other, and may name none

Log-probabilities always choose; ``Answer.logprobs`` tells how sure. They are those of the letters, so a model whose
reply would not begin with a letter is still made to choose one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from embodied_mem.devices import resolve_device
from embodied_mem.errors import UsageError
from embodied_mem.registry import register
from embodied_mem.stream.answerers.base import Answer, Answerer, AnswererError, Capabilities, ImagePart, Request
from embodied_mem.stream.answerers.choices import LETTERS
from embodied_mem.stream.answerers.prompt import most_likely, shown, within
from embodied_mem.stream.memory import check_at_least

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class TransformersConfig:
    """Where the model lies and how it is run."""

    path: str = ""
    """Folder with config, weights, tokenizer and processor files (as ``save_pretrained`` writes them)."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:i."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the weights; auto takes the one they are stored in."""
    choose: Literal["logprobs", "text"] = "logprobs"
    """How one of several options is chosen."""
    max_images: int = 8
    """Images per request; of more, evenly spaced ones are shown."""
    pixels: int = 512 * 512
    """Pixels of one image at most, before the model's own processor."""

    def __post_init__(self) -> None:
        check_at_least(self, max_images=0, pixels=1)
        if self.dtype not in ("auto", *_DTYPES) or self.choose not in ("logprobs", "text"):
            raise UsageError(
                f"expected dtype auto, {', '.join(_DTYPES)} and choose logprobs or text, "
                f"got {self.dtype!r} and {self.choose!r}"
            )


@register("answerer", "transformers")
class LocalModel(Answerer):
    """A local vision-language model (a folder), run by transformers."""

    Config = TransformersConfig

    def __init__(self, config: TransformersConfig) -> None:
        """Check the folder; the model is loaded at the first request.

        Raises:
            UsageError: no folder was given, or it holds no model.
        """
        super().__init__(config)
        if not config.path:
            raise UsageError("expected path=FOLDER of a vision-language model (config.json, weights, processor)")
        if not (Path(config.path) / "config.json").is_file():
            raise UsageError(f"expected the folder of a model at {config.path}, found no config.json there")
        self.capabilities = Capabilities(images=config.max_images > 0, max_images=config.max_images, logprobs=True)  # type: ignore[misc]
        self._device = torch.device(resolve_device(config.device))
        self._lock = threading.Lock()
        self._loaded: tuple[Any, Any] | None = None

    def reply(self, request: Request) -> Answer:
        """Answer one request; several threads take turns.

        Raises:
            AnswererError: the model cannot be loaded, or fails on the request.
        """
        with self._lock, self._one_line():
            processor, model = self._load()
            inputs = self._inputs(processor, request)
            if request.options and self.config.choose == "logprobs":
                return self._choose(processor, model, inputs, request.options)
            return self._write(processor, model, inputs, request)

    def prepare(self) -> None:
        """Load the model.

        Raises:
            AnswererError: it cannot be loaded.
        """
        with self._lock, self._one_line():
            self._load()

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except AnswererError:
            raise
        except (OSError, RuntimeError, ValueError, KeyError, ImportError) as error:
            raise AnswererError(f"the model in {self.config.path} failed: {_line(error)}") from error

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import AutoModelForImageTextToText, AutoProcessor

            path = self.config.path
            processor = AutoProcessor.from_pretrained(path, local_files_only=True, trust_remote_code=False)
            if not getattr(processor, "chat_template", None):
                raise AnswererError(f"the processor in {path} has no chat template; add chat_template.jinja to it")
            dtype = _DTYPES.get(self.config.dtype, "auto")
            model: Any = AutoModelForImageTextToText.from_pretrained(
                path, dtype=dtype, local_files_only=True, trust_remote_code=False
            )
            self._loaded = processor, model.to(self._device).eval().requires_grad_(False)
        return self._loaded

    def _inputs(self, processor: Any, request: Request) -> Any:
        from PIL import Image

        content: list[dict[str, Any]] = []
        for part in shown(request, self.config.max_images):
            if isinstance(part, ImagePart):
                content.append({"type": "image", "image": Image.fromarray(within(part.rgb, self.config.pixels))})
            else:
                content.append({"type": "text", "text": part})
        told = {"type": "text", "text": request.system}
        asked = {"role": "user", "content": content}
        try:
            return self._template(processor, [{"role": "system", "content": [told]}, asked])
        except Exception as error:
            # some templates know no system role; theirs is an error of jinja, which is no hard dependency here
            if type(error).__name__ != "TemplateError":
                raise
            return self._template(processor, [{"role": "user", "content": [told, *content]}])

    def _template(self, processor: Any, messages: list[dict[str, Any]]) -> Any:
        options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
        inputs = processor.apply_chat_template(messages, **options)
        return inputs.to(self._device)

    @torch.no_grad()
    def _choose(self, processor: Any, model: Any, inputs: Any, options: tuple[str, ...]) -> Answer:
        found = model.generate(
            **inputs, max_new_tokens=1, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
        logprobs = torch.log_softmax(found.logits[0][0].float(), 0)
        ids = letter_ids(getattr(processor, "tokenizer", processor), len(options), self.config.path)
        scores = tuple(float(torch.logsumexp(logprobs[own], 0)) for own in ids)
        best = most_likely(scores)
        usage = {"calls": 1, "prompt_tokens": inputs["input_ids"].shape[1], "completion_tokens": 1}
        return Answer(LETTERS[best], best, "logprobs", scores, usage)

    @torch.no_grad()
    def _write(self, processor: Any, model: Any, inputs: Any, request: Request) -> Answer:
        clock = _Clock()
        sampling: dict[str, Any] = {"do_sample": False}
        if request.temperature > 0:
            sampling = {"do_sample": True, "temperature": request.temperature}
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(request.seed)
            tokens: Tensor = model.generate(**inputs, max_new_tokens=request.max_tokens, streamer=clock, **sampling)
        length = inputs["input_ids"].shape[1]
        text = processor.batch_decode(tokens[:, length:], skip_special_tokens=True)[0]
        usage = {"calls": 1, "prompt_tokens": length, "completion_tokens": tokens.shape[1] - length}
        return Answer(text.strip(), usage=usage, ttft_ms=clock.first_ms)


def letter_ids(tokenizer: Any, count: int, path: str) -> list[list[int]]:
    """Return for each of the first ``count`` letters the tokens that are it, with and without a space before it.

    Raises:
        AnswererError: a letter is no single token.
    """
    found = []
    for letter in LETTERS[:count]:
        ids = [tokenizer.encode(text, add_special_tokens=False) for text in (letter, f" {letter}")]
        single = sorted({own[0] for own in ids if len(own) == 1})
        if not single:
            raise AnswererError(f"the tokenizer in {path} has no token for the letter {letter}; use choose=text")
        found.append(single)
    return found


class _Clock:
    """Takes the time of the first token; the first call is the prompt."""

    def __init__(self) -> None:
        self._began, self._calls = time.perf_counter(), 0
        self.first_ms: float | None = None

    def put(self, value: Tensor) -> None:
        self._calls += 1
        if self._calls == 2:
            self.first_ms = 1000 * (time.perf_counter() - self._began)

    def end(self) -> None:
        """Nothing is left to do."""


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
