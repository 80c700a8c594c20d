"""Events as sparse codes: what a stretch of the stream showed, in a few bytes, so that a day fits where frames do not.

    event     frames alike to their mean: cos(x, sum of the event) >= ``same``; ``patience`` frames in a row that are
              not open the next one, ``max_len`` frames end one
    pooled    v_d = sign(s_d) |s_d|^(1/p),  s_d = mean over frames of sign(x_d) |x_d|^p;  p = 1 is the mean, a larger p
              keeps what was shown for a moment
    code      the ``parts`` greatest |v_d|: their numbers d (16 bits) and values (8 bits, scaled by the greatest)
    full      of more than ``events`` the pairs of the least  (1 - cos) (w_a w_b / (w_a + w_b))^alpha  become one, an
              eighth of all at a time: the pooled means are averaged by frames, the span is that of both

An event takes 24 + 3 ``parts`` bytes, a frame of D numbers in float32 takes 4 D. Segmentation by change is that of
event memories (EM-LLM, HippoMM), the merge is that of Flash-VStream; that an event is a code and no picture is ours.
A read decodes what it gives. Without a query that is an even spread over time, else what has the greatest product with
the query, counted in the codes.

Limits: tokens of a frame are averaged; numbers beyond the ``parts`` greatest are lost, so features should be sparse or
nearly so; key frames and texts are not kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from embodied_mem.errors import UsageError
from embodied_mem.registry import register
from embodied_mem.stream.entry import Entry
from embodied_mem.stream.evidence import Evidence, Lines, Snapshot, Span
from embodied_mem.stream.memory import StreamMemory, check_at_least

_EPS = 1e-8
_WIDEST = 1 << 15
_BLOCK = 512
_LEVELS = 127
Arrays = dict[str, np.ndarray]
EVENTS = ("times", "weights", "which", "levels", "scale")
"""Arrays with one row per event: (N, 2) float64 s, (N,) float32 frames, (N, K) int16, (N, K) int8, (N,) float32."""


@dataclass(frozen=True)
class SparseEventsConfig:
    """Events and their codes."""

    events: int = 512
    """Finished events that are held."""
    parts: int = 24
    """Numbers kept of an event."""
    same: float = 0.5
    """Least cosine of a frame with its event."""
    patience: int = 2
    """Frames in a row below it that open an event."""
    max_len: int = 64
    """Longest event, frames."""
    power: float = 3.0
    """p of the mean over the frames of an event."""
    alpha: float = 0.5
    """Exponent of the weights where events merge: 0 favours recent ones, 1 old ones."""

    def __post_init__(self) -> None:
        check_at_least(self, events=2, parts=1, same=-1.0, patience=1, max_len=1, power=1.0, alpha=0.0)


@register(
    "stream_memory",
    "sparse_events",
    family="events",
    source="this project; events of EM-LLM's kind, merged as in Flash-VStream",
    long_term=True,
    small={"events": 8, "parts": 5, "max_len": 12},
)
class SparseEvents(StreamMemory):
    """Events kept as sparse codes of 8 bits; no pictures."""

    Config = SparseEventsConfig

    def start(self) -> None:
        """Begin without events; arrays are replaced by a write, never changed."""
        self.stores = {}
        # open: first and last second, frames; waiting: frames that do not fit the open event, with their seconds
        self.arrays = {
            **_none(0),
            "open": np.zeros(3),
            "sum": np.zeros(0, np.float32),
            "raised": np.zeros(0, np.float32),
            "waiting": np.zeros((0, 0), np.float32),
            "waiting_s": np.zeros(0),
        }

    def capacity(self, tokens: int, width: int, extra: int) -> int:
        """Bytes of the codes, and of the open event with what waits."""
        c = self.config
        code = 24 + 3 * min(c.parts, width)
        return c.events * code + 24 + 8 * width + (c.patience - 1) * (4 * width + 8)

    def absorb(self, entry: Entry) -> None:
        """Add the frame to the open event, let it wait, or open the next event."""
        c, a, x = self.config, self.arrays, entry.key
        if not len(a["sum"]):
            if len(x) > _WIDEST:
                raise UsageError(f"expected tokens of width <= {_WIDEST} for sparse_events, got {len(x)}")
            a |= _none(min(c.parts, len(x))) if not len(a["times"]) else {}
            a["waiting"] = np.zeros((0, len(x)), np.float32)
        rows, times = np.concatenate([a["waiting"], x[None]]), np.append(a["waiting_s"], entry.t0)
        held = int(a["open"][2])
        fits = not held or _cosine(x, a["sum"]) >= c.same
        if not fits and len(rows) < c.patience:
            a["waiting"], a["waiting_s"] = rows, times
            return
        if not fits:
            self._close()
            held = 0
        # what waited and is followed by a frame that fits was a glance aside
        raised = _raised(rows, c.power).sum(0)
        a["sum"] = rows.sum(0) + (a["sum"] if held else np.float32(0))
        a["raised"] = raised + (a["raised"] if held else np.float32(0))
        a["open"] = np.array([a["open"][0] if held else times[0], times[-1], held + len(rows)])
        a["waiting"], a["waiting_s"] = rows[:0], times[:0]
        if held + len(rows) >= c.max_len:
            self._close()

    def _close(self) -> None:
        a = self.arrays
        new = _event(a["raised"], a["open"], self.config)
        a |= {name: np.concatenate([a[name], new[name]]) for name in EVENTS}
        a["open"] = np.zeros(3)
        if len(a["times"]) > self.config.events:
            a |= merged({name: a[name] for name in EVENTS}, len(a["sum"]), self.config)

    def _recall(self) -> Any:
        return partial(_read, self.config, dict(self.arrays))


def coded(rows: np.ndarray, parts: int) -> Arrays:
    """Return the codes of rows (N, D) float32: ``which`` (N, K) int16, ``levels`` (N, K) int8, ``scale`` (N,) float32.

    K is ``parts``, or D where that is less.
    """
    most = min(parts, rows.shape[1])
    which = np.argpartition(-np.abs(rows), most - 1, axis=1)[:, :most]
    values = np.take_along_axis(rows, which, 1)
    scale = np.abs(values).max(1, initial=0.0)
    levels = np.rint(values * (_LEVELS / np.maximum(scale, _EPS))[:, None])
    return {"which": which.astype(np.int16), "levels": levels.astype(np.int8), "scale": scale.astype(np.float32)}


def decoded(codes: Arrays, width: int, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Return (n, width) float32: the rows that codes stand for."""
    which, levels, scale = (codes[name][rows] for name in ("which", "levels", "scale"))
    out = np.zeros((len(scale), width), np.float32)
    np.put_along_axis(out, which.astype(np.int64), levels * (scale / np.float32(_LEVELS))[:, None], 1)
    return out


def merged(events: Arrays, width: int, config: SparseEventsConfig) -> Arrays:
    """Return events of which the most alike pairs became one, at least one pair and an eighth of ``events`` at most."""
    rows, weights = decoded(events, width), events["weights"]
    cost, partner = _nearest(rows, weights, config.alpha)
    keep, left = np.ones(len(rows), bool), max(1, config.events // 8)
    free, pairs = keep.copy(), []
    for a in np.argsort(cost, kind="stable").tolist():
        b = int(partner[a])
        if left and free[a] and free[b]:
            free[[a, b]], left = False, left - 1
            pairs.append((min(a, b), max(a, b)))
    first, second = (np.array(side) for side in zip(*pairs))
    total = weights[first] + weights[second]
    share = (weights[second] / total)[:, None]
    p = config.power
    mean = (1 - share) * _raised(rows[first], p) + share * _raised(rows[second], p)
    out = {name: array.copy() for name, array in events.items()}
    for name, array in coded(_raised(mean, 1 / p), events["which"].shape[1]).items():
        out[name][first] = array
    out["weights"][first] = total
    out["times"][first, 0] = np.minimum(events["times"][first, 0], events["times"][second, 0])
    out["times"][first, 1] = np.maximum(events["times"][first, 1], events["times"][second, 1])
    keep[second] = False
    return {name: array[keep] for name, array in out.items()}


def _nearest(rows: np.ndarray, weights: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (N,) the least cost of a merge of every row, and (N,) with which row; block by block."""
    unit = rows / (np.linalg.norm(rows, axis=1, keepdims=True) + _EPS)
    cost, partner = np.empty(len(rows), np.float32), np.empty(len(rows), np.int64)
    for start in range(0, len(rows), _BLOCK):
        part = slice(start, start + _BLOCK)
        w = weights[part, None]
        away = (1 - unit[part] @ unit.T) * (w * weights / (w + weights)) ** np.float32(alpha)
        away[np.arange(len(away)), np.arange(start, start + len(away))] = np.inf
        partner[part] = away.argmin(1)
        cost[part] = away.min(1)
    return cost, partner


def _none(parts: int) -> Arrays:
    return {
        "times": np.zeros((0, 2)),
        "weights": np.zeros(0, np.float32),
        "which": np.zeros((0, parts), np.int16),
        "levels": np.zeros((0, parts), np.int8),
        "scale": np.zeros(0, np.float32),
    }


def _raised(values: np.ndarray, power: float) -> np.ndarray:
    return (np.sign(values) * np.abs(values) ** np.float32(power)).astype(np.float32)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b) / (float(np.linalg.norm(a) * np.linalg.norm(b)) + _EPS)


def _event(raised: np.ndarray, span: np.ndarray, config: SparseEventsConfig) -> Arrays:
    """Return one event as rows of `EVENTS`, from the sum of raised frames and (first second, last second, frames)."""
    pooled = _raised(raised[None] / np.float32(span[2]), 1 / config.power)
    return {"times": span[None, :2], "weights": span[2:].astype(np.float32), **coded(pooled, config.parts)}


def _read(
    config: SparseEventsConfig, arrays: Arrays, snapshot: Snapshot, query: np.ndarray | None, budget: int | None
) -> Evidence:
    events = {name: arrays[name] for name in EVENTS}
    width = arrays["waiting"].shape[1]
    late: list[tuple[np.ndarray, np.ndarray]] = []
    if arrays["open"][2]:
        late.append((arrays["raised"], arrays["open"]))
    if len(arrays["waiting"]):
        seconds = arrays["waiting_s"]
        span = np.array([seconds[0], seconds[-1], len(seconds)])
        late.append((_raised(arrays["waiting"], config.power).sum(0), span))
    for raised, span in late:
        new = _event(raised, span, config)
        events = {name: np.concatenate([events[name], new[name]]) for name in EVENTS}
    ends = events["times"][:, 1]
    rows = np.flatnonzero((ends <= snapshot.until_s) & (ends > snapshot.since_s))
    if budget is not None and len(rows) > budget:
        if query is None:
            rows = rows[np.linspace(0, len(rows) - 1, budget).round().astype(int)]
        else:
            fit = (query.take(events["which"]) * events["levels"]).sum(1) * events["scale"]
            fit = fit if len(rows) == len(fit) else fit[rows]
            rows = np.sort(rows[len(rows) - 1 - np.argsort(-fit[::-1], kind="stable")[:budget]])
    rows = rows[np.argsort(events["times"][rows, 0], kind="stable")]
    times, frames = events["times"][rows], events["weights"][rows]
    return Evidence(
        tokens=torch.from_numpy(decoded(events, width, rows)),
        times=torch.from_numpy(times.copy()),
        frames=(),
        text=Lines(len(rows), partial(_lines, frames, times)),
        version=snapshot.version,
        until_s=snapshot.until_s,
    )


def _lines(frames: np.ndarray, times: np.ndarray) -> tuple[Span, ...]:
    rows = zip(frames.tolist(), times.tolist())
    return tuple(Span(f"{count:.0f} frames from {t0:.2f} s to {t1:.2f} s", t0, t1) for count, (t0, t1) in rows)
