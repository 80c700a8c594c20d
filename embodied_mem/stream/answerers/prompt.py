"""What every model is shown of a request: stamped lines and images in the order of time, then question and options."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import cv2
import numpy as np

from embodied_mem.stream.answerers.base import ImagePart, Request, TextPart
from embodied_mem.stream.answerers.choices import LETTERS

T = TypeVar("T")


def shown(request: Request, max_images: int) -> list[str | ImagePart]:
    """Return the content of a request in order: texts and images; of too many images, evenly spaced ones.

    Args:
        request: what is asked.
        max_images: images at most.
    """
    images = [part for part in request.context if isinstance(part, ImagePart)]
    sent = {id(part) for part in evenly(images, max_images)}
    content: list[str | ImagePart] = []
    for part in request.context:
        if isinstance(part, TextPart):
            content.append(f"[{part.t0:.2f}-{part.t1:.2f} s] {part.text}")
        elif isinstance(part, ImagePart) and id(part) in sent:
            content += [f"[frame at {part.t:.2f} s]", part]
    return [*content, asked(request)]


def asked(request: Request) -> str:
    """Return the question, with lettered options where there are any."""
    if not request.options:
        return request.question
    listed = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, request.options))
    return f"{request.question}\n{listed}\nAnswer with the letter alone."


def evenly(items: Sequence[T], most: int) -> list[T]:
    """Return at most ``most`` items, evenly spaced, the first and last among them where two fit."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)] if most else []


def within(rgb: np.ndarray, pixels: int) -> np.ndarray:
    """Return the image (H, W, 3) uint8 with at most ``pixels`` pixels, averaged over areas."""
    height, width = rgb.shape[:2]
    factor = math.sqrt(pixels / (height * width))
    if factor >= 1:
        return rgb
    size = max(1, int(width * factor)), max(1, int(height * factor))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)


def most_likely(logprobs: Sequence[float]) -> int:
    """Return the index of the greatest log-probability, the first of equal ones."""
    return int(np.argmax(logprobs))
