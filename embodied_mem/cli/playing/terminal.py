"""A game in a terminal: pictures as half blocks in 24-bit colour, keys read one by one."""

from __future__ import annotations

import os
import select
import shutil
import sys
import textwrap
from types import TracebackType

import numpy as np

ESCAPES = {"[A": "up", "[B": "down", "[C": "right", "[D": "left", "[5~": "pageup", "[6~": "pagedown"}
NAMES = {"\r": "enter", "\n": "enter", " ": "space", "\x1b": "escape"}


def half_blocks(image: np.ndarray) -> str:
    """Return an image (H, W, 3) uint8 as lines of text, two pixels per character; an odd last row is left out.

    >>> half_blocks(np.zeros((2, 1, 3), np.uint8)) == "\\x1b[38;2;0;0;0m\\x1b[48;2;0;0;0m\\u2580\\x1b[0m"
    True
    """
    lines = []
    for top, bottom in zip(image[0::2], image[1::2]):
        parts, last = [], None
        for upper, lower in zip(top.tolist(), bottom.tolist()):
            if (upper, lower) != last:
                parts.append("\x1b[38;2;{};{};{}m\x1b[48;2;{};{};{}m".format(*upper, *lower))
                last = (upper, lower)
            parts.append("\u2580")
        lines.append("".join(parts) + "\x1b[0m")
    return "\n".join(lines)


class Terminal:
    """Shows pictures on stdout and reads keys from stdin; use it as a context, which puts the terminal back."""

    def __enter__(self) -> Terminal:
        import termios
        import tty

        self._file = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._file)
        tty.setcbreak(self._file)
        sys.stdout.write("\x1b[?1049h\x1b[?25l")
        sys.stdout.flush()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import termios

        termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)
        sys.stdout.write("\x1b[0m\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()

    def show(self, image: np.ndarray, below: str) -> None:
        """Draw a picture as large as fits, with text below."""
        import cv2

        columns, rows = shutil.get_terminal_size((100, 40))
        # No-break spaces keep a key and what it does on one line.
        parts = (part.replace(" ", "\u00a0") for part in below.split("  |  "))
        lines = [line.replace("\u00a0", " ") for line in textwrap.wrap(" | ".join(parts), columns - 1)]
        scale = min((columns - 1) / image.shape[1], 2 * (rows - 1 - len(lines)) / image.shape[0])
        size = (max(1, int(image.shape[1] * scale)), max(2, int(image.shape[0] * scale) // 2 * 2))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        sys.stdout.write("\x1b[H" + half_blocks(small) + "\x1b[0J\n" + "\n".join(lines))
        sys.stdout.flush()

    def key(self, seconds: float | None = None) -> str:
        """Return the name of the next key; "" when none came within ``seconds``."""
        ready, _, _ = select.select([self._file], [], [], seconds)
        if not ready:
            return ""
        text = os.read(self._file, 8).decode(errors="ignore")
        if text[:1] == "\x1b" and len(text) > 1:
            return ESCAPES.get(text[1:].replace("O", "["), "")
        return NAMES.get(text[:1], text[:1].lower())


def usable() -> bool:
    """Return whether stdin and stdout are a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()
