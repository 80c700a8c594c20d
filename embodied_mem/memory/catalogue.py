"""What is known about every registered memory, computed from the memory itself at one width."""

from __future__ import annotations

import inspect
import re
import sys
from typing import Any

from embodied_mem import registry
from embodied_mem.memory.contract import MemoryModule, make_memory

__all__ = ["WIDTH", "describe", "fidelity"]

WIDTH = 128
"""in_dim and out_dim of the memories that are described."""

# "a reconstruction loss" is not one
_REBUILT = re.compile(r"\breconstruction\b(?![\s-]+(loss|error|objective|term|target)s?\b)", re.IGNORECASE)


def describe(name: str, width: int = WIDTH) -> dict[str, Any]:
    """Return one record about the memory ``name`` with its default config and in_dim = out_dim = ``width``.

    Returns:
        ``name``, ``family``, ``source``; ``bytes_per_env``: bytes of one row of the state; ``macs_per_token``:
        multiply-accumulates of a step with everything full; ``parallel``: how the sequence form runs; ``fidelity``:
        "exact" where it follows published equations, "reconstruction" where those had to be filled in.

    Raises:
        UsageError: there is no such memory.
    """
    memory, meta = make_memory(name, in_dim=width, out_dim=width), registry.meta("memory", name)
    return {
        "name": name,
        "family": meta.get("family"),
        "source": meta.get("source"),
        "bytes_per_env": memory.bytes_per_env(),
        "macs_per_token": memory.macs_per_token(),
        "parallel": memory.parallel,
        "fidelity": meta.get("fidelity") or fidelity(type(memory)),
    }


def fidelity(memory: type[MemoryModule]) -> str:
    """Return "reconstruction" if the docstring of the class or of its file says so, else "exact"."""
    module = sys.modules[memory.__module__]
    said = f"{inspect.getdoc(memory) or ''}\n{inspect.getdoc(module) or ''}"
    return "reconstruction" if _REBUILT.search(said) else "exact"
