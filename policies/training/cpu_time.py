"""CPU seconds of a run: user and system time of the driver and of all its Ray workers, as the design defines them."""

from __future__ import annotations

import os
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class CpuMeter:
    """Counts from its creation on. Workers that end keep what they had used at the last reading.

    Limits: without /proc (macOS, Windows) only the driver is counted.
    """

    def __init__(self) -> None:
        """Start counting now."""
        self._last: dict[int, float] = {}
        self._start = self._total()

    def seconds(self) -> float:
        """Return CPU seconds since the creation."""
        return self._total() - self._start

    def _total(self) -> float:
        for pid in ray_workers(os.getpid()):
            used = _used(pid)
            if used is not None:
                self._last[pid] = used
        own = os.times()
        return own.user + own.system + sum(self._last.values())


def ray_workers(root: int) -> list[int]:
    """Return the process ids of Ray workers among the descendants of ``root``."""
    children: dict[int, list[int]] = {}
    for entry in _processes():
        parent = _parent(entry)
        if parent is not None:
            children.setdefault(parent, []).append(entry)
    found: list[int] = []
    pending = [root]
    while pending:
        below = children.get(pending.pop(), [])
        pending.extend(below)
        found.extend(pid for pid in below if _is_worker(pid))
    return found


def _processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command, in parentheses, may hold spaces: fields are counted after it.
    return text.rpartition(")")[2].split()


def _parent(pid: int) -> int | None:
    fields = _stat(pid)
    return None if fields is None else int(fields[1])


def _used(pid: int) -> float | None:
    fields = _stat(pid)
    return None if fields is None else (int(fields[11]) + int(fields[12])) / _TICK


def _is_worker(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::")
    except OSError:
        return False
