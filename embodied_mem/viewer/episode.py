"""One traced episode as a card: map and first-person view moved by one slider, the strip of frames, and the tracks."""

from __future__ import annotations

import html
import json
from typing import Any

import numpy as np

from embodied_mem.viewer import svg
from embodied_mem.viewer.forest import color_of
from embodied_mem.viewer.load import Trace
from embodied_mem.viewer.phases import phase_color, phase_of
from embodied_mem.viewer.pictures import as_frames, frames_uri, sprite
from embodied_mem.viewer.reads import heats, main_heat, strongest
from embodied_mem.viewer.spatial import draw_memory
from embodied_mem.viewer.topdown import draw_map, positions
from embodied_mem.viewer.tracks import draw_tracks

STRIP = 10


def episode_card(trace: Trace) -> str:
    """Return the HTML of one episode; parts that were not recorded are left out with a word."""
    facts, arrays = trace.facts, trace.arrays
    record = facts["record"]
    if "reward" not in arrays or not len(arrays["reward"]):
        words = '<p class="muted">The arrays of this trace are missing.</p>'
        return f'<article class="card lost">{_title(record)}{words}</article>'
    seen = heats(arrays)
    frames = _frames(arrays)
    drawing = draw_map(facts.get("map_end") or facts.get("map") or {}, facts.get("steps") or [])
    left = drawing or '<p class="muted empty">This environment draws no map.</p>'
    stage = f'<figure class="mapbox">{left}{_map_key(facts) if drawing else ""}</figure>'
    stage += f'<figure class="viewbox">{_view(facts, frames)}</figure>'
    if drawing is None and frames is None:
        stage = ""
    parts = [
        f'<article class="card episode" data-episode="{html.escape(json.dumps(_script_data(trace, seen, frames)))}">',
        f"<header>{_title(record)}{_instruction(facts)}</header>",
        f'<div class="stage">{stage}</div>' if stage else _nothing_to_see(facts),
        _controls(len(arrays["reward"])),
        f'<div class="scroll">{draw_tracks(facts, arrays, seen)}</div>',
    ]
    if not seen:
        parts.append('<p class="muted">What the memory attended to was not recorded for this condition.</p>')
    parts.append(draw_memory(facts, arrays))
    parts.append(_strip(frames, arrays))
    parts.append("</article>")
    return "".join(parts)


def _nothing_to_see(facts: dict[str, Any]) -> str:
    reason = facts.get("no_view")
    return f'<p class="muted">No map and no pictures of this one{f": {html.escape(reason)}" if reason else ""}.</p>'


def _title(record: dict[str, Any]) -> str:
    success = record["metrics"].get("success")
    verdict = ["failed", "succeeded"][int(success)] if success in (0, 1) else ""
    chip = f'<span class="chip {verdict}">{verdict}</span>' if verdict else ""
    return (
        f'<h4><span class="dot {color_of(record["condition"])}"></span>{html.escape(record["condition"])}'
        f' <span class="muted">episode {record["episode"]}</span></h4>{chip}'
        f'<span class="muted">{record["length"]} steps, return {record["return"]:.2f}</span>'
    )


def _instruction(facts: dict[str, Any]) -> str:
    words = facts.get("instruction")
    return f'<q class="instruction">{html.escape(words)}</q>' if words else ""


def _frames(arrays: dict[str, np.ndarray]) -> np.ndarray | None:
    for name in ("rgb", "depth"):
        if name in arrays and len(arrays[name]):
            return as_frames(arrays[name])
    return None


def _view(facts: dict[str, Any], frames: np.ndarray | None) -> str:
    if frames is None:
        reason = html.escape(facts.get("no_view") or "the agent has no camera here")
        return f'<p class="muted empty">No picture was recorded: {reason}.</p>'
    height, width = frames.shape[1:3]
    columns = min(12, len(frames))
    rows = -(-len(frames) // columns)
    own = "rgb" in (facts.get("sensors") or ())
    caption = "what the agent sees" if own else "rendered for this page; the agent itself has no camera"
    if "depth" in (facts.get("sensors") or ()) and not own:
        caption = "depth, near is bright"
    picture = f"background-image:url({frames_uri(sprite(frames))});background-size:{100 * columns}% {100 * rows}%"
    view = f'<div class="view" style="aspect-ratio:{width}/{height};{picture}"></div>'
    return f"{view}<figcaption>{caption}</figcaption>"


def _strip(frames: np.ndarray | None, arrays: dict[str, np.ndarray]) -> str:
    if frames is None:
        return ""
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(STRIP, len(frames))).round().astype(int))
    steps = arrays.get("frame_steps", np.arange(len(frames)))
    cells = []
    for index in chosen.tolist():
        uri = frames_uri(frames[index])
        caption = f"<figcaption>{int(steps[index])}</figcaption>"
        cells.append(f'<figure><img src="{uri}" alt="" loading="lazy">{caption}</figure>')
    return f'<div class="strip" aria-label="frames over the episode">{"".join(cells)}</div>'


def _controls(total: int) -> str:
    return (
        '<div class="player"><button type="button" class="play" aria-label="play">&#9654;</button>'
        f'<input type="range" min="0" max="{total - 1}" value="0" step="1" aria-label="step">'
        "<output></output></div>"
    )


def _map_key(facts: dict[str, Any]) -> str:
    # The state after the last step belongs to no phase that was played.
    phases = list(dict.fromkeys(phase_of(step) for step in (facts.get("steps") or [])[:-1]))
    items = [f'<span><i class="swatch {phase_color(name)}"></i>{html.escape(name)}</span>' for name in phases if name]
    items.append('<span><i class="swatch ring start"></i>start</span><span><i class="swatch ring end"></i>end</span>')
    scene = facts.get("map_end") or {}
    if isinstance(scene.get("answer"), int) or scene.get("targets"):
        words = "where it is" if isinstance(scene.get("answer"), int) else "goals"
        items.append(f'<span><i class="swatch ring target"></i>{words}</span>')
    return f'<figcaption class="key">{"".join(items)}</figcaption>'


def _script_data(trace: Trace, seen: dict[str, np.ndarray], frames: np.ndarray | None) -> dict[str, Any]:
    facts, arrays = trace.facts, trace.arrays
    total = len(arrays["reward"])
    steps = list(facts.get("steps") or [])
    steps += [{}] * (total - len(steps))
    names = facts.get("action_names")
    actions = [_action(action, names) for action in arrays["action"]]
    kept = arrays.get("frame_steps", np.arange(total))
    index = np.clip(np.searchsorted(kept, np.arange(total), side="right") - 1, 0, None)
    reads = main_heat(seen)
    return {
        "total": total,
        "xz": [None if point is None else [round(point[0], 2), round(-point[1], 2)] for point in positions(steps)][
            :total
        ],
        "yaw": [step.get("yaw") for step in steps[:total]],
        "phase": [phase_of(step) for step in steps[:total]],
        "action": actions,
        "reward": [round(float(value), 3) for value in arrays["reward"]],
        "frame": index.tolist() if frames is not None else [],
        "columns": 0 if frames is None else min(12, len(frames)),
        "rows": 0 if frames is None else -(-len(frames) // min(12, len(frames))),
        "reads": [] if reads is None else strongest(reads),
    }


def _action(action: np.ndarray, names: list[str] | None) -> str:
    if action.ndim == 0 and names and int(action) < len(names):
        return names[int(action)]
    return svg.short(float(action)) if action.ndim == 0 else "[" + ", ".join(svg.short(float(v)) for v in action) + "]"
