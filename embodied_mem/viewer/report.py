"""One self-contained HTML page about a run: curves, scores beside controls, episodes. It loads nothing else."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from embodied_mem._version import __version__
from embodied_mem.files import atomic_write_text
from embodied_mem.viewer.curves import Curve, curve, panel
from embodied_mem.viewer.episode import episode_card
from embodied_mem.viewer.forest import all_metrics, color_of, comparison, verdict
from embodied_mem.viewer.load import EvalRun, Found, Trace, TrainRun, find_runs
from embodied_mem.viewer.svg import short

MAIN_PANELS = (("success_mean", "Success while training", True), ("return_mean", "Return while training", False))
MINOR_PANELS = (
    ("length_mean", "Episode length"),
    ("entropy", "Policy entropy"),
    ("vf_explained_var", "Explained variance"),
)
EPISODES_PER_TASK = 2


def write_report(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of a run folder and return its path.

    Args:
        folder: a training run, an evaluation, or a folder with several of them below it.
        out: the HTML file; default ``report.html`` inside the folder.

    Raises:
        UsageError: the folder holds no run.
        OSError: the file cannot be written.
    """
    found = find_runs(folder)
    target = Path(folder) / "report.html" if out is None else Path(out)
    atomic_write_text(target, render(found))
    return target


def render(found: Found) -> str:
    """Return the page of what was found."""
    name = found.folder.resolve().name
    body = [_head(found, name, _title(found) or name)]
    if found.training:
        body.append(_training(found.training))
    body += [_evaluation(item, single=len(found.evaluations) == 1) for item in found.evaluations]
    if not found.evaluations:
        body.append(
            _empty(
                "Evaluation", "Nothing here was evaluated yet: <code>embodied-mem eval SUITE --checkpoint RUN</code>."
            )
        )
    body.append(_files(found))
    style = _asset("report.css")
    script = _asset("report.js") if any(item.traces for item in found.evaluations) else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(name)} · embodied-mem</title><style>{style}</style></head>"
        f"<body><main>{''.join(body)}</main><script>{script}</script></body></html>\n"
    )


def _title(found: Found) -> str:
    """Return what the page is about: the environments that were trained in, else the suites that were played."""
    trained = dict.fromkeys(_short(run.env) for run in found.training if run.env)
    played = dict.fromkeys(str(run.config["suite"]) for run in found.evaluations if run.config.get("suite"))
    return ", ".join(list(trained or played)[:3])


def _head(found: Found, name: str, title: str) -> str:
    finished = [item for item in found.evaluations if item.result is not None]
    leads = []
    for item in finished[:3]:
        assert item.result is not None
        lead = verdict(item.result["metrics"], item.result.get("controls") or {})
        leads.append(
            f'<p class="lead">{lead}</p>'
            if len(finished) == 1
            else f'<p class="lead"><b>{html.escape(item.name)}.</b> {lead}</p>'
        )
    return (
        f'<p class="eyebrow">embodied-mem · {html.escape(name)}</p><h1>{html.escape(title)}</h1>{"".join(leads)}'
        f'<dl class="facts">{"".join(_fact(term, value) for term, value in _facts(found) if value)}</dl>'
    )


def _facts(found: Found) -> list[tuple[str, str]]:
    training = found.training
    results: list[dict[str, Any]] = [run.result for run in training if run.result]
    results += [run.result for run in found.evaluations if run.result]
    machine: dict[str, Any] = next((result["machine"] for result in results if result.get("machine")), {})
    suites = dict.fromkeys(str(item.config.get("suite")) for item in found.evaluations if item.config.get("suite"))
    steps = [rows[-1].get("env_steps") for run in training for rows in run.seeds.values() if rows]
    played = sum(item.episodes for item in found.evaluations)
    conditions = " in all conditions" if any(item.config.get("controls") for item in found.evaluations) else ""
    hardware = machine.get("gpu") or machine.get("processor") or ""
    cores = f", {machine['cores']} cores" if machine.get("cores") and not machine.get("gpu") else ""
    return [
        ("environment", ", ".join(dict.fromkeys(_short(run.env) for run in training if run.env))),
        ("memory", ", ".join(dict.fromkeys(run.memory for run in training if run.memory))),
        ("training", f"{short(sum(step or 0 for step in steps))} steps, {_count(len(steps), 'run')}" if steps else ""),
        ("suite", ", ".join(suites)),
        ("evaluated", f"{_count(played, 'episode')}{conditions}" if played else ""),
        ("machine", f"{hardware}{cores}"),
        ("version", str(results[0].get("version", __version__)) if results else __version__),
    ]


def _training(runs: Sequence[TrainRun]) -> str:
    parts = [
        "<h2>Training</h2>",
        '<p class="note">Mean over seeds; the band reaches from the lowest to the highest seed.</p>',
    ]
    for env in dict.fromkeys(run.env for run in runs):
        own = [run for run in runs if run.env == env]
        if len({run.env for run in runs}) > 1:
            parts.append(f"<h3>{html.escape(_short(env) or 'unknown environment')}</h3>")
        parts.append(_legend(own))
        parts.append(_panels(own, [(metric, title, rate) for metric, title, rate in MAIN_PANELS], "panels"))
        minor = _panels(own, [(metric, title, False) for metric, title in MINOR_PANELS], "panels minor")
        if minor:
            parts.append(f"<details><summary>More curves</summary>{minor}</details>")
    return "".join(parts)


def _panels(runs: Sequence[TrainRun], metrics: Sequence[tuple[str, str, bool]], kind: str) -> str:
    cards = []
    for metric, title, rate in metrics:
        curves: list[Curve] = [found for i, run in enumerate(runs) if (found := curve(run, metric, i % 8)) is not None]
        if curves:
            cards.append(f'<div class="card"><h3>{html.escape(title)}</h3>{panel(curves, title, rate)}</div>')
    if not cards and kind == "panels":
        return '<p class="muted">No curve yet: fewer than two iterations are on record.</p>'
    return f'<div class="{kind}">{"".join(cards)}</div>' if cards else ""


def _legend(runs: Sequence[TrainRun]) -> str:
    items = []
    for index, run in enumerate(runs):
        memory = f" · memory {html.escape(run.memory)}" if run.memory else ""
        state = "" if run.result else " · not finished"
        about = f"{memory} · {_count(len(run.seeds), 'seed')}{state}"
        items.append(f'<li><i class="s{index % 8}"></i><b>{html.escape(run.name)}</b>{about}</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


def _evaluation(run: EvalRun, single: bool) -> str:
    suite = str(run.config.get("suite") or run.name)
    title = f"Evaluation: {suite}" if single else f"Evaluation: {run.name}"
    agents = ", ".join(str(agent.get("label")) for agent in run.config.get("agents") or ())
    about = str(run.config.get("about") or "")
    if run.result is None:
        words = f"Not finished: {_count(run.episodes, 'episode')} on record. Continue it with <code>--resume</code>."
        return _empty(title, words) + _episodes(run)
    result = run.result
    played = f"{agents} · split {run.config.get('split')} · episode seeds {', '.join(map(str, result['seeds']))}"
    parts = [
        f"<h2>{html.escape(title)}</h2>",
        f'<p class="note">{html.escape(about[:1].upper() + about[1:])}{"." if about else ""} {html.escape(played)}. ',
        "Every condition plays the same episodes; the dashed line is success without memory, where known.</p>",
    ]
    tasks = result.get("tasks") or {}
    for name, task in tasks.items():
        if len(tasks) > 1:
            parts.append(f"<h3>{html.escape(_short(name))}</h3>")
        reasons = _reasons(result, task)
        table = comparison(task["metrics"], task.get("controls") or {}, reasons, task.get("chance"))
        folded = all_metrics(task["metrics"], task.get("controls") or {})
        parts.append(f'<div class="card">{table}<details><summary>All metrics</summary>{folded}</details></div>')
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in result.get("notes") or ())
    parts.append(f'<ul class="notes">{notes}</ul>' if notes else "")
    return "".join(parts) + _episodes(run)


def _episodes(run: EvalRun) -> str:
    if not run.traces:
        return '<p class="muted">No episode was traced (<code>eval --traces N</code>).</p>' if run.result else ""
    groups: dict[tuple[str, int], list[Trace]] = {}
    for trace in run.traces:
        record = trace.facts["record"]
        groups.setdefault((record["task"], record["episode"]), []).append(trace)
    order = ["agent", *(run.config.get("controls") or ())]
    parts = ["<h3>Episodes</h3>"]
    if len(order) > 1:
        parts.append('<p class="note">The same episode under each condition.</p>')
    shown = _shown(groups)
    for number, (task, episode) in enumerate(shown):
        traces = groups[task, episode]
        traces = sorted(traces, key=lambda trace: _place(order, trace.facts["record"]["condition"]))
        names = [str(trace.facts["record"]["condition"]) for trace in traces]
        buttons = "".join(
            f'<button type="button" class="{color_of(name)}"><span class="dot"></span>{html.escape(name)}</button>'
            for name in names
        )
        tabs = f'<div class="tabs">{buttons}</div>' if len(names) > 1 else ""
        cards = "".join(episode_card(trace) for trace in traces)
        heading = (
            f"{_short(task)}, episode {episode}" if len(run.config.get("tasks") or ()) > 1 else f"Episode {episode}"
        )
        heading += {1.0: ", a success", 0.0: ", a failure"}.get(_outcome(traces), "")
        opened = " open" if number == 0 and len({name for name, _ in shown}) == 1 else ""
        parts.append(
            f'<details{opened}><summary>{html.escape(heading)}</summary><section class="tabgroup">'
            f"{tabs}{cards}</section></details>"
        )
    return "".join(parts)


def _shown(groups: Mapping[tuple[str, int], Sequence[Trace]]) -> list[tuple[str, int]]:
    """Return which episodes (task, number) are shown: of every task one that the agent solved and one that it did not,
    where both were traced, else the first.
    """
    chosen: list[tuple[str, int]] = []
    for task in dict.fromkeys(name for name, _ in groups):
        numbers = sorted(number for name, number in groups if name == task)
        outcome = {number: _outcome(groups[task, number]) for number in numbers}
        firsts = [next((n for n in numbers if outcome[n] == wanted), None) for wanted in (1.0, 0.0)]
        order = dict.fromkeys(n for n in [*firsts, *numbers] if n is not None)
        chosen += [(task, n) for n in sorted(list(order)[:EPISODES_PER_TASK])]
    return chosen


def _outcome(traces: Sequence[Trace]) -> float:
    """Return the agent's own success in an episode, NaN where it was not traced."""
    records = [trace.facts["record"] for trace in traces]
    found = next((record["metrics"].get("success") for record in records if record["condition"] == "agent"), None)
    return float("nan") if found is None else float(found)


def _files(found: Found) -> str:
    configs = {run.name: run.config for run in found.training if run.config}
    configs |= {run.name: run.config for run in found.evaluations if run.config}
    parts = ["<h2>Configuration</h2>"]
    for name, config in configs.items():
        text = html.escape(json.dumps(config, indent=2))
        parts.append(f"<details><summary>{html.escape(name)}</summary><pre>{text}</pre></details>")
    if found.warnings:
        rows = "".join(f"<li>{html.escape(warning)}</li>" for warning in found.warnings)
        parts.append(f'<h3>Files that could not be read</h3><ul class="notes">{rows}</ul>')
    parts.append(
        f"<footer>embodied-mem {__version__}. This page is one file and loads nothing from the network.</footer>"
    )
    return "".join(parts)


def _reasons(result: dict[str, Any], task: dict[str, Any]) -> dict[str, str]:
    found = {}
    for name, metrics in (task.get("controls") or {}).items():
        if metrics is None:
            note = next((note for note in result.get("notes") or () if note.startswith(f"{name} is null")), "")
            found[name] = note.partition(": ")[2]
    return found


def _place(order: Sequence[str], name: str) -> int:
    return list(order).index(name) if name in order else len(order)


def _fact(term: str, value: str) -> str:
    return f"<div><dt>{html.escape(term)}</dt><dd>{html.escape(value)}</dd></div>"


def _empty(title: str, words: str) -> str:
    return f'<h2>{html.escape(title)}</h2><p class="muted">{words}</p>'


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _short(env_id: str | None) -> str:
    return str(env_id or "").rpartition(":embodied_mem/")[2].removeprefix("embodied_mem/")


def _asset(name: str) -> str:
    return resources.files("embodied_mem.viewer").joinpath("assets", name).read_text(encoding="utf-8")
