"""Files from a browser: a name that can only name a file, a size that is counted while it comes in.

Every file gets a name of its own in one folder; the name that the browser gives is only its ending and what people
read. Nothing is ever opened by a path that came over the network.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

from embodied_mem.errors import UsageError

SUFFIXES = frozenset(".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .ogv .wmv .flv .3gp .mjpeg .gif".split())
LONGEST_NAME = 128


class TooLarge(UsageError):
    """A file above the limit."""


def safe_name(name: str) -> str:
    """Return the name of an upload if it is the name of a video and nothing more.

    Raises:
        UsageError: it is empty, too long, names a folder, hides, holds control characters, or is no video.

    >>> safe_name("tour of the house.mp4")
    'tour of the house.mp4'
    """
    if not name or len(name.encode("utf-8", "replace")) > LONGEST_NAME:
        raise UsageError(f"expected a file name of 1 to {LONGEST_NAME} bytes, got {len(name)} characters")
    if re.search(r"[/\\:\x00-\x1f\x7f]", name) or name.startswith(".") or not name.isprintable():
        raise UsageError(f"expected a plain file name without folders, got {name!r}")
    if Path(name).suffix.lower() not in SUFFIXES:
        raise UsageError(f"expected a video ({', '.join(sorted(SUFFIXES))}), got {name!r}")
    return name


def place_for(folder: Path, name: str) -> Path:
    """Return a new path for an upload inside ``folder``; only its ending comes from ``name``.

    Raises:
        UsageError: see `safe_name`.
    """
    suffix = Path(safe_name(name)).suffix.lower()
    path = (folder / f"{secrets.token_hex(8)}{suffix}").resolve()
    if path.parent != folder.resolve():
        raise UsageError(f"expected a file inside the upload folder, got {name!r}")
    return path


async def receive(chunks: AsyncIterator[bytes], path: Path, most: int) -> int:
    """Write what comes in to ``path`` and return its bytes; on any failure nothing stays.

    Raises:
        TooLarge: more than ``most`` bytes come.
        UsageError: nothing comes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    total = 0
    try:
        with open(path, "xb") as stream:
            async for chunk in chunks:
                total += len(chunk)
                if total > most:
                    raise TooLarge(f"expected a file of at most {megabytes(most)}, got more")
                stream.write(chunk)
        if total == 0:
            raise UsageError("expected a video, got 0 bytes")
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return total


def megabytes(count: int) -> str:
    """Return bytes for people.

    >>> megabytes(2_000_000_000)
    '2,000 MB'
    """
    return f"{count / 1e6:,.0f} MB" if count >= 1e6 else f"{count:,} bytes"
