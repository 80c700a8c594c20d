"""HouseTourQA: from answers to accuracy per kind and per tenth of age, costs per stage, and what was to be reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from embodied_mem.evaluation.house_tour_cells import CellKey, Record, StreamKey
from embodied_mem.evaluation.statistics import summarise
from embodied_mem.results import metric
from embodied_mem.stream.house_tour.questions import KINDS

STAGES = ("write_ms", "retrieve_ms", "answer_ms")
TARGETS = {"full_minus_blind": 0.30, "kept": 0.85, "ten_hours": 0.05, "ratio_answer": 1.2}
"""What was to be reached: full history over blind, share of that a memory keeps at 1 %, loss and time over length."""
_TENTHS = 10
Metrics = dict[str, Any]
Pair = tuple[Record, Record]
"""A stream and one cell of it."""


def columns(
    streams: Mapping[StreamKey, Record], cells: Mapping[CellKey, Record], length: str, names: Mapping[str, int]
) -> dict[str, Metrics]:
    """Return condition -> metrics of one task.

    Args:
        streams: by key.
        cells: by key.
        length: of the task's streams.
        names: condition -> its bytes, 0 for none.
    """
    keys = sorted(key for key in streams if key.length == length)
    found = {}
    for name, nbytes in names.items():
        pairs = [(streams[k], cells[c]) for k in keys if (c := CellKey(*k, name, nbytes)) in cells]
        if pairs:
            found[name] = _column(pairs)
    return found


def _column(pairs: Sequence[Pair]) -> Metrics:
    """Return the metrics of one condition over some streams."""
    right, kinds, ages = [], [], []
    for stream, cell in pairs:
        asked = stream["questions"]
        right.append(np.array([float(c == q["answer"]) for c, q in zip(cell["choice"], asked)]))
        kinds.append(np.array([q["kind"] for q in asked]))
        ages.append(np.array([-1.0 if q["age"] is None else q["age"] for q in asked]))
    found: Metrics = {"success": rate(right)}
    for kind in KINDS:
        found[f"success_{kind}"] = rate([r[k == kind] for r, k in zip(right, kinds)])
    for tenth in range(_TENTHS):
        low, high = tenth / _TENTHS, (tenth + 1) / _TENTHS + (tenth == _TENTHS - 1)
        found[f"success_age_{tenth}"] = rate([r[(a >= low) & (a < high)] for r, a in zip(right, ages)])
    chosen = [c is not None for _, cell in pairs for c in cell["choice"]]
    found["unparsed_rate"] = metric(1 - float(np.mean(chosen)) if chosen else None, n=len(chosen))
    for key in ("decode_ms", "encode_ms"):
        found[key] = metric(float(np.mean([stream[key] for stream, _ in pairs])), n=len(pairs))
    for key in STAGES:
        # means: a clock of CPU time may stand still over a short span, so that most of the values are 0
        values, weights = _values(pairs, key), _frames(pairs) if key == "write_ms" else None
        known = len(values) and (weights is None or weights.sum() > 0)
        found[key] = metric(float(np.average(values, weights=weights)) if known else None, n=len(values))
    waits = _values(pairs, "wall_ms")
    found["wall_p95_ms"] = metric(float(np.percentile(waits, 95)) if len(waits) else None, n=len(waits))
    for key in ("bytes", "tokens"):
        values = _values(pairs, key)
        found[key] = metric(float(values.max()) if len(values) else None, n=len(values))
    return found


def _values(pairs: Sequence[Pair], key: str) -> np.ndarray:
    return np.concatenate([np.asarray(cell[key], np.float64) for _, cell in pairs])


def _frames(pairs: Sequence[Pair]) -> np.ndarray:
    """Return how many frames were written before each question and after the one before it."""
    asked = [np.floor([q["ask_s"] for q in stream["questions"]]) for stream, _ in pairs]
    return np.concatenate([np.diff(seconds, prepend=-1.0) for seconds in asked])


def rate(streams: Sequence[np.ndarray]) -> Metrics:
    """Return a rate whose interval resamples streams, then the questions of each; ``streams`` holds (n,) 0 or 1."""
    found = summarise([[values] for values in streams], "rate")
    named = found["interval"] and found["interval"].replace("checkpoints", "streams")
    return {**found, "interval": named}


def overall(tasks: Mapping[str, Mapping[str, Metrics]], name: str) -> Metrics:
    """Return one condition over all tasks: accuracy of each, what is kept of the history, 10 hours beside 2 minutes.

    Args:
        tasks: task -> condition -> metrics.
        name: the condition.
    """
    found: Metrics = {}
    rows = {task: table[name] for task, table in tasks.items() if name in table}
    total = sum(row["success"]["n"] for row in rows.values())
    right = sum(row["success"]["mean"] * row["success"]["n"] for row in rows.values() if row["success"]["n"])
    found["success"] = metric(right / total if total else None, n=total)
    for task, row in rows.items():
        found[f"success_{task}"] = row["success"]
        kept = kept_share(tasks[task], name)
        if kept is not None:
            found[f"kept_{task}"] = metric(kept, n=row["success"]["n"])
    if "short" in rows and "very_long" in rows:
        for kind in ("last", "what"):
            pair = [rows[task][f"success_{kind}"]["mean"] for task in ("very_long", "short")]
            if None not in pair:
                found[f"success_{kind}_10h_minus_2min"] = metric(pair[0] - pair[1])
        costs = [
            sum(rows[task][key]["mean"] for key in ("retrieve_ms", "answer_ms")) for task in ("very_long", "short")
        ]
        found["ratio_answer_10h_over_2min"] = metric(costs[0] / costs[1] if costs[1] else None)
    return found


def kept_share(table: Mapping[str, Metrics], name: str) -> float | None:
    """Return (condition - blind) / (full history - blind), None where a control is missing or there is nothing."""
    if not {"blind", "full_history", name} <= set(table):
        return None
    blind, full, own = (table[key]["success"]["mean"] for key in ("blind", "full_history", name))
    return (own - blind) / (full - blind) if None not in (blind, full, own) and full > blind else None


def verdicts(tasks: Mapping[str, Mapping[str, Metrics]], memories: Sequence[str]) -> list[str]:
    """Return one sentence per target: what was measured, and whether it was reached."""
    lines = []
    for task, table in tasks.items():
        if not {"blind", "full_history"} <= set(table):
            continue
        full, blind = (table[name]["success"]["mean"] for name in ("full_history", "blind"))
        if full is None or blind is None:
            continue
        gap = full - blind
        lines.append(_line(f"{task}: full history - blind = {gap:.3f}", ">=", TARGETS["full_minus_blind"], gap))
        kept = {name: kept_share(table, name) for name in memories if name in table}
        known = {name: share for name, share in kept.items() if share is not None}
        if known and task == "long_tight":
            best = max(known, key=lambda name: known[name])
            words = f"{task}: the best memory at 1 % of the bytes, {best}, keeps {known[best]:.3f}"
            lines.append(_line(words, ">=", TARGETS["kept"], known[best]))
    lead = overall(tasks, memories[0]) if memories else {}
    for kind in ("last", "what"):
        item = lead.get(f"success_{kind}_10h_minus_2min")
        if item is not None:
            words = f"{memories[0]}, {kind}: 10 hours - 2 minutes = {item['mean']:.3f}"
            lines.append(_line(words, ">=", -TARGETS["ten_hours"], item["mean"]))
    item = lead.get("ratio_answer_10h_over_2min")
    if item is not None and item["mean"] is not None:
        words = f"{memories[0]}: time of retrieval and answer, 10 hours over 2 minutes = {item['mean']:.3f}"
        lines.append(_line(words, "<=", TARGETS["ratio_answer"], item["mean"]))
    return lines


def _line(words: str, sign: str, target: float, value: float) -> str:
    reached = value >= target if sign == ">=" else value <= target
    return f"{words} (target {sign} {target:g}: {'reached' if reached else 'missed'})"
