"""The table of an atlas as Markdown: abilities, probes, costs, leaders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def render(result: Mapping[str, Any]) -> str:
    """Return the Markdown of a result of `table.make_table`."""
    atlas, machine = result["atlas"], result["machine"]
    cells = atlas["cells"]
    lines = [
        f"Command: `{result['config']['command_line']}`  ",
        f"Machine: {machine['cores']} cores ({machine['processor']}), torch {machine['torch']}  ",
        f"Run: {cells['done']} of {cells['planned']} cells, seeds {', '.join(map(str, result['seeds']))}, "
        f"{result['config']['cpu_seconds']:g} CPU-seconds each, {result['env_steps'] or 0:,} env steps",
        "",
        "Score per ability, 0 the memoryless optimum and 1 the oracle:",
        "",
        *_matrix(atlas["ability_scores"], list(atlas["abilities"])),
        "",
        "Score per probe:",
        "",
        *_matrix(atlas["probe_scores"], list(atlas["probes"])),
        "",
        "Costs, medians over the cells of a memory:",
        "",
        "| memory | family | mean score | env steps per CPU-second | state bytes | ms per step of 16 rows |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name, item in atlas["memories"].items():
        score = "-" if item["mean_score"] is None else f"{item['mean_score']:.2f}"
        lines.append(
            f"| `{name}` | {item['family']} | {score} | {item['steps_per_cpu_second']:,.0f} | "
            f"{item['state_bytes']:,} | {item['step_ms']:.3f} |"
        )
    lines += ["", "Highest mean first, then those whose interval reaches the first one's:", ""]
    lines += ["| ability | memories |", "|---|---|"]
    for ability, names in atlas["leaders"].items():
        lines.append(f"| {ability} | {', '.join(f'`{name}`' for name in names) or 'none above memoryless'} |")
    lines += ["", *(f"- {note}" for note in result["notes"])]
    return "\n".join(lines) + "\n"


def _matrix(scores: Mapping[str, Mapping[str, Mapping[str, Any]]], columns: Sequence[str]) -> list[str]:
    lines = [f"| memory | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    for memory, row in scores.items():
        lines.append(f"| `{memory}` | {' | '.join(_cell(row[column]) for column in columns)} |")
    return lines


def _cell(item: Mapping[str, Any]) -> str:
    if item["mean"] is None:
        return "-"
    between = "" if item["low"] is None or item["high"] is None else f" [{item['low']:.2f}, {item['high']:.2f}]"
    return f"{item['mean']:.2f}{between}"
