"""Frames to and from JPEG, with a look at the size before anything is decoded."""

from __future__ import annotations

import io

import cv2
import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.stream.frames import shrink

LARGEST = 4096
"""Longer side of a picture from outside, pixels: a small file may unfold to gigabytes."""


def jpeg(rgb: np.ndarray, side: int = 0, quality: int = 88) -> bytes:
    """Return an image (H, W, 3) uint8 as JPEG, its longer side at most ``side`` pixels where that is not 0."""
    image = shrink(rgb, side) if side else rgb
    _, packed = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return packed.tobytes()


def decoded(data: bytes) -> np.ndarray:
    """Return the image (H, W, 3) uint8 RGB in JPEG, PNG or WebP bytes; alpha is laid over black, turns are applied.

    Raises:
        UsageError: it is no such image, it is damaged, or a side is above 4096 pixels.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        # the header alone is read here
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as opened:
            size = opened.size
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise UsageError(f"expected a JPEG, PNG or WebP image, got {len(data)} bytes of something else") from error
    except Image.DecompressionBombError as error:
        raise UsageError(f"expected an image of at most {LARGEST} pixels a side: {error}") from error
    if max(size) > LARGEST:
        raise UsageError(f"expected an image of at most {LARGEST} pixels a side, got {size[0]}x{size[1]}")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise UsageError("expected an image, its data are damaged")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def fitted(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the image (H, W, 3) uint8 scaled into (height, width, 3), black where it does not reach."""
    if rgb.shape[:2] == (height, width):
        return rgb
    factor = min(height / rgb.shape[0], width / rgb.shape[1])
    tall, wide = max(1, round(rgb.shape[0] * factor)), max(1, round(rgb.shape[1] * factor))
    out = np.zeros((height, width, 3), np.uint8)
    top, left = (height - tall) // 2, (width - wide) // 2
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    out[top : top + tall, left : left + wide] = cv2.resize(rgb, (wide, tall), interpolation=method)
    return out
