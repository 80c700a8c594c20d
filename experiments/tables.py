"""Turn result files into the Markdown tables that the docs show, so that no number is typed by hand.

python -m embodied_mem.experiments.tables            # rewrite experiments/results/*.md from the *.json beside them
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embodied_mem.experiments.memory_atlas import markdown
from embodied_mem.experiments.navigation.table import rows_of
from embodied_mem.experiments.question_tables import render_questions
from embodied_mem.files import atomic_write_text, read_json

RESULTS = Path(__file__).resolve().parent / "results"


def render(result: Mapping[str, Any]) -> str:
    """Return the Markdown of one result (`results.make_result`): command, machine, metrics, controls, tasks, notes."""
    if "atlas" in result:
        return markdown.render(result)
    machine = result["machine"]
    where = (
        f"{machine['cores']} cores ({machine['processor']}), GPU: {machine['gpu'] or 'none'}, torch {machine['torch']}"
    )
    command = result["config"].get("command_line") or f"embodied-mem {result['command']} {result['name']} --json"
    lines = [f"Command: `{command}`  ", f"Machine: {where}  "]
    facts = [f"seeds {_list(result['seeds'])}"] if result["seeds"] else []
    facts += [f"{result['episodes']} episodes"] if result["episodes"] else []
    facts += [f"{result['env_steps']:,} env steps"] if result["env_steps"] else []
    facts += [f"{result['seconds']:,.0f} s"] if result["seconds"] else []
    if facts:
        lines.append(f"Run: {', '.join(facts)}")
    lines.append("")
    if "memories" in result["config"] and result["command"] == "eval":
        lines += [*render_questions(result), *(f"- {note}" for note in result["notes"])]
        return "\n".join(lines).rstrip() + "\n"
    if result["config"].get("by_setting"):
        lines += [*rows_of(result["tasks"]), *(f"- {note}" for note in result["notes"])]
        return "\n".join(lines).rstrip() + "\n"
    if not result["controls"]:
        lines += [*_metrics(result["metrics"]), ""]
    elif len(result["tasks"]) != 1:
        lines += [*_controls(result["metrics"], result["controls"]), ""]
    for task, content in result["tasks"].items():
        lines += [f"**{task}**", ""]
        metrics = content.get("metrics", {}) if isinstance(content, Mapping) else {}
        controls = content.get("controls") if isinstance(content, Mapping) else None
        lines += _controls(metrics, controls) if controls else _metrics(metrics)
        lines.append("")
    lines += [f"- {note}" for note in result["notes"]]
    return "\n".join(lines).rstrip() + "\n"


def update(folder: Path = RESULTS) -> list[Path]:
    """Write the Markdown beside every JSON result in ``folder``; return the files that changed."""
    changed = []
    for source in sorted(folder.glob("*.json")):
        target, text = source.with_suffix(".md"), render(read_json(source))
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            atomic_write_text(target, text)
            changed.append(target)
    return changed


def _metrics(metrics: Mapping[str, Any]) -> list[str]:
    rows = ["| figure | value | interval | n |", "|---|---:|---:|---:|"]
    for name, item in metrics.items():
        rows.append(f"| `{name}` | {_number(item['mean'])} | {_interval(item)} | {item.get('n') or ''} |")
    return rows


def _controls(metrics: Mapping[str, Any], controls: Mapping[str, Any]) -> list[str]:
    """One column per condition, one row per metric: the agent stands beside its controls."""
    kept = {name: item for name, item in controls.items() if isinstance(item, Mapping)}
    rows = [f"| metric | agent | {' | '.join(kept)} |", "|---|---:|" + "---:|" * len(kept)]
    for name, item in metrics.items():
        cells = [_cell(item), *(_cell(other.get(name)) for other in kept.values())]
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    return rows


def _cell(item: Any) -> str:
    if not isinstance(item, Mapping) or item.get("mean") is None:
        return "-"
    interval = _interval(item)
    return _number(item["mean"]) + (f" {interval}" if interval else "")


def _interval(item: Mapping[str, Any]) -> str:
    if item.get("low") is None or item.get("high") is None:
        return ""
    return f"[{_number(item['low'])}, {_number(item['high'])}]"


def _number(value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _list(values: Any) -> str:
    return ", ".join(str(value) for value in values)


if __name__ == "__main__":
    for path in update():
        print(f"wrote {path.name}", file=sys.stderr)
