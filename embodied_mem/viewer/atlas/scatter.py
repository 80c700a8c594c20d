"""Cost against score: one named dot per memory over a logarithmic cost, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from embodied_mem.viewer import svg

WIDTH, HEIGHT = 540, 330
LEFT, RIGHT, TOP, BOTTOM = 46, 18, 14, 40
LETTER, LINE = 6.1, 13.0
"""About the size of a label's letters."""


@dataclass(frozen=True)
class Dot:
    """One memory."""

    label: str
    color: int
    """Index of the colour in the page's palette."""
    cost: float
    """> 0."""
    score: float


def scatter(dots: Sequence[Dot], cost: str) -> str:
    """Return the plot.

    Args:
        dots: at least one.
        cost: what the x axis shows.
    """
    logs = [math.log10(dot.cost) for dot in dots]
    left, right = math.floor(min(logs) * 2 - 0.2) / 2, math.ceil(max(logs) * 2 + 0.2) / 2
    low = min(0.0, min(dot.score for dot in dots)) - 0.04
    high = max(1.0, max(dot.score for dot in dots)) + 0.04

    def at(log: float, score: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * (log - left) / (right - left)
        return across, TOP + (HEIGHT - TOP - BOTTOM) * (1 - (score - low) / (high - low))

    parts = []
    for value in svg.ticks(low, high, 5):
        y = at(left, value)[1]
        parts.append(svg.tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(svg.text(svg.short(value), LEFT - 8, y + 4, class_="tick", text_anchor="end"))
    for power in range(math.ceil(left), math.floor(right) + 1):
        x = at(power, low)[0]
        parts.append(svg.tag("line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM, class_="grid"))
        parts.append(svg.text(svg.short(10.0**power), x, HEIGHT - BOTTOM + 17, class_="tick", text_anchor="middle"))
    parts.append(svg.text(f"{cost} (log)", WIDTH - RIGHT, HEIGHT - 4, class_="axis", text_anchor="end"))
    places = [at(log, dot.score) for log, dot in zip(logs, dots, strict=True)]
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    for dot, (x, y) in zip(dots, places, strict=True):
        told = svg.title(f"{dot.label}: {cost} {svg.short(dot.cost)}, mean score {dot.score:.3f}")
        parts.append(svg.tag("circle", told, cx=x, cy=y, r=4.6, class_=f"tip s{dot.color}"))
        label = _label(x, y, dot.label, taken)
        taken.append(label)
        parts.append(svg.text(dot.label, label[0], label[3] - 3, class_="name"))
    return svg.tag("svg", *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", class_="panel", role="img")


Box = tuple[float, float, float, float]


def _label(x: float, y: float, words: str, taken: Sequence[Box]) -> Box:
    """Return the place of a label beside its dot: the first that is inside the plot and covers nothing."""
    wide = LETTER * len(words)
    places = [
        (x + side, y + drop)
        for drop in (-LINE / 2, -LINE - 4, 4, -2 * LINE - 2, LINE + 4, -3 * LINE, 2 * LINE + 4)
        for side in (8, -8 - wide, -wide / 2)
        if abs(drop) > LINE / 2 or side != -wide / 2
    ]
    boxes = [(left, top, left + wide, top + LINE) for left, top in places]
    inside = [box for box in boxes if box[0] >= LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= HEIGHT - BOTTOM]
    free = [box for box in inside if not any(_overlap(box, other) for other in taken)]
    return (free or inside or boxes)[0]


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
