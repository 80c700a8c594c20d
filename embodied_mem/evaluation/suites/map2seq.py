"""``map2seq``: 800 dev routes of Manhattan with short instructions written from a map."""

from __future__ import annotations

from embodied_mem.evaluation.suite import Suite
from embodied_mem.evaluation.suites._street import street_suite
from embodied_mem.registry import register

ABOUT = "street navigation after instructions written from a map (Map2Seq, Schumann and Riezler 2022)"


@register("suite", "map2seq", about=ABOUT)
def map2seq() -> Suite:
    """Return the suite."""
    return street_suite("map2seq", ABOUT)
