"""Batched image operations on the CPU with OpenCV: resize, colour, crop. Images are (N, H, W, C) or (N, H, W), uint8.

float32 depth maps may be resized and cropped too; colour operations need (N, H, W, 3) uint8 in RGB order.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from embodied_mem.errors import UsageError

INTERPOLATION = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "cubic": cv2.INTER_CUBIC,
}
COLOURS = {
    "bgr": cv2.COLOR_RGB2BGR,
    "gray": cv2.COLOR_RGB2GRAY,
    "hsv": cv2.COLOR_RGB2HSV_FULL,
    "lab": cv2.COLOR_RGB2LAB,
}
BACK = {"bgr": cv2.COLOR_BGR2RGB, "gray": cv2.COLOR_GRAY2RGB, "hsv": cv2.COLOR_HSV2RGB_FULL, "lab": cv2.COLOR_LAB2RGB}


def resize(
    images: np.ndarray, height: int, width: int, method: Literal["auto", "nearest", "linear", "area", "cubic"] = "auto"
) -> np.ndarray:
    """Return images (N, height, width[, C]) in the input's dtype.

    ``auto`` averages areas when shrinking and interpolates linearly when growing. Ids and depth edges want ``nearest``.

    Raises:
        UsageError: a wrong rank or dtype, a size below 1, or an unknown method.
    """
    _check(images)
    if height < 1 or width < 1:
        raise UsageError(f"expected a size of at least 1x1, got {height}x{width}")
    if method == "auto":
        shrinks = height <= images.shape[1] and width <= images.shape[2]
        flag = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    elif method in INTERPOLATION:
        flag = INTERPOLATION[method]
    else:
        raise UsageError(f"unknown resize method {method!r}; available: auto, {', '.join(INTERPOLATION)}")
    out = np.empty((images.shape[0], height, width, *images.shape[3:]), images.dtype)
    for index, image in enumerate(images):
        out[index] = cv2.resize(image, (width, height), interpolation=flag).reshape(out.shape[1:])
    return out


def convert(images: np.ndarray, to: Literal["bgr", "gray", "hsv", "lab"]) -> np.ndarray:
    """Return RGB images (N, H, W, 3) uint8 in another colour space; ``gray`` gives (N, H, W). Hue spans 0..255.

    Raises:
        UsageError: not RGB uint8, or an unknown colour space.
    """
    _check_rgb(images)
    if to not in COLOURS:
        raise UsageError(f"unknown colour space {to!r}; available: {', '.join(COLOURS)}")
    return _tall(images, COLOURS[to])


def to_rgb(images: np.ndarray, source: Literal["bgr", "gray", "hsv", "lab"]) -> np.ndarray:
    """Return RGB images (N, H, W, 3) uint8 from ``source``; the inverse of `convert` (gray is repeated)."""
    _check(images)
    if source not in BACK:
        raise UsageError(f"unknown colour space {source!r}; available: {', '.join(BACK)}")
    return _tall(images, BACK[source])


def crop(images: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return one crop per image (N, h, w[, C]); parts outside the image repeat its border.

    Args:
        images: (N, H, W[, C]).
        boxes: (N, 4) int: top, left, height, width; all crops have the size of the first.

    Raises:
        UsageError: the boxes do not fit the batch, differ in size or are empty.
    """
    _check(images)
    boxes = np.asarray(boxes)
    if boxes.shape != (len(images), 4) or boxes.dtype.kind not in "iu":
        raise UsageError(f"expected integer boxes of shape {(len(images), 4)}, got {boxes.shape} {boxes.dtype}")
    if len(boxes) == 0:
        return images.copy()
    if (boxes[:, 2:] != boxes[0, 2:]).any() or (boxes[:, 2:] < 1).any():
        raise UsageError(f"expected boxes of one size, at least 1x1, got {boxes[:, 2:].tolist()}")
    height, width = (int(size) for size in boxes[0, 2:])
    rows = np.clip(boxes[:, :1] + np.arange(height), 0, images.shape[1] - 1)
    columns = np.clip(boxes[:, 1:2] + np.arange(width), 0, images.shape[2] - 1)
    return images[np.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]


def center_crop(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the middle (N, height, width[, C]) of the images, see `crop`."""
    _check(images)
    top, left = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
    return crop(images, np.tile(np.array([top, left, height, width]), (len(images), 1)))


def adjust(images: np.ndarray, brightness: float = 0.0, contrast: float = 1.0, saturation: float = 1.0) -> np.ndarray:
    """Return RGB images (N, H, W, 3) uint8 with brightness added (-1..1), contrast and saturation multiplied.

    Raises:
        UsageError: not RGB uint8, or a negative factor.
    """
    _check_rgb(images)
    if contrast < 0 or saturation < 0:
        raise UsageError(f"expected factors of at least 0, got contrast {contrast}, saturation {saturation}")
    out = images.astype(np.float32)
    if saturation != 1.0:
        gray = convert(images, "gray").astype(np.float32)[..., None]
        out = gray + (out - gray) * saturation
    out = (out - 127.5) * contrast + 127.5 + 255.0 * brightness
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def _tall(images: np.ndarray, code: int) -> np.ndarray:
    """Convert the whole batch as one tall image: one OpenCV call instead of N."""
    n, height, width = images.shape[:3]
    tall = np.ascontiguousarray(images).reshape(n * height, width, *images.shape[3:])
    if tall.size == 0:
        return images.copy()
    out = cv2.cvtColor(tall, code)
    return out.reshape(n, height, width, *out.shape[2:])


def _check(images: np.ndarray) -> None:
    if images.ndim not in (3, 4) or images.dtype not in (np.uint8, np.float32):
        raise UsageError(
            f"expected images (N, H, W) or (N, H, W, C), uint8 or float32, got {images.shape} {images.dtype}"
        )


def _check_rgb(images: np.ndarray) -> None:
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise UsageError(f"expected RGB images (N, H, W, 3) uint8, got {images.shape} {images.dtype}")
