"""The tables of the navigation comparison: one row per agent, one column per task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

METRICS = {"spl": "SPL", "success": "Success"}


def rows_of(tasks: Mapping[str, Mapping[str, Any]], first: str = "octree + graph") -> list[str]:
    """Return Markdown lines: SPL and success with their intervals, agents as rows, tasks as columns."""
    cells = {
        name: {**({first: task["metrics"]} if task["metrics"] else {}), **task["controls"]}
        for name, task in tasks.items()
    }
    names = [name for name, found in cells.items() if found]
    agents = list(dict.fromkeys(agent for name in names for agent in cells[name]))
    lines: list[str] = []
    for metric, title in METRICS.items():
        lines += [f"| {title} | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
        for agent in agents:
            items = [cells[name].get(agent, {}).get(metric) for name in names]
            lines.append(f"| {agent} | {' | '.join(map(_cell, items))} |")
        lines.append("")
    return lines


def _cell(item: Mapping[str, Any] | None) -> str:
    if not item or item.get("mean") is None:
        return "-"
    return f"{item['mean']:.2f} [{item['low']:.2f}, {item['high']:.2f}]"
