"""Which option an answer names: a letter, a phrase like "the answer is B", or the words of an option; else none.

An answer that names no option is wrong, never left out. Rules that take the first character, or look for the letter
anywhere ("Answer: B" holds an "A"), score such answers by accident.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def find_choice(text: str, options: Sequence[str]) -> tuple[int | None, str]:
    """Return the index of the option that ``text`` names and how it was found.

    Returns:
        index, and "letter", "pattern", "text", or "" with None where nothing or more than one option is named.

    >>> find_choice("The answer is B.", ["cat", "dog"])
    (1, 'pattern')
    >>> find_choice("It was a dog", ["cat", "dog"])
    (1, 'text')
    >>> find_choice("Time will tell", ["cat", "dog"])
    (None, '')
    """
    letters = LETTERS[: len(options)]
    stripped = text.strip()
    whole = re.fullmatch(rf"[(\[]?([{letters}{letters.lower()}])[)\].:]*", stripped)
    if whole:
        return letters.index(whole[1].upper()), "letter"
    patterns = (
        rf"(?:answer|option|choice)\s*(?:is|:|=)?\s*[(\[*]*([{letters}])\b(?!')",
        rf"\(([{letters}])\)",
        rf"^([{letters}])[).:](?:\s|$)",
    )
    for pattern in patterns:
        found = {match.upper() for match in re.findall(pattern, stripped, re.IGNORECASE if "answer" in pattern else 0)}
        if len(found) == 1:
            return letters.index(found.pop()), "pattern"
        if found:
            return None, ""
    said = _plain(stripped)
    named = [i for i, option in enumerate(options) if _plain(option) and f" {_plain(option)} " in f" {said} "]
    # "red cup" holds "cup": the longest of nested options is meant
    longest = [
        i for i in named if not any(i != j and f" {_plain(options[i])} " in f" {_plain(options[j])} " for j in named)
    ]
    return (longest[0], "text") if len(longest) == 1 else (None, "")


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[\w']+", text.lower()))
