"""What is known about every registered stream memory, computed from the memory itself at one frame shape."""

from __future__ import annotations

import inspect
from typing import Any

from embodied_mem import registry
from embodied_mem.stream.memory import make_stream_memory

TOKENS, WIDTH = 16, 512
"""P and D of the frames that bytes are stated for."""


def describe(name: str) -> dict[str, Any]:
    """Return one record about the stream memory ``name`` with its default config.

    Returns:
        ``name``, ``about``, ``family``, ``source``, and ``bound_bytes``: the most bytes it can take for frames of 16
        tokens of width 512 without key frames, None where it has no bound.

    Raises:
        UsageError: there is no such memory.
    """
    memory, meta = make_stream_memory(name), registry.meta("stream_memory", name)
    return {
        "name": name,
        "about": (inspect.getdoc(type(memory)) or "").split("\n")[0],
        "family": meta.get("family"),
        "source": meta.get("source"),
        "bound_bytes": memory.bound_bytes(TOKENS, WIDTH),
    }
