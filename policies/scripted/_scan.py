"""What agents that read a House scan check of an observation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from embodied_mem.errors import UsageError


def require_scan(agent: str, obs: Mapping[str, np.ndarray], reads: Sequence[str], columns: int) -> None:
    """Check that an observation has all that is read, and a scan (B, columns, 6) of two layers.

    Raises:
        UsageError: the observation lacks an entry, or the scan is another one.
    """
    if any(name not in obs for name in reads) or obs["scan"].shape[1:] != (columns, 6):
        others = ", ".join(name for name in reads if name != "scan")
        raise UsageError(
            f"{agent} reads scan ({columns}, 6), {others} of a House navigation task, "
            f"got { ({name: np.shape(value) for name, value in obs.items()}) }"
        )
