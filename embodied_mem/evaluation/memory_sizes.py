"""Stream memories at equal bytes: the largest size of each whose bound fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from embodied_mem.errors import UsageError
from embodied_mem.stream.memory import StreamMemory, make_stream_memory

SIZES: dict[str, Callable[[int], dict[str, Any]]] = {
    "last_k": lambda n: {"slots": n},
    "uniform": lambda n: {"slots": n},
    "reservoir": lambda n: {"slots": n},
    "flash_vstream": lambda n: {"csm_slots": n, "dam_slots": n, "pool": 1},
    "movie_chat": lambda n: {"long_len": n},
    "em_llm": lambda n: {"events": n},
    "hcam": lambda n: {"chunks": n},
    "xmem": lambda n: {"bank": {"lt_max": n}},
    "omnilive": lambda n: {"clips": n},
    "hippomm": lambda n: {"events": n},
    "videolucy": lambda n: {"nodes": n},
    "dmn_dual": lambda n: {"classes": max(1, n // 8)},
    "slot_buffer": lambda n: {"max_len": n},
    "sparse_events": lambda n: {"events": n},
    "taskmem": lambda n: {"slots": n},
    "tracks": lambda n: {"tracks": n, "tolerance_s": 1e9},
}
"""Memory -> its config of size n; larger n, more bytes."""
_MOST = 1 << 20


def fit(name: str, nbytes: int, tokens: int, width: int) -> tuple[StreamMemory, int]:
    """Return a memory of the registered name with at most ``nbytes``, and its bound.

    A memory without a known size (of the library, or a plug-in) is taken as it is.

    Args:
        name: registered stream memory.
        nbytes: that it may hold.
        tokens: P of a frame.
        width: D.

    Raises:
        UsageError: even the smallest one takes more, or it has no bound.
    """
    size = SIZES.get(name)
    if size is None:
        memory = make_stream_memory(name)
        bound = memory.bound_bytes(tokens, width)
        if bound is None or bound > nbytes:
            raise UsageError(f"expected a memory of at most {nbytes} bytes, {name!r} takes {bound or 'what it likes'}")
        return memory, bound

    def bound_of(n: int) -> float:
        try:
            bound = make_stream_memory(name, **size(n)).bound_bytes(tokens, width)
        except UsageError:
            # sizes below the least that a config takes
            return 0.0
        return float("inf") if bound is None else float(bound)

    low, high = 0, 1
    while high < _MOST and bound_of(high) <= nbytes:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if bound_of(middle) <= nbytes else (low, middle)
    if low == 0 or bound_of(low) == 0.0:
        raise UsageError(f"expected a memory of at most {nbytes} bytes, the smallest {name!r} takes more")
    return make_stream_memory(name, **size(low)), int(bound_of(low))
