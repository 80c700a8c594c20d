"""A heat map of scores in [0, 1] as inline SVG: rows, columns, a figure in every cell, its interval on hover."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from embodied_mem.viewer import svg

LEFT, TOP, WIDTH, HEIGHT, GAP = 190, 34, 112, 34, 3

Scores = Mapping[str, Mapping[str, Mapping[str, Any]]]


def heatmap(scores: Scores, columns: Sequence[str], marked: Mapping[str, Sequence[str]] | None = None) -> str:
    """Return the map.

    Args:
        scores: row -> column -> metric (`results.metric`); a mean of None leaves the cell empty.
        columns: in their order.
        marked: column -> rows whose cell gets a frame.
    """
    parts = [
        svg.text(column, LEFT + (index + 0.5) * WIDTH, TOP - 12, class_="tick", text_anchor="middle")
        for index, column in enumerate(columns)
    ]
    for place, (row, values) in enumerate(scores.items()):
        top = TOP + place * HEIGHT
        parts.append(svg.text(row, LEFT - 12, top + HEIGHT / 2 + 3, class_="rowname", text_anchor="end"))
        for index, column in enumerate(columns):
            framed = row in (marked or {}).get(column, ())
            parts.append(_cell(LEFT + index * WIDTH, top, f"{row}, {column}", values.get(column) or {}, framed))
    width, height = LEFT + len(columns) * WIDTH, TOP + len(scores) * HEIGHT + 4
    return svg.tag("svg", *parts, viewBox=f"0 0 {width} {height}", class_="heatmap", role="img", style=_size(width))


def _cell(x: float, y: float, what: str, item: Mapping[str, Any], framed: bool) -> str:
    mean = item.get("mean")
    box: dict[str, Any] = {"x": x, "y": y, "width": WIDTH - GAP, "height": HEIGHT - GAP, "rx": 5}
    if mean is None:
        return svg.tag("g", svg.title(f"{what}: not run"), svg.tag("rect", **box, class_="empty"))
    strength = min(1.0, max(0.0, float(mean)))
    between = "" if item.get("low") is None else f" ({item['low']:.2f} to {item['high']:.2f})"
    runs = item.get("n") or 0
    told = f"{what}: {mean:.3f}{between}, {runs} seed{'' if runs == 1 else 's'}"
    parts = [svg.title(told), svg.tag("rect", **box, class_="wash")]
    parts.append(svg.tag("rect", **box, class_="heat", fill_opacity=f"{strength:.3f}"))
    if framed:
        parts.append(svg.tag("rect", **box, class_="frame"))
    ink = "onheat" if strength > 0.55 else "figure"
    middle = x + (WIDTH - GAP) / 2
    parts.append(
        svg.text(f"{mean:.2f}".replace("-", "−"), middle, y + HEIGHT / 2 + 3, class_=ink, text_anchor="middle")
    )
    return svg.tag("g", *parts)


def _size(width: float) -> str:
    # A small map keeps its size instead of filling the page.
    return f"max-width:{width:g}px"
