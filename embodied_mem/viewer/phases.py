"""Phases of an episode: named by the environment (watch, wait, choose), or the goal that is being looked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMED = frozenset({"watch", "wait", "choose"})
COLORS = 8


def phase_of(step: Mapping[str, Any]) -> str:
    """Return the phase of a traced step in words, or an empty string.

    >>> phase_of({"phase": "watch"}), phase_of({"found": 1, "target": "Bed"}), phase_of({})
    ('watch', '2 Bed', '')
    """
    if step.get("phase"):
        return str(step["phase"])
    if "found" in step:
        return f"{int(step['found']) + 1} {step.get('target') or ''}".strip()
    return ""


def phase_color(phase: str) -> str:
    """Return the CSS class of a phase: its own where the page knows it, else one of the palette.

    >>> phase_color("watch"), phase_color("2 Bed"), phase_color("")
    ('p-watch', 'p-1', '')
    """
    if phase in NAMED or not phase:
        return f"p-{phase}" if phase else ""
    number = phase.partition(" ")[0]
    return f"p-{(int(number) - 1 if number.isdigit() else sum(phase.encode())) % COLORS}"
