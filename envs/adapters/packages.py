"""Optional packages of the adapters: found, or named with what installs them."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from embodied_mem.errors import UsageError


def need(module: str, install: str) -> ModuleType:
    """Import and return ``module``.

    Raises:
        UsageError: it, or something that it imports, is not installed; ``install`` is the command that adds it.
    """
    top = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or top).partition(".")[0]
        what = f"the package {top!r} is missing" if missing == top else f"{top!r} needs {missing!r}, which is missing"
        raise UsageError(f"{what}: {install}") from error


def installed(module: str) -> bool:
    """Return True where a top-level package can be found; it is not imported."""
    return importlib.util.find_spec(module) is not None
