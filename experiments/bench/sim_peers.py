"""What the peer processes of bench ``sim`` share: measure on request, over standard input and output."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable


def serve(make: Callable[[], Callable[[], None]]) -> None:
    """Print ``ready`` (or why not), then answer every line with a number of CPU-seconds by frames per core-second."""
    # Some simulators print to standard output; the answers keep a copy of it for themselves.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        step = make()
        for _ in range(20):
            step()
    except Exception as error:  # any failure of a foreign simulator is a reason, not a crash
        print(f"{type(error).__name__}: {error}".splitlines()[0], file=answers)
        return
    print("ready", file=answers)
    for line in sys.stdin:
        span = float(line)
        frames, began = 0, time.process_time()
        while (taken := time.process_time() - began) < span:
            step()
            frames += 1
        print(frames / taken, file=answers)
