"""The confidence that a language model states in words: a last line ``CONFIDENCE: x``."""

from __future__ import annotations

import re

ASK = " End with a line CONFIDENCE: and a number from 0 to 1."

_LINE = re.compile(r"confidence\s*:\s*(\d*\.?\d+)\s*$", re.IGNORECASE)


def stated(text: str) -> tuple[float | None, str]:
    """Return the confidence a reply ends with, None where there is none, and the reply without that line.

    >>> stated("on the table\\nCONFIDENCE: 0.8")
    (0.8, 'on the table')
    >>> stated("very sure")
    (None, 'very sure')
    """
    text = text.strip()
    found = _LINE.search(text)
    if not found or not 0 <= float(found[1]) <= 1:
        return None, text
    return float(found[1]), text[: found.start()].strip()


def unfinished(text: str) -> str:
    """Return a reply that is still coming, without the beginning of its confidence line.

    >>> unfinished("on the table\\nCONFI")
    'on the table'
    """
    head, _, last = text.rpartition("\n")
    word = last.strip().lower()
    return head if head and (word.startswith("confidence") or "confidence".startswith(word)) else text
