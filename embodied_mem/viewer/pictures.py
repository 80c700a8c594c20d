"""Arrays as pictures inside the page: data URIs, sprite sheets of frames, colours of scans and of attention."""

from __future__ import annotations

import base64

import cv2
import numpy as np

# Full colour resolution: rendered pictures have hard coloured edges.
_JPEG_OPTIONS = [cv2.IMWRITE_JPEG_QUALITY, 92, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
_EXACT_VALUES = 3_000_000
# Dark to bright through teal: reads in light and dark pages, and in print.
_RAMP = np.array([[20, 22, 34], [28, 61, 94], [24, 111, 128], [76, 165, 131], [190, 214, 110], [255, 246, 200]], float)


def data_uri(image: np.ndarray, kind: str = "png") -> str:
    """Return an image as a data URI.

    Args:
        image: (H, W, 3) uint8 RGB, or (H, W, 4) RGBA for PNG.
        kind: "png" (exact) or "jpg" (small).
    """
    order = cv2.COLOR_RGBA2BGRA if image.shape[-1] == 4 else cv2.COLOR_RGB2BGR
    options = _JPEG_OPTIONS if kind == "jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 9]
    done, coded = cv2.imencode(f".{kind}", cv2.cvtColor(np.ascontiguousarray(image), order), options)
    if not done:
        raise ValueError(f"cannot encode an image of shape {image.shape} as {kind}")
    mime = "jpeg" if kind == "jpg" else kind
    return f"data:image/{mime};base64,{base64.b64encode(coded.tobytes()).decode('ascii')}"


def sprite(frames: np.ndarray) -> np.ndarray:
    """Return frames (T, H, W, 3) uint8 side by side in rows of twelve, black where the last row is short."""
    columns = min(12, len(frames))
    rows = -(-len(frames) // columns)
    height, width = frames.shape[1:3]
    sheet = np.zeros((rows * height, columns * width, 3), np.uint8)
    for index, frame in enumerate(frames):
        y, x = divmod(index, columns)
        sheet[y * height : (y + 1) * height, x * width : (x + 1) * width] = frame
    return sheet


def frames_uri(sheet: np.ndarray) -> str:
    """Return a picture (H, W, 3) uint8 as a data URI: exact while small (rendered pictures are flat), else JPEG."""
    return data_uri(sheet, "png" if sheet.size <= _EXACT_VALUES else "jpg")


def as_frames(values: np.ndarray) -> np.ndarray:
    """Return image observations as RGB frames (T, H, W, 3) uint8; depth (T, H, W) becomes shades, near is bright."""
    if values.ndim == 4 and values.shape[-1] == 3 and values.dtype == np.uint8:
        return values
    if values.ndim == 4:
        values = values[..., 0]
    finite = values[np.isfinite(values)]
    far = float(np.quantile(finite, 0.98)) if finite.size else 1.0
    return ramp(1.0 - np.clip(np.nan_to_num(values, posinf=far) / max(far, 1e-6), 0.0, 1.0))


def scan_image(scan: np.ndarray) -> np.ndarray:
    """Return a scan over time as an image: a line per step, a column per direction; hue is class, bright is near.

    Args:
        scan: (T, W, C) float, channels distance in metres, class code, ...

    Returns:
        (T, W, 3) uint8.
    """
    distance = scan[..., 0]
    far = max(float(distance.max()), 1e-6)
    near = 1.0 - 0.8 * np.clip(distance / far, 0.0, 1.0)
    if scan.shape[-1] < 2:
        return ramp(near)
    codes = np.rint(scan[..., 1]).astype(np.int64)
    # The golden angle spreads neighbouring codes over the circle of hues; what is everywhere (walls) stays grey.
    hue = (codes * 137.50776405) % 360.0
    kinds, counts = np.unique(codes, return_counts=True)
    hsv = np.stack([hue, np.where(codes == kinds[counts.argmax()], 0.04, 0.5), 0.3 + 0.68 * near], axis=-1).astype(
        np.float32
    )
    return (cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255).astype(np.uint8)


def ramp(values: np.ndarray) -> np.ndarray:
    """Return colours (..., 3) uint8 of values (...) in [0, 1], dark to bright."""
    place = np.clip(np.nan_to_num(values), 0.0, 1.0) * (len(_RAMP) - 1)
    low = np.minimum(place.astype(int), len(_RAMP) - 2)
    part = (place - low)[..., None]
    return (_RAMP[low] * (1 - part) + _RAMP[low + 1] * part).astype(np.uint8)
