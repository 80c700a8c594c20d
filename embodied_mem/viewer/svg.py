"""Small building blocks of inline SVG: elements, numbers, axis ticks. Colours come from CSS classes of the page."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence


def tag(name: str, *children: str, **attributes: str | float | int | None) -> str:
    """Return an element; attribute names have underscores for hyphens, ``class_`` is ``class``, None is left out.

    >>> tag("rect", x=1.5, class_="dot")
    '<rect x="1.5" class="dot"/>'
    """
    shown = "".join(f' {_name(key)}="{_value(value)}"' for key, value in attributes.items() if value is not None)
    return f"<{name}{shown}>{''.join(children)}</{name}>" if children else f"<{name}{shown}/>"


def _name(key: str) -> str:
    # viewBox and the like keep their capitals; hyphens are written as underscores.
    return key.rstrip("_").replace("_", "-")


def _value(value: str | float | int) -> str:
    return html.escape(number(value) if isinstance(value, float) else str(value))


def text(words: str, x: float, y: float, **attributes: str | float | int | None) -> str:
    """Return an escaped text element."""
    return tag("text", html.escape(words), x=x, y=y, **attributes)


def title(words: str) -> str:
    """Return an escaped title element: the tooltip of the element it stands in."""
    return tag("title", html.escape(words))


def number(value: float) -> str:
    """Return a coordinate with at most two decimals and no trailing zeros.

    >>> number(3.0), number(2.346)
    ('3', '2.35')
    """
    return f"{value:.2f}".rstrip("0").rstrip(".") or "0"


def path(points: Sequence[tuple[float, float]], closed: bool = False) -> str:
    """Return the path data of a polyline through (x, y) points."""
    if not points:
        return ""
    steps = [f"{'M' if index == 0 else 'L'}{number(x)} {number(y)}" for index, (x, y) in enumerate(points)]
    return "".join(steps) + ("Z" if closed else "")


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round tick values within [low, high], about ``count`` of them.

    >>> ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not high > low:
        return [low]
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) + 0.0 for index in range(first, last + 1)]


def short(value: float) -> str:
    """Return a number for an axis or a table: 1500000 -> 1.5M, 0.125 -> 0.125.

    >>> short(1_500_000), short(20_000), short(0.125), short(3.0)
    ('1.5M', '20k', '0.125', '3')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
