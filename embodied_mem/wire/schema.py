"""Checks what clients send against the published space (the JSON form of `spaces.space_to_json`).

Shape, dtype and, for whole numbers, range are checked at the door: a policy looks whole numbers up in tables, where one
bad value would raise for everybody in the batch. Values of floating-point entries are not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embodied_mem.wire.codec import ProtocolError


@dataclass(frozen=True)
class Leaf:
    """One array of a space."""

    path: tuple[str, ...]
    """Names from the top; empty for a bare space."""
    shape: tuple[int, ...]
    """Shape of one row."""
    dtype: np.dtype
    """What is sent."""
    low: np.ndarray | None
    """Smallest values where they are checked, else None."""
    high: np.ndarray | None
    """Largest values where they are checked, else None."""

    @property
    def name(self) -> str:
        """Path for messages."""
        return "/".join(self.path) or "observation"

    def read(self, value: Any) -> np.ndarray:
        """Return one row's array.

        Raises:
            ProtocolError: type, shape, dtype or range is wrong.
        """
        if not self.shape and self.dtype.kind == "i" and isinstance(value, int) and not isinstance(value, bool):
            if not -(2**63) <= value < 2**63:
                raise ProtocolError(f"{self.name}: expected a 64-bit number, got {value}", "schema")
            value = np.asarray(value, dtype=np.int64)
        if isinstance(value, np.generic):
            value = np.asarray(value)
        if not isinstance(value, np.ndarray):
            raise ProtocolError(f"{self.name}: expected an array, got {type(value).__name__}", "schema")
        if value.shape != self.shape or value.dtype != self.dtype:
            wanted, got = f"{self.dtype} of shape {self.shape}", f"{value.dtype} of shape {value.shape}"
            raise ProtocolError(f"{self.name}: expected {wanted}, got {got}", "schema")
        if self.low is not None and value.size and ((value < self.low) | (value > self.high)).any():
            wanted = f"[{_least(self.low)}, {_most(self.high)}]"
            got = f"[{value.min()}, {value.max()}]"
            raise ProtocolError(f"{self.name}: expected values in {wanted}, got {got}", "schema")
        return value

    def empty(self, n: int) -> np.ndarray:
        """Return (n, ...) valid values: zeros, or the nearest to zero that the space has."""
        rows = np.zeros((n, *self.shape), self.dtype)
        return rows if self.low is None else np.clip(rows, self.low, self.high).astype(self.dtype)


class Schema:
    """The arrays of a space, in a fixed order."""

    def __init__(self, space: Mapping[str, Any]) -> None:
        """Read the JSON form of a single-row space.

        Raises:
            ProtocolError: it describes no space.
        """
        self.space = space
        try:
            self.leaves = _leaves(space, ())
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ProtocolError(f"expected the JSON form of a space, got {str(space)[:120]}", "request") from error
        self.nbytes = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in self.leaves)

    def read(self, value: Any) -> list[np.ndarray]:
        """Return one row's arrays in the order of ``leaves``.

        Raises:
            ProtocolError: an entry is missing, unknown or does not fit.
        """
        if not isinstance(value, Mapping):
            if self.space["type"] == "Dict":
                raise ProtocolError(f"expected a map of {self._names()}, got {type(value).__name__}", "schema")
            return [self.leaves[0].read(value)]
        flat = dict(_walk(value, ()))
        known = {leaf.path for leaf in self.leaves}
        extra, missing = sorted(set(flat) - known), sorted(known - set(flat))
        if extra or missing:
            what = [f"missing {'/'.join(path)}" for path in missing] + [f"unknown {'/'.join(path)}" for path in extra]
            raise ProtocolError(f"expected {self._names()}: {', '.join(what)[:200]}", "schema")
        return [leaf.read(flat[leaf.path]) for leaf in self.leaves]

    def build(self, arrays: Sequence[np.ndarray]) -> Any:
        """Return arrays (one per leaf) in the nesting of the space: a dict, or the array of a bare space."""
        if self.space["type"] != "Dict":
            return arrays[0]
        out: dict[str, Any] = {}
        for leaf, array in zip(self.leaves, arrays, strict=True):
            inner = out
            for name in leaf.path[:-1]:
                inner = inner.setdefault(name, {})
            inner[leaf.path[-1]] = array
        return out

    def take(self, observed: Any, row: int) -> Any:
        """Return one row of batched observations in the form that `read` takes.

        Entries that the space does not have are left out; whole and floating-point numbers get their dtype.

        Raises:
            ProtocolError: an entry is missing, or cannot take the dtype.
        """
        return self.build([_cast(leaf, _pick(observed, leaf)[row]) for leaf in self.leaves])

    def _names(self) -> str:
        return ", ".join(leaf.name for leaf in self.leaves)


def _leaves(space: Mapping[str, Any], path: tuple[str, ...]) -> list[Leaf]:
    kind = space["type"]
    if kind == "Dict":
        found = []
        for name, inner in space["spaces"].items():
            if not isinstance(name, str):
                raise TypeError(f"expected text names, got {name!r}")
            found += _leaves(inner, (*path, name))
        return found
    if kind == "Box":
        shape, dtype = tuple(map(int, space["shape"])), np.dtype(space["dtype"])
        if dtype.kind not in "iu":
            return [Leaf(path, shape, dtype, None, None)]
        low, high = (np.asarray(space[end], dtype=dtype) for end in ("low", "high"))
        # A space as wide as its dtype needs no look at the values.
        whole = np.iinfo(dtype)
        if (low == whole.min).all() and (high == whole.max).all():
            return [Leaf(path, shape, dtype, None, None)]
        return [Leaf(path, shape, dtype, low, high)]
    if kind == "Discrete":
        first, n = int(space["start"]), int(space["n"])
        return [Leaf(path, (), np.dtype(np.int64), np.asarray(first), np.asarray(first + n - 1))]
    if kind == "MultiDiscrete":
        start, nvec = np.asarray(space["start"], np.int64), np.asarray(space["nvec"], np.int64)
        return [Leaf(path, nvec.shape, np.dtype(np.int64), start, start + nvec - 1)]
    if kind == "MultiBinary":
        return [Leaf(path, tuple(space["shape"]), np.dtype(np.int8), np.asarray(0), np.asarray(1))]
    raise ValueError(f"unknown space type {kind!r}")


def _walk(value: Mapping[str, Any], path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    found = []
    for name, item in value.items():
        inner = _walk(item, (*path, name)) if isinstance(item, Mapping) else [((*path, name), item)]
        found += inner
    return found


def _pick(observed: Any, leaf: Leaf) -> np.ndarray:
    for name in leaf.path:
        if not isinstance(observed, Mapping) or name not in observed:
            raise ProtocolError(f"expected the observation entry {leaf.name}, which is missing", "schema")
        observed = observed[name]
    return np.asarray(observed)


def _cast(leaf: Leaf, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype != leaf.dtype and "".join(sorted(array.dtype.kind + leaf.dtype.kind)) not in (
        "ff",
        "ii",
        "iu",
        "uu",
    ):
        raise ProtocolError(f"{leaf.name}: expected {leaf.dtype}, got {array.dtype}", "schema")
    return array.astype(leaf.dtype, copy=False)


def _least(low: np.ndarray) -> Any:
    return low.min()


def _most(high: np.ndarray | None) -> Any:
    assert high is not None
    return high.max()
