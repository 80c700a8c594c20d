"""What a memory keeps, merges and lets go, seen from outside: two snapshots tell what happened between them.

    kept     frames that are held whole (entries of weight 1)
    merged   frames that an entry stands for together with others
    let go   all others; kept + merged + let go == frames written

An entry that is gone was merged where a heavier one now spans its time, else it was let go. Frames that were written
and let go between two looks show in the counts alone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from embodied_mem.stream.entry import Entry
from embodied_mem.stream.evidence import Snapshot

BARS = 240
"""Bars of one store at most; of more entries neighbours are drawn as one."""
_LOG = 40
_Key = tuple[float, float, float, int]


class Timeline:
    """Follows one memory; `look` is called with snapshots in order."""

    def __init__(self) -> None:
        self._before: dict[str, dict[_Key, Entry]] = {}
        self._version = -1
        self.log: deque[dict[str, Any]] = deque(maxlen=_LOG)
        """The latest changes, oldest first: what, t0, t1, frames."""

    def look(self, snapshot: Snapshot) -> dict[str, Any]:
        """Return what there is to draw, JSON-able.

        Returns:
            ``until_s`` (None before the first frame), ``version``, ``kept``, ``merged``, ``let_go`` (frames),
            ``stores`` (name, entries, frames, bars of [t0, t1, frames, entries]), ``log``.
        """
        if snapshot.version != self._version:
            self._follow(snapshot)
            self._version = snapshot.version
        kept, merged, gone = counts(snapshot)
        return {
            "until_s": snapshot.until_s if math.isfinite(snapshot.until_s) else None,
            "version": snapshot.version,
            "kept": kept,
            "merged": merged,
            "let_go": gone,
            "stores": [
                {"name": name, "entries": len(part), "frames": round(sum(e.weight for e in part)), "bars": bars(part)}
                for name, part in snapshot.stores.items()
                if part
            ],
            "log": list(self.log),
        }

    def _follow(self, snapshot: Snapshot) -> None:
        if snapshot.version < self._version:
            self._before = {}
        now = {name: {_key(e): e for e in part} for name, part in snapshot.stores.items()}
        everything = [e for part in snapshot.stores.values() for e in part]
        spans = np.array([(e.t0, e.t1, e.weight) for e in everything], np.float64).reshape(-1, 3)
        held = {key for part in now.values() for key in part}
        found: list[dict[str, Any]] = []
        for name, part in self._before.items():
            gone = [e for key, e in part.items() if key not in now.get(name, {}) and key not in held]
            found += [_fate(e, spans) for e in gone]
        # several entries that one cluster took in are one line
        for line in {(item["what"], item["t0"], item["t1"]): item for item in found}.values():
            self.log.append(line)
        self._before = now


def counts(snapshot: Snapshot) -> tuple[int, int, int]:
    """Return frames kept whole, merged, and let go; their sum is the frames written."""
    whole = {e.number for part in snapshot.stores.values() for e in part if e.weight == 1}
    covered = np.zeros((0, 3))
    frames = 0.0
    for part in sorted(snapshot.stores.values(), key=lambda part: -sum(e.weight for e in part)):
        rows = np.array([(e.t0, e.t1, e.weight) for e in part], np.float64).reshape(-1, 3)
        inside = _spanned(rows, covered)
        frames += rows[~inside, 2].sum()
        covered = np.concatenate([covered, rows])
    known = min(snapshot.version, max(round(frames), len(whole)))
    return len(whole), known - len(whole), snapshot.version - known


def bars(part: Sequence[Entry]) -> list[list[float]]:
    """Return [t0, t1, frames, entries] per bar, in time order; at most `BARS`."""
    rows = sorted((e.t0, e.t1, e.weight) for e in part)
    if len(rows) <= BARS:
        return [[round(t0, 3), round(t1, 3), round(weight), 1] for t0, t1, weight in rows]
    groups = [group for group in np.array_split(np.array(rows), BARS) if len(group)]
    return [
        [round(float(g[:, 0].min()), 3), round(float(g[:, 1].max()), 3), round(float(g[:, 2].sum())), len(g)]
        for g in groups
    ]


def _key(e: Entry) -> _Key:
    return e.t0, e.t1, e.weight, e.number


def _fate(e: Entry, spans: np.ndarray) -> dict[str, Any]:
    over = (spans[:, 0] <= e.t0) & (spans[:, 1] >= e.t1) & (spans[:, 2] > e.weight)
    if not over.any():
        return {"what": "let go", "t0": round(e.t0, 3), "t1": round(e.t1, 3), "frames": round(e.weight)}
    into = spans[over][np.argmin(spans[over, 1] - spans[over, 0])]
    return {
        "what": "merged",
        "t0": round(float(into[0]), 3),
        "t1": round(float(into[1]), 3),
        "frames": round(float(into[2])),
    }


def _spanned(rows: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Return (N,) bool: which rows (t0, t1, weight) lie within one of ``by`` of at least their weight."""
    if not len(by) or not len(rows):
        return np.zeros(len(rows), bool)
    within = (by[None, :, 0] <= rows[:, None, 0]) & (by[None, :, 1] >= rows[:, None, 1])
    heavy = by[None, :, 2] >= rows[:, None, 2]
    return np.asarray((within & heavy).any(1))
