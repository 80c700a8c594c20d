"""Learning curves: one panel per metric, one line per run, a band over its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embodied_mem.viewer import svg
from embodied_mem.viewer.load import TrainRun

WIDTH, HEIGHT = 540, 270
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 14, 38
POINTS = 240


@dataclass(frozen=True)
class Curve:
    """One run in one panel; all arrays (P,) float."""

    label: str
    color: int
    """Index of the colour in the page's palette."""
    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seeds: list[tuple[np.ndarray, np.ndarray]]
    """(x, y) of every seed."""


def curve(run: TrainRun, metric: str, color: int) -> Curve | None:
    """Return the curve of a metric over environment steps, or None if the run has no such figures.

    Seeds are brought to common steps by linear interpolation over the range that all of them cover; the band reaches
    from the lowest to the highest seed.
    """
    seeds = []
    for rows in run.seeds.values():
        pairs = [(row.get("env_steps"), row.get(metric)) for row in rows]
        kept = np.array([pair for pair in pairs if None not in pair], dtype=float).reshape(-1, 2)
        if len(kept) >= 2:
            seeds.append((kept[:, 0], kept[:, 1]))
    if not seeds:
        return None
    start, end = max(x[0] for x, _ in seeds), min(x[-1] for x, _ in seeds)
    if not end > start:
        start, end = min(x[0] for x, _ in seeds), max(x[-1] for x, _ in seeds)
    grid = np.linspace(start, end, POINTS)
    values = np.stack([np.interp(grid, x, y) for x, y in seeds])
    return Curve(run.name, color, grid, values.mean(0), values.min(0), values.max(0), seeds)


def panel(
    curves: Sequence[Curve],
    title: str,
    rate: bool,
    levels: Sequence[tuple[str, float]] = (),
    axis: str = "environment steps",
) -> str:
    """Return one panel as SVG.

    Args:
        curves: at least one.
        title: what the y axis shows.
        rate: True fixes the y axis to [0, 1].
        levels: horizontal reference lines (label, value), for example chance.
        axis: what the x axis shows.
    """
    right = max(float(seed[0][-1]) for item in curves for seed in item.seeds)
    shown = [value for item in curves for _, y in item.seeds for value in (y.min(), y.max())]
    low, high = (0.0, 1.0) if rate else _padded(min(shown), max(shown))

    def at(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * x / max(right, 1e-9)
        return across, TOP + (HEIGHT - TOP - BOTTOM) * (1 - (y - low) / (high - low))

    parts = []
    for y in svg.ticks(low, high, 5):
        height = at(0, y)[1]
        parts.append(svg.tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=height, y2=height, class_="grid"))
        parts.append(svg.text(svg.short(y), LEFT - 8, height + 4, class_="tick", text_anchor="end"))
    for x in svg.ticks(0, right, 5):
        across = at(x, low)[0]
        parts.append(svg.text(svg.short(x), across, HEIGHT - BOTTOM + 17, class_="tick", text_anchor="middle"))
    parts.append(svg.text(axis, WIDTH - RIGHT, HEIGHT - 4, class_="axis", text_anchor="end"))
    for label, value in levels:
        if low <= value <= high:
            height = at(0, value)[1]
            parts.append(svg.tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=height, y2=height, class_="reference"))
            parts.append(svg.text(label, WIDTH - RIGHT - 4, height - 5, class_="tick", text_anchor="end"))
    for item in curves:
        color = f"s{item.color}"
        if len(item.seeds) > 1:
            upper = [at(x, y) for x, y in zip(item.x, item.high, strict=True)]
            lower = [at(x, y) for x, y in zip(item.x, item.low, strict=True)]
            parts.append(svg.tag("path", d=svg.path(upper + lower[::-1], closed=True), class_=f"band {color}"))
            for steps, values in item.seeds:
                points = [at(x, y) for x, y in _thinned(steps, values)]
                parts.append(svg.tag("path", d=svg.path(points), class_=f"seed {color}"))
        points = [at(x, y) for x, y in zip(item.x, item.mean, strict=True)]
        parts.append(svg.tag("path", d=svg.path(points), class_=f"line {color}"))
        parts.append(svg.tag("circle", cx=points[-1][0], cy=points[-1][1], r=3.2, class_=f"tip {color}"))
    return svg.tag(
        "svg",
        svg.title(title),
        *parts,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        class_="panel",
        role="img",
    )


def _padded(low: float, high: float) -> tuple[float, float]:
    pad = 0.06 * (high - low) or max(abs(high), 1.0) * 0.1
    return low - pad, high + pad


def _thinned(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), POINTS)).round().astype(int))
    return list(zip(x[kept].tolist(), y[kept].tolist(), strict=True))
