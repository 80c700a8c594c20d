"""Entries in the order of time that merge with their neighbours: the likeness of every two is computed once.

    add      the likeness of the new entry to the one before it
    merge    the most alike two become one; its likeness to the one before and the one after it is computed again

So a merge costs the same whatever the list was before: O(1) likenesses, and the greatest of N numbers. One number per
entry is held; it is part of `entry.ENTRY_BYTES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from embodied_mem.stream.entry import Entry, gathered, keys_of

_EPS = 1e-8
Alike = Callable[[Sequence[Entry]], list[float]]
"""Likeness of each of N entries and the next one: N - 1 numbers."""
Merge = Callable[[Entry, Entry], Entry]


class Neighbours:
    """Likenesses of the entries of one list, which it changes together with them."""

    def __init__(self, alike: Alike, merge: Merge) -> None:
        """Begin for an empty list.

        Args:
            alike: how alike neighbours are.
            merge: makes one entry of two neighbours.
        """
        self._alike, self._merge = alike, merge
        self._known: list[float] = []

    def known(self, entries: Sequence[Entry]) -> None:
        """Compute the likeness of what was added at the end; of a list that is new, all of them."""
        first = len(self._known)
        if len(entries) > first + 1:
            self._known += self._alike(entries[first:])

    def merge(self, entries: list[Entry], most: int) -> None:
        """Merge in place until at most ``most`` entries are left that `known` was told of; others follow as they are.

        Of equal likenesses the first two are merged.
        """
        known = self._known
        while known and len(known) >= most:
            place = known.index(max(known))
            entries[place : place + 2] = [self._merge(entries[place], entries[place + 1])]
            del known[place]
            first, last = max(place - 1, 0), min(place + 1, len(known))
            known[first:last] = self._alike(entries[first : last + 1])


def cosines(entries: Sequence[Entry]) -> list[float]:
    """Return the cosine of the mean tokens of each of N entries and the next one, N - 1 numbers; none of one entry."""
    if len(entries) < 2:
        return []
    keys = keys_of(entries)
    sizes = np.sqrt(np.einsum("nd,nd->n", keys, keys))
    products = np.einsum("nd,nd->n", keys[:-1], keys[1:])
    found: list[float] = (products / (sizes[:-1] * sizes[1:] + _EPS)).tolist()
    return found


def matching_cosines(entries: Sequence[Entry]) -> list[float]:
    """Return the mean cosine of the matching tokens of each of N entries, of one shape, and the next one."""
    if len(entries) < 2:
        return []
    tokens = gathered(entries)[0].reshape(len(entries), len(entries[0].tokens), -1)
    sizes = np.linalg.norm(tokens, axis=2)
    products = np.einsum("npd,npd->np", tokens[:-1], tokens[1:])
    found: list[float] = (products / (sizes[:-1] * sizes[1:] + _EPS)).mean(1).tolist()
    return found


def products(entries: Sequence[Entry]) -> list[float]:
    """Return the product of the mean tokens of each of N entries and the next one."""
    if len(entries) < 2:
        return []
    keys = keys_of(entries)
    found: list[float] = np.einsum("nd,nd->n", keys[:-1], keys[1:]).tolist()
    return found
