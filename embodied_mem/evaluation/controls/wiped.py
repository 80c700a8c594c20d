"""``wiped:k``: every k steps of its episode a row's state becomes the initial one.

What the agent still scores needs no more than k steps of memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.evaluation.controls.contract import Control
from embodied_mem.policies.rows import replace_rows
from embodied_mem.registry import register


@register("control", "wiped", about="state set to the initial one every k steps (wiped:k)")
class Wiped(Control):
    """The agent with a memory that lasts k steps at most."""

    disturbs_memory = True

    def __init__(self, argument: str | None = None) -> None:
        """Read k.

        Raises:
            UsageError: k is missing or no positive integer.
        """
        if argument is None or not argument.isdigit() or int(argument) < 1:
            raise UsageError(f"expected wiped:k with k >= 1, got wiped{'' if argument is None else ':' + argument}")
        self.every = int(argument)
        self._fresh: Any = None

    def begin(self, fresh: Any, n: int, seed: int) -> None:
        """Keep the initial state."""
        self._fresh = fresh

    def disturb(self, state: Any, step: np.ndarray) -> Any:
        """Return the state with those rows made fresh whose step count is a multiple of k."""
        due = (step > 0) & (step % self.every == 0)
        return replace_rows(state, self._fresh, due) if due.any() else state
