"""What happened over an episode, as tracks on one time axis: phases, actions, reward, distance, senses, reads."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from embodied_mem.viewer import svg
from embodied_mem.viewer.phases import phase_color, phase_of
from embodied_mem.viewer.pictures import data_uri, scan_image

WIDTH, LEFT, RIGHT = 1080, 118, 12
GAP = 12
READ_RGB = (226, 122, 16)
SEEN_RGB = (96, 116, 148)
CONTRAST = 1.4
HEATS = {
    "attention": ("reads", "weight of each past step in the memory's read"),
    "influence": ("influence", "gradient of the chosen action's score with respect to each past observation"),
}


def draw_tracks(facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray], heats: Mapping[str, np.ndarray]) -> str:
    """Return all tracks of an episode as one SVG with a playhead that the page's script moves.

    Args:
        facts: the trace's JSON part.
        arrays: its arrays; ``action`` and ``reward`` have T steps.
        heats: name -> (T, T) float, row t holds what step t made of every step s <= t.
    """
    total = len(arrays["reward"])
    axis = _Axis(total)
    steps = list(facts.get("steps") or ())[:total]
    tracks = [
        _phases(axis, [phase_of(step) for step in steps]),
        _actions(axis, arrays["action"], facts.get("action_names")),
        _distance(axis, [step.get("distance") for step in steps]),
        _rewards(axis, arrays["reward"]),
        _vector(axis, arrays),
        _scan(axis, arrays.get("scan"), arrays.get("frame_steps"), "scan" in (facts.get("sensors") or ())),
        *(_heat(axis, name, heat) for name, heat in heats.items()),
    ]
    height, parts = 6.0, []
    for track in tracks:
        if track is not None:
            own, body = track
            parts.append(svg.tag("g", body, transform=f"translate(0 {svg.number(height)})"))
            height += own + GAP
    parts.append(_clock(axis, height))
    line = svg.tag("line", x1=axis.at(0), x2=axis.at(0), y1=2, y2=height, class_="playhead")
    return svg.tag(
        "svg",
        *parts,
        line,
        viewBox=f"0 0 {WIDTH} {svg.number(height + 18)}",
        class_="tracks",
        data_left=LEFT,
        data_width=WIDTH - LEFT - RIGHT,
        data_total=total,
    )


class _Axis:
    """Steps to places."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.cell = (WIDTH - LEFT - RIGHT) / max(total, 1)

    def at(self, step: float) -> float:
        """Return the left edge of a step."""
        return LEFT + self.cell * step

    def middle(self, step: float) -> float:
        """Return the middle of a step."""
        return self.at(step + 0.5)


Track = tuple[float, str]


def _label(words: str, y: float, note: str = "") -> str:
    title = svg.title(note) if note else ""
    return svg.tag("text", title, html.escape(words), x=LEFT - 12, y=y, class_="label", text_anchor="end")


def _phases(axis: _Axis, phases: Sequence[str]) -> Track | None:
    if not any(phases):
        return None
    parts, start = [], 0
    for index in range(1, len(phases) + 1):
        if index == len(phases) or phases[index] != phases[start]:
            width = axis.cell * (index - start)
            parts.append(
                svg.tag(
                    "rect", x=axis.at(start), y=0, width=width, height=18, class_=f"phase {phase_color(phases[start])}"
                )
            )
            if width > 7 * len(phases[start]):
                middle = axis.at(start) + width / 2
                parts.append(svg.text(phases[start], middle, 13, class_="onphase", text_anchor="middle"))
            start = index
    return 18, _label("phase", 13) + "".join(parts)


def _actions(axis: _Axis, actions: np.ndarray, names: Sequence[str] | None) -> Track | None:
    if actions.ndim != 1 or not np.issubdtype(actions.dtype, np.integer):
        return None
    parts = [_label("action", 13)]
    for step, action in enumerate(actions.tolist()):
        label = names[action] if names and action < len(names) else str(action)
        title = svg.title(f"step {step}: {label}")
        parts.append(
            svg.tag(
                "rect",
                title,
                x=axis.at(step),
                y=0,
                width=max(axis.cell - (0.8 if axis.cell > 3 else 0), 0.4),
                height=18,
                class_=f"s{action % 8}",
            )
        )
    keys, x = [], float(LEFT)
    for action in sorted(set(actions.tolist()))[:12]:
        label = names[action] if names and action < len(names) else str(action)
        keys.append(svg.tag("rect", x=x, y=26, width=9, height=9, class_=f"s{action % 8}"))
        keys.append(svg.text(label, x + 13, 34.5, class_="tick"))
        x += 13 + 7.2 * len(label) + 16
    return 36, "".join(parts + keys)


def _distance(axis: _Axis, values: Sequence[Any]) -> Track | None:
    known = [(step, float(value)) for step, value in enumerate(values) if value is not None]
    if len(known) < 2:
        return None
    top = max(value for _, value in known) or 1.0
    points = [(axis.middle(step), 34 - 30 * value / top) for step, value in known]
    body = svg.tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=34, y2=34, class_="grid")
    body += svg.tag("path", d=svg.path(points), class_="line s0")
    return 34, _label("to the goal", 15) + _label(f"{top:.1f} m", 30) + body


def _rewards(axis: _Axis, rewards: np.ndarray) -> Track | None:
    top = float(np.abs(rewards).max()) if rewards.size else 0.0
    if top == 0.0:
        return None
    parts = [_label("reward", 18), svg.tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=14, y2=14, class_="grid")]
    for step, value in enumerate(rewards.tolist()):
        size = 13 * abs(value) / top
        if size > 0.15:
            y = 14 - size if value > 0 else 14.0
            kind = "gain" if value > 0 else "loss"
            title = svg.title(f"step {step}: {value:+.3f}")
            width = max(axis.cell - (0.8 if axis.cell > 3 else 0), 0.6)
            parts.append(svg.tag("rect", title, x=axis.at(step), y=y, width=width, height=max(size, 0.8), class_=kind))
    return 28, "".join(parts)


def _vector(axis: _Axis, arrays: Mapping[str, np.ndarray]) -> Track | None:
    """Return small vector observations, an entry per line, where they are all that the agent sees."""
    vector = arrays.get("vector")
    if vector is None or vector.ndim != 2 or vector.shape[1] > 16 or "rgb" in arrays or "scan" in arrays:
        return None
    image = np.empty((vector.shape[1], axis.total, 4), np.uint8)
    image[..., :3] = SEEN_RGB
    image[..., 3] = np.rint(255 * np.clip(np.abs(vector) / max(float(np.abs(vector).max()), 1e-9), 0.0, 1.0)).T
    height = float(min(12 * vector.shape[1], 72))
    note = "entries of the observation vector, one line each; darker is larger"
    return height, _label("observed", height / 2 + 4, note) + _image(axis, image, height)


def _scan(axis: _Axis, scan: np.ndarray | None, steps: np.ndarray | None, used: bool) -> Track | None:
    if scan is None or scan.ndim != 3 or steps is None or not used:
        return None
    image = scan_image(scan).transpose(1, 0, 2)
    # Kept steps may be sparse: each is drawn until the next one.
    index = np.searchsorted(steps, np.arange(axis.total), side="right") - 1
    picture = _image(axis, image[:, np.clip(index, 0, None)], 64)
    note = "all around the agent (rows) over time; hue is the class seen, bright is near"
    return 64, _label("scan", 34, note) + picture


def _heat(axis: _Axis, name: str, heat: np.ndarray) -> Track:
    kind, _, part = name.partition(" ")
    label, note = HEATS.get(kind, (name, ""))
    label = part or label
    total = heat.shape[0]
    # Scaled by the strongest *past* step: the present one, which no memory is needed for, often outweighs all others.
    past = (heat * (1 - np.eye(total))).max(axis=1, keepdims=True)
    scale = np.maximum(np.maximum(past, 0.05 * heat.max(axis=1, keepdims=True)), 1e-12)
    share = np.clip(heat / scale, 0.0, 1.0) ** CONTRAST
    # Row s, column t: past step against present step, as ink of one colour, so that it reads on any page.
    image = np.empty((total, total, 4), np.uint8)
    image[..., :3] = READ_RGB
    image[..., 3] = np.rint(255 * share.T)
    height = float(np.clip(total * 3, 96, 190))
    body = _image(axis, image, height)
    frame = svg.tag("rect", x=LEFT, y=0, width=WIDTH - LEFT - RIGHT, height=height, class_="frame")
    words = _label(label, 12, note) + _label("step 0", 27) + _label(f"step {total - 1}", height - 3)
    now = [(axis.at(0), 0.0), (axis.at(total), height)]
    return height, words + frame + body + svg.tag("path", d=svg.path(now), class_="now")


def _clock(axis: _Axis, y: float) -> str:
    marks = [step for step in svg.ticks(0, axis.total - 1, 8) if step == int(step)]
    parts = [svg.text(f"{int(step)}", axis.middle(step), y + 8, class_="tick", text_anchor="middle") for step in marks]
    return _label("step", y + 8) + "".join(parts)


def _image(axis: _Axis, pixels: np.ndarray, height: float) -> str:
    return svg.tag(
        "image",
        href=data_uri(pixels),
        x=LEFT,
        y=0,
        width=WIDTH - LEFT - RIGHT,
        height=height,
        preserveAspectRatio="none",
        class_="pixels",
    )
