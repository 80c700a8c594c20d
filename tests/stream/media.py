"""Small video files made by hand: Matroska with one JPEG per block, so that every time stamp can be chosen."""

import cv2
import numpy as np


def element(identifier, payload):
    """An EBML element with an eight-byte size."""
    return bytes.fromhex(identifier) + (len(payload) | 1 << 56).to_bytes(8, "big") + payload


def number(identifier, value):
    return element(identifier, value.to_bytes(4, "big"))


def jpeg(image):
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def write_matroska(path, blocks, width, height):
    """Write ``blocks``, a list of (milliseconds, JPEG bytes)."""
    header = element("1A45DFA3", element("4282", b"matroska") + number("4287", 4) + number("4285", 2))
    info = element("1549A966", number("2AD7B1", 1_000_000) + element("4D80", b"t") + element("5741", b"t"))
    video = element("E0", number("B0", width) + number("BA", height))
    track = number("D7", 1) + number("73C5", 1) + number("83", 1) + element("86", b"V_MJPEG") + video
    clusters = b""
    for milliseconds, data in blocks:
        block = element("A3", b"\x81\x00\x00\x80" + data)
        clusters += element("1F43B675", number("E7", milliseconds) + block)
    path.write_bytes(header + element("18538067", info + element("1654AE6B", element("AE", track)) + clusters))


def gray_frames(levels, width=32, height=24):
    """Return flat images of the grey ``levels``, (N, H, W, 3) uint8."""
    return np.broadcast_to(np.asarray(levels, np.uint8)[:, None, None, None], (len(levels), height, width, 3))


def write_gray_video(path, times_ms, levels, broken=()):
    """Write one flat frame per time; the blocks whose number is in ``broken`` hold no image."""
    images = gray_frames(levels)
    blocks = [
        (milliseconds, b"\x00" * 40 if number in broken else jpeg(image))
        for number, (milliseconds, image) in enumerate(zip(times_ms, images))
    ]
    write_matroska(path, blocks, images.shape[2], images.shape[1])
