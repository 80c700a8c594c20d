"""The Markdown of suites of questions: memories and controls down, kinds, costs and ages across."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from embodied_mem.stream.house_tour.questions import KINDS

_COSTS = {
    "bytes": "bytes",
    "tokens": "tokens",
    "decode_ms": "decode",
    "encode_ms": "encode",
    "write_ms": "write",
    "retrieve_ms": "retrieve",
    "answer_ms": "answer",
}


def render_questions(result: Mapping[str, Any]) -> list[str]:
    """Return the lines of a result of `evaluation.question_suites`."""
    first = result["config"]["memories"][0]
    lines = []
    whole = {first: result["metrics"], **result["controls"]}
    figures = sorted(
        {key for column in whole.values() for key in column if not key.startswith("success_")} - {"success"}
    )
    figures += [key for key in result["metrics"] if key.endswith("_10h_minus_2min")]
    if figures:
        lines += ["**over all lengths**", "", *_head(["accuracy", *figures])]
        lines += [
            _row(name, [_rate(c.get("success")), *(_plain(c.get(k)) for k in figures)]) for name, c in whole.items()
        ]
        lines.append("")
    for task, found in result["tasks"].items():
        columns = {name: c for name, c in {first: found["metrics"], **found["controls"]}.items() if c}
        lines += [f"**{task}**, {found['episodes']} streams: accuracy", "", *_head(["all", *KINDS])]
        for name, column in columns.items():
            kinds = [_plain(column.get(f"success_{kind}")) for kind in KINDS]
            lines.append(_row(name, [_rate(column["success"]), *kinds]))
        lines += ["", f"**{task}**: cost, milliseconds of CPU time", "", *_head([*_COSTS.values(), "p95, wall"])]
        for name, column in columns.items():
            costs = [_plain(column.get(key)) for key in (*_COSTS, "wall_p95_ms")]
            lines.append(_row(name, costs))
        lines += ["", f"**{task}**: accuracy by age of the evidence, share of the stream so far", ""]
        lines += _head([f"{k / 10:.1f}-{(k + 1) / 10:.1f}" for k in range(10)])
        for name, column in columns.items():
            lines.append(_row(name, [_plain(column.get(f"success_age_{k}")) for k in range(10)]))
        lines.append("")
    return lines


def _head(columns: list[str]) -> list[str]:
    return [f"| memory | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]


def _row(name: str, cells: list[str]) -> str:
    return f"| `{name}` | {' | '.join(cells)} |"


def _plain(item: Any) -> str:
    value = item.get("mean") if isinstance(item, Mapping) else None
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _rate(item: Any) -> str:
    if not isinstance(item, Mapping) or item.get("mean") is None:
        return "-"
    return (
        f"{item['mean']:.3f} [{item['low']:.3f}, {item['high']:.3f}]" if item.get("low") is not None else _plain(item)
    )
