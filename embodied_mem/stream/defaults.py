"""Who encodes and who answers where nobody says: the first name of each list that is registered."""

from __future__ import annotations

from embodied_mem import registry
from embodied_mem.errors import UsageError

MEMORY = "flash_vstream"
ENCODERS = ("house", "grid")
ANSWERERS = ("house", "rule")


def default_encoder() -> str:
    """Return the encoder of frames; ``grid`` needs no registration."""
    known = {*registry.names("encoder"), "grid"}
    return next(name for name in ENCODERS if name in known)


def default_answerer() -> str:
    """Return the answerer.

    Raises:
        UsageError: none of the list is registered.
    """
    known = registry.names("answerer")
    for name in ANSWERERS:
        if name in known:
            return name
    raise UsageError(f"no answerer of {', '.join(ANSWERERS)} is registered; name one of {', '.join(known)}")
