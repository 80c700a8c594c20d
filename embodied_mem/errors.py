"""The one error that users cause: shown as a single line by the command line (exit code 2)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """Bad input from the outside. The message says what was expected, what came, and how to fix it."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the closest known name, or an empty string.

    >>> nearest("gruu", ["gru", "lstm"])
    " (did you mean 'gru'?)"
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
