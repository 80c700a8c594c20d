"""``touchdown``: 800 dev routes of lower Manhattan with long instructions written from street-level pictures."""

from __future__ import annotations

from embodied_mem.evaluation.suite import Suite
from embodied_mem.evaluation.suites._street import street_suite
from embodied_mem.registry import register

ABOUT = "street navigation after instructions (Touchdown, Chen et al. 2019)"


@register("suite", "touchdown", about=ABOUT)
def touchdown() -> Suite:
    """Return the suite."""
    return street_suite("touchdown", ABOUT)
