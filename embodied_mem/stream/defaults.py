"""Who remembers, encodes and answers where nobody says.

An answerer that reads tokens needs the encoder that it was trained with, so the two are chosen together: the first pair
of which both are registered and that holds what was given.
"""

from __future__ import annotations

from embodied_mem import registry

MEMORY = "flash_vstream"
PAIRS = (("house", "house-head"), ("grid", "rule"))
"""Encoder and answerer; the last pair needs nothing and goes with every other."""


def choose(encoder: str | None = None, answerer: str | None = None) -> tuple[str, str]:
    """Return encoder and answerer: what was given, and for the other what goes with it.

    >>> choose("grid"), choose("grid", "echo")
    (('grid', 'rule'), ('grid', 'echo'))
    """
    encoders, answerers = {*registry.names("encoder"), "grid"}, set(registry.names("answerer"))
    usable = [(eyes, voice) for eyes, voice in PAIRS if eyes in encoders and voice in answerers]
    for eyes, voice in usable:
        if encoder in (None, eyes) and answerer in (None, voice):
            return eyes, voice
    first, last = usable[0], usable[-1]
    return encoder or first[0], answerer or last[1]
