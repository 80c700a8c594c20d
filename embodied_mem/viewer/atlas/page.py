"""The HTML page of a memory atlas: heat maps, learning curves, cost against score. One file that loads nothing else."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np

from embodied_mem._version import __version__
from embodied_mem.viewer.atlas.heatmap import heatmap
from embodied_mem.viewer.atlas.scatter import Dot, scatter
from embodied_mem.viewer.curves import Curve, panel
from embodied_mem.viewer.svg import short

COLORS = 12


def render(result: Mapping[str, Any]) -> str:
    """Return the page of an atlas.

    Args:
        result: with the key ``atlas`` as `experiments.memory_atlas.table.make_table` writes it.
    """
    atlas = result["atlas"]
    colors = {name: index % COLORS for index, name in enumerate(atlas["memories"])}
    body = [_head(result), _abilities(atlas), _probes(atlas), _curves(atlas, colors), _costs(atlas, colors)]
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in result["notes"])
    command = html.escape(str(result["config"].get("command_line", "")))
    body.append(f'<h2>How it was run</h2><pre>{command}</pre><ul class="notes">{notes}</ul>')
    body.append(
        f"<footer>embodied-mem {__version__}. This page is one file and loads nothing from the network.</footer>"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Memory atlas · embodied-mem</title><style>{_asset('report.css')}{_asset('atlas.css')}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _head(result: Mapping[str, Any]) -> str:
    atlas, machine = result["atlas"], result["machine"]
    cells = atlas["cells"]
    facts = {
        "memories": str(len(atlas["memories"])),
        "probes": str(len(atlas["probes"])),
        "seeds": ", ".join(map(str, result["seeds"])) or "none",
        "training per cell": f"{result['config']['cpu_seconds']:g} CPU-seconds",
        "cells": f"{cells['done']} of {cells['planned']}",
        "env steps": short(result["env_steps"] or 0),
        "machine": f"{machine['processor']}, {machine['cores']} cores",
    }
    rows = "".join(f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd></div>" for k, v in facts.items())
    return (
        f'<p class="eyebrow">embodied-mem · atlas {html.escape(str(result["name"]))}</p><h1>Memory atlas</h1>'
        f'<p class="lead">{_lead(atlas)}</p><dl class="facts">{rows}</dl>'
    )


def _lead(atlas: Mapping[str, Any]) -> str:
    known = {name: item["mean_score"] for name, item in atlas["memories"].items() if item["mean_score"] is not None}
    if not known:
        return "No memory has been run on every probe yet."
    best = max(known, key=lambda name: known[name])
    return (
        f"Over {len(atlas['abilities'])} abilities, <em>{html.escape(best)}</em> has the highest mean score, "
        f"<strong>{known[best]:.2f}</strong>: 0 is the best that can be done without memory, 1 the oracle."
    )


def _abilities(atlas: Mapping[str, Any]) -> str:
    words = "".join(
        f"<li><b>{html.escape(ability)}</b>: {html.escape(about)}; "
        f"{', '.join(name for name, item in atlas['probes'].items() if ability in item['abilities'])}</li>"
        for ability, about in atlas["abilities"].items()
    )
    return (
        "<h2>What each memory can do</h2>"
        '<p class="note">Score per ability, mean over its probes, seeds and unseen episodes; a framed cell is the '
        "best of its column or has an interval that reaches the best one's. Hover for the interval.</p>"
        f'<div class="scroll">{heatmap(atlas["ability_scores"], list(atlas["abilities"]), atlas["leaders"])}</div>'
        f'<ul class="notes">{words}</ul>'
    )


def _probes(atlas: Mapping[str, Any]) -> str:
    words = "".join(
        f"<li><b>{html.escape(name)}</b>: {html.escape(item['about'])} "
        f"(return without memory {item['memoryless']:g}, oracle {item['oracle']:g})</li>"
        for name, item in atlas["probes"].items()
    )
    return (
        "<h2>Probe by probe</h2>"
        f'<div class="scroll">{heatmap(atlas["probe_scores"], list(atlas["probes"]))}</div>'
        f'<ul class="notes">{words}</ul>'
    )


def _curves(atlas: Mapping[str, Any], colors: Mapping[str, int]) -> str:
    cards = []
    for probe, found in atlas["curves"].items():
        lines = [_curve(name, colors[name], item) for name, item in found.items()]
        if lines:
            levels = [("memoryless", 0.0), ("oracle", 1.0)]
            drawn = panel(lines, f"Score on {probe} while training", False, levels, axis="CPU-seconds")
            cards.append(f'<div class="card"><h3>{html.escape(probe)}</h3>{drawn}</div>')
    if not cards:
        return '<h2>Learning curves</h2><p class="muted">No curve yet.</p>'
    return (
        '<h2>Learning curves</h2><p class="note">Score of the training episodes, whose actions are drawn, over the CPU '
        f'seconds spent; mean over seeds.</p>{_legend(colors)}<div class="panels">{"".join(cards)}</div>'
    )


def _curve(name: str, color: int, item: Mapping[str, Sequence[float]]) -> Curve:
    x, y = np.asarray(item["cpu_seconds"], dtype=float), np.asarray(item["score"], dtype=float)
    return Curve(name, color, x, y, y, y, [(x, y)])


def _legend(colors: Mapping[str, int]) -> str:
    items = "".join(f'<li><i class="s{color}"></i><b>{html.escape(name)}</b></li>' for name, color in colors.items())
    return f'<ul class="legend">{items}</ul>'


def _costs(atlas: Mapping[str, Any], colors: Mapping[str, int]) -> str:
    rows = {name: item for name, item in atlas["memories"].items() if item["mean_score"] is not None}
    cards = []
    for key, cost in (("step_ms", "ms per step of 16 rows"), ("state_bytes", "state bytes per environment")):
        dots = [Dot(name, colors[name], max(item[key], 1e-6), item["mean_score"]) for name, item in rows.items()]
        if dots:
            cards.append(f'<div class="card"><h3>Mean score over {cost}</h3>{scatter(dots, cost)}</div>')
    head = "".join(f'<th class="num">{word}</th>' for word in ("mean score", "env steps/CPU-s", "bytes", "ms/step"))
    lines = "".join(
        f'<tr><th scope="row">{html.escape(name)}<small>{html.escape(str(item["family"]))}</small></th>'
        f'<td class="num">{item["mean_score"]:.2f}</td><td class="num">{item["steps_per_cpu_second"]:,.0f}</td>'
        f'<td class="num">{item["state_bytes"]:,}</td><td class="num">{item["step_ms"]:.3f}</td></tr>'
        for name, item in rows.items()
    )
    table = f"<table><thead><tr><th>memory</th>{head}</tr></thead><tbody>{lines}</tbody></table>"
    return f'<h2>Cost against score</h2><div class="panels">{"".join(cards)}</div><div class="scroll">{table}</div>'


def _asset(name: str) -> str:
    return resources.files("embodied_mem.viewer").joinpath("assets", name).read_text(encoding="utf-8")
