"""Scores beside their controls: a row per condition with a dot, its interval, the chance level, and the numbers."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from embodied_mem.viewer.svg import short

ABOUT = {
    "agent": "the agent as it is",
    "none": "same preset trained without memory",
    "shuffled": "every step, another episode's memory",
    "oracle": "scripted optimum, sees the hidden state",
}
COLORS = {"agent": "agent", "none": "none", "wiped": "wiped", "shuffled": "shuffled", "oracle": "oracle"}
Metrics = Mapping[str, Mapping[str, Any]]


def comparison(
    metrics: Metrics, controls: Mapping[str, Metrics | None], reasons: Mapping[str, str], chance: Any
) -> str:
    """Return the table of one task.

    Args:
        metrics: the agent's.
        controls: metrics by control, None where it could not be run.
        reasons: why, by control.
        chance: success without memory, or None.
    """
    paired = bool(controls)
    rows = [_row("agent", metrics, "", chance, paired)]
    rows += [_row(name, found, reasons.get(name, ""), chance, paired) for name, found in controls.items()]
    axis = "".join(f'<span style="left:{100 * value}%">{value:g}</span>' for value in (0, 0.25, 0.5, 0.75, 1))
    difference = '<th class="num">agent minus control</th>' if paired else ""
    head = (
        f'<th>condition</th><th class="plot"><div class="axis">{axis}</div></th>'
        f'<th class="num">success</th><th class="num">95 % interval</th>{difference}'
        '<th class="num">return</th><th class="num">episodes</th>'
    )
    return _table("forest", head, "".join(rows))


def _table(kind: str, head: str, rows: str) -> str:
    inside = f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="scroll"><table class="{kind}">{inside}</table></div>'


def color_of(condition: str) -> str:
    """Return the CSS class of a condition."""
    return "k-" + COLORS.get(condition.partition(":")[0], "other")


def about(condition: str) -> str:
    """Return what a condition is, in a few words."""
    name, _, argument = condition.partition(":")
    if name == "wiped":
        return f"memory cleared every {argument} steps"
    return ABOUT.get(name, "")


def verdict(metrics: Metrics, controls: Mapping[str, Metrics | None]) -> str:
    """Return a sentence (HTML) on whether memory earned the score: its interval against all controls but the oracle."""
    own = metrics.get("success") or {}
    if own.get("mean") is None:
        return "This evaluation reports no success rate."
    lead = f"The agent succeeds in <strong>{percent(own['mean'])}</strong> of the episodes"
    rivals = {
        name: found["success"]
        for name, found in controls.items()
        if found and name != "oracle" and (found.get("success") or {}).get("mean") is not None
    }
    if not rivals:
        return lead + ". No control was run that takes its memory away, so this says nothing about memory yet."
    beaten = [name for name, found in rivals.items() if own["low"] is not None and own["low"] > (found["high"] or 1.0)]
    best = max(rivals, key=lambda name: rivals[name]["mean"])
    best_text = f"{percent(rivals[best]['mean'])} (<em>{html.escape(best)}</em>)"
    if len(beaten) == len(rivals):
        return f"{lead}; with its memory taken away, in at most {best_text}. No interval overlaps the agent's."
    left = ", ".join(f"<em>{html.escape(name)}</em>" for name in rivals if name not in beaten)
    return f"{lead}; the best control reaches {best_text}. The interval of {left} reaches into the agent's."


def percent(value: float) -> str:
    """Return a rate as a percentage without needless decimals."""
    digits = 1 if 0 < value < 0.1 or 0.99 < value < 1 else 0
    return f"{100 * value:.{digits}f}\u00a0%"


def _row(name: str, metrics: Metrics | None, reason: str, chance: Any, paired: bool) -> str:
    label = (
        f'<th scope="row"><span class="dot {color_of(name)}"></span>{html.escape(name)}'
        f"<small>{html.escape(about(name))}</small></th>"
    )
    if metrics is None:
        return (
            f'<tr class="absent">{label}<td colspan="6">not run: {html.escape(reason or "no reason given")}</td></tr>'
        )
    success = metrics.get("success") or {}
    marks = f'<i class="chance" style="left:{100 * float(chance):.2f}%"></i>' if chance is not None else ""
    if success.get("mean") is not None:
        low, high = success.get("low"), success.get("high")
        if low is not None and high is not None:
            marks += f'<i class="range" style="left:{100 * low:.2f}%;width:{max(100 * (high - low), 0.3):.2f}%"></i>'
        marks += f'<i class="mean" style="left:{100 * success["mean"]:.2f}%"></i>'
    difference = f'<td class="num">{_signed(metrics.get("success_drop"))}</td>' if paired else ""
    return (
        f'<tr class="{color_of(name)}">{label}<td class="plot"><div class="bar">{marks}</div></td>'
        f'<td class="num strong">{_mean(success, 3)}</td><td class="num">{interval(success)}</td>'
        f"{difference}"
        f'<td class="num">{_mean(metrics.get("return") or {}, 2)}</td>'
        f'<td class="num">{success.get("n") or (metrics.get("return") or {}).get("n") or ""}</td></tr>'
    )


def interval(metric: Mapping[str, Any]) -> str:
    """Return ``low - high`` with three decimals, or nothing."""
    low, high = metric.get("low"), metric.get("high")
    return "" if low is None or high is None else f"{low:.3f} – {high:.3f}"


def all_metrics(metrics: Metrics, controls: Mapping[str, Metrics | None]) -> str:
    """Return the table of every metric of every condition, for the folded part of the report."""
    conditions = {"agent": metrics, **{name: found for name, found in controls.items() if found}}
    names = list(dict.fromkeys(name for found in conditions.values() for name in found))
    head = "".join(f'<th class="num">{html.escape(name)}</th>' for name in conditions)
    rows = []
    for name in names:
        cells = "".join(f'<td class="num">{_full(found.get(name))}</td>' for found in conditions.values())
        rows.append(f'<tr><th scope="row"><code>{html.escape(name)}</code></th>{cells}</tr>')
    return _table("plain", f"<th>metric</th>{head}", "".join(rows))


def _full(metric: Mapping[str, Any] | None) -> str:
    if not metric or metric.get("mean") is None:
        return '<span class="muted">–</span>'
    low, high = metric.get("low"), metric.get("high")
    between = "" if low is None or high is None else f"<small>{short(low)} – {short(high)}</small>"
    return f"{short(metric['mean'])}{between}"


def _mean(metric: Mapping[str, Any], digits: int) -> str:
    value = metric.get("mean")
    return '<span class="muted">–</span>' if value is None else f"{value:.{digits}f}"


def _signed(metric: Mapping[str, Any] | None) -> str:
    if not metric or metric.get("mean") is None:
        return ""
    low, high = metric.get("low"), metric.get("high")
    between = "" if low is None or high is None else f"<small>{_plus(low)} to {_plus(high)}</small>"
    return f"{_plus(metric['mean'])}{between}"


def _plus(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
