"""What stream memories are made of: entries that never change, so that a snapshot is a tuple of references.

A memory that compresses makes a new entry out of old ones (`joined`); nobody writes into an entry, and its arrays are
read-only. Times are exact: ``t0`` and ``t1`` are those of the first and last frame an entry stands for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from embodied_mem.errors import UsageError

# What an entry costs besides its arrays: four times, weight, number, references, and its likeness to the next one.
ENTRY_BYTES = 96
TEXT_BYTES = 1024
"""Longest text of an entry, UTF-8."""

Stores = Mapping[str, Sequence["Entry"]]


@dataclass(frozen=True, eq=False)
class Entry:
    """One remembered thing: a frame, a group of frames, an event."""

    tokens: np.ndarray
    """(P, D) float32, read-only; P may differ between entries."""
    t0: float
    """Seconds, first frame it stands for."""
    t1: float
    """Seconds, last frame it stands for."""
    t: float
    """Seconds, weighted mean over its frames."""
    weight: float = 1.0
    """Frames it stands for."""
    rgb: np.ndarray | None = None
    """(H, W, 3) uint8 key frame, read-only, or None."""
    rgb_t: float = 0.0
    """Seconds, time of the key frame."""
    text: str = ""
    """What was said of it."""
    number: int = 0
    """Number of its first frame in the stream."""

    @property
    def key(self) -> np.ndarray:
        """Mean of the tokens, (D,) float32."""
        return _mean(self.tokens)

    def __repr__(self) -> str:
        return f"Entry({self.tokens.shape}, {self.t0:.2f}-{self.t1:.2f} s, weight={self.weight:g})"


def frozen(array: np.ndarray) -> np.ndarray:
    """Return the array, read-only from now on."""
    array.setflags(write=False)
    return array


def within(text: str, most: int = TEXT_BYTES) -> str:
    """Return the text within the bytes an entry may hold, cut between words.

    >>> within("one two three", 9)
    'one two'
    """
    while len(text.encode("utf-8")) > most:
        text = text.rpartition(" ")[0] if " " in text else text[: len(text) // 2]
    return text


def joined(a: Entry, b: Entry, *, weighted: bool = True) -> Entry:
    """Return one entry for both: means weighted by frames (or plain), the span of both, the key frame of the heavier.

    Raises:
        UsageError: their tokens differ in shape.
    """
    if a.tokens.shape != b.tokens.shape:
        raise UsageError(f"expected entries of one shape to join, got {a.tokens.shape} and {b.tokens.shape}")
    total = a.weight + b.weight
    share = b.weight / total if weighted else 0.5
    lead = a if a.weight >= b.weight else b
    tokens = a.tokens + np.float32(share) * (b.tokens - a.tokens)
    shown = lead if lead.rgb is not None else (b if lead is a else a)
    return Entry(
        tokens=frozen(tokens.astype(np.float32, copy=False)),
        t0=min(a.t0, b.t0),
        t1=max(a.t1, b.t1),
        t=a.t + (b.weight / total) * (b.t - a.t),
        weight=total,
        rgb=shown.rgb,
        rgb_t=shown.rgb_t,
        text=lead.text or a.text or b.text,
        number=min(a.number, b.number),
    )


def gathered(entries: Iterable[Entry]) -> tuple[np.ndarray, list[int]]:
    """Return the tokens of one entry or more, one after the other, (M, D) float32, and how many each entry has.

    A join of buffers takes half the time of ``np.concatenate`` on hundreds of small arrays.

    Raises:
        UsageError: the tokens are not all float32 of one width.
    """
    parts = [entry.tokens for entry in entries]
    sizes, width = list(map(len, parts)), parts[0].shape[1]
    # an array is a buffer, though its types do not say so before Python 3.12
    rows = np.frombuffer(bytearray().join(parts), np.float32)  # type: ignore[arg-type]
    if len(rows) != sum(sizes) * width:
        raise UsageError(f"expected entries with tokens (P, {width}) float32, got other widths or dtypes")
    return rows.reshape(-1, width), sizes


def keys_of(entries: Sequence[Entry]) -> np.ndarray:
    """Return the mean tokens of one entry or more, (N, D) float32; row i is bit by bit ``entries[i].key``."""
    rows, sizes = gathered(entries)
    if len(set(sizes)) == 1:
        return np.add.reduce(rows.reshape(len(sizes), sizes[0], -1), axis=1) / np.float32(sizes[0])
    counts = np.array(sizes)
    starts = np.cumsum(counts) - counts
    sums = rows[starts]
    for row in range(1, max(sizes)):
        # token by token, in the order in which the mean of one entry adds them
        longer = np.flatnonzero(counts > row)
        sums[longer] += rows[starts[longer] + row]
    return sums / counts.astype(np.float32)[:, None]


def _mean(tokens: np.ndarray) -> np.ndarray:
    """Return the mean over the first axis; a third of the time of ``mean`` where there are few rows."""
    return np.add.reduce(tokens, axis=0) / np.float32(len(tokens))


def entry_bytes(tokens: int, width: int, extra: int) -> int:
    """Return the most bytes an entry of ``tokens`` tokens takes, ``extra`` of them for key frame and text."""
    return 4 * tokens * width + extra + ENTRY_BYTES


def held_bytes(entries: Iterable[Entry]) -> int:
    """Return the bytes of entries; an array that several share counts once."""
    seen: dict[int, int] = {}
    total = 0
    for entry in entries:
        seen[id(entry.tokens)] = entry.tokens.nbytes
        if entry.rgb is not None:
            seen[id(entry.rgb)] = entry.rgb.nbytes
        total += ENTRY_BYTES + len(entry.text.encode("utf-8"))
    return total + sum(seen.values())


def pack(stores: Stores) -> dict[str, Tensor]:
    """Return entries as a flat dict of tensors; arrays that entries share are written once."""
    pool: dict[int, int] = {}
    tokens: list[np.ndarray] = []
    frames: list[np.ndarray] = []

    def place(array: np.ndarray, where: list[np.ndarray]) -> int:
        if id(array) not in pool:
            pool[id(array)] = len(where)
            where.append(array)
        return pool[id(array)]

    state: dict[str, Tensor] = {}
    for name, entries in stores.items():
        numbers = [
            (place(e.tokens, tokens), -1 if e.rgb is None else place(e.rgb, frames), e.number, len(e.text.encode()))
            for e in entries
        ]
        times = [(e.t0, e.t1, e.t, e.rgb_t, e.weight) for e in entries]
        text = b"".join(e.text.encode("utf-8") for e in entries)
        state[f"store/{name}/numbers"] = torch.tensor(numbers, dtype=torch.int64).reshape(-1, 4)
        state[f"store/{name}/times"] = torch.tensor(times, dtype=torch.float64).reshape(-1, 5)
        state[f"store/{name}/text"] = torch.tensor(list(text), dtype=torch.uint8)
    state["tokens/shape"] = torch.tensor([a.shape for a in tokens], dtype=torch.int64).reshape(-1, 2)
    state["tokens/data"] = torch.from_numpy(_flat(tokens, np.float32))
    state["frames/shape"] = torch.tensor([a.shape for a in frames], dtype=torch.int64).reshape(-1, 3)
    state["frames/data"] = torch.from_numpy(_flat(frames, np.uint8))
    return state


def unpack(state: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, list[Entry]]:
    """Undo `pack` for the stores ``names``.

    Raises:
        UsageError: a tensor is missing.
    """
    tokens, frames = _pool(state, "tokens"), _pool(state, "frames")
    stores = {}
    for name in names:
        numbers, times, text = (wanted(state, f"store/{name}/{part}") for part in ("numbers", "times", "text"))
        said, start, entries = bytes(text.tolist()), 0, []
        for (token, frame, number, length), (t0, t1, t, rgb_t, weight) in zip(numbers.tolist(), times.tolist()):
            words = said[start : start + length].decode("utf-8")
            rgb = None if frame < 0 else frames[frame]
            entries.append(Entry(tokens[token], t0, t1, t, weight, rgb, rgb_t, words, number))
            start += length
        stores[name] = entries
    return stores


def wanted(state: Mapping[str, Tensor], key: str) -> Tensor:
    """Return one tensor of a state.

    Raises:
        UsageError: there is none of this name.
    """
    if key not in state:
        raise UsageError(f"expected {key!r} in the state of a stream memory, got {', '.join(sorted(state)) or 'none'}")
    return state[key]


def _flat(arrays: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([array.reshape(-1) for array in arrays]) if arrays else np.zeros(0, dtype)


def _pool(state: Mapping[str, Tensor], name: str) -> list[np.ndarray]:
    shapes, data = wanted(state, f"{name}/shape").tolist(), wanted(state, f"{name}/data").numpy()
    sizes = [int(np.prod(shape)) for shape in shapes]
    parts = np.split(data, np.cumsum(sizes)[:-1]) if sizes else []
    return [frozen(part.reshape(shape).copy()) for part, shape in zip(parts, shapes)]
