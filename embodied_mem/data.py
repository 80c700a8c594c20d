"""Where data beyond the package lie: the folder named by ``EMBODIED_MEM_DATA``."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "EMBODIED_MEM_DATA"


def data_folder() -> Path | None:
    """Return the folder that ``EMBODIED_MEM_DATA`` names, whether it is there or not.

    Where the variable is not set, ``shared/data`` beside the checkout, if there is one. None without either, and where
    the variable is empty: no data are wanted then.
    """
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named) if named else None
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return beside if beside.is_dir() else None
