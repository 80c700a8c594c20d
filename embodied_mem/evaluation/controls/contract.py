"""What a control is: the same assigned episodes, played by a stand-in, or by the agent with its memory disturbed.

    @register("control", "wiped")
    class Wiped(Control): ...

On the command line a control is a name with an optional argument: ``shuffled``, ``wiped:8``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from embodied_mem import registry
from embodied_mem.errors import UsageError


class Control:
    """Base of all controls: as it stands, the agent plays undisturbed.

    Attributes:
        stand_in: who plays instead of the agent under test: "none", "oracle" or "" (the agent itself).
        disturbs_memory: True if the control changes the agent's state between steps, row by row.
        min_rows: fewest rows B that it makes sense with.
    """

    stand_in: ClassVar[str] = ""
    disturbs_memory: ClassVar[bool] = False
    min_rows: ClassVar[int] = 1

    def __init__(self, argument: str | None = None) -> None:
        """Read the argument after the colon.

        Raises:
            UsageError: the control takes none, or it is malformed.
        """
        if argument is not None:
            raise UsageError(f"control takes no argument, got {argument!r}")

    def begin(self, fresh: Any, n: int, seed: int) -> None:
        """Start a block of episodes.

        Args:
            fresh: the agent's initial state for n rows.
            n: number of rows B.
            seed: of whatever the control draws.
        """

    def disturb(self, state: Any, step: np.ndarray) -> Any:
        """Return the state that the agent gets instead of ``state``, before it reads its next observation.

        Args:
            state: the agent's state after the last step, rows first.
            step: (B,) int64, steps each row has played in its episode.
        """
        return state


def parse_control(text: str) -> Control:
    """Return the control named by ``name`` or ``name:argument``.

    Raises:
        UsageError: the name is unknown or the argument does not fit.
    """
    name, colon, argument = text.partition(":")
    return registry.get("control", name)(argument if colon else None)
