"""msgpack with numpy arrays, for bytes that come from anywhere.

An array is the map ``{"__nd__": dtype, "shape": [..], "data": bytes}``: dtype as numpy writes it in little-endian order
(``<f4``, ``|u1``, ``|b1``, ...), data in C order. Arrays of objects or of text (Gymnasium puts them into infos) are
``{"__list__": shape, "items": [..]}``. Everything else is plain msgpack: maps with text keys, lists, text, bytes,
numbers, booleans, nil. Tuples arrive as lists.

Decoding builds plain values and arrays only, never runs code, and is bounded: see the constants.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from embodied_mem.errors import UsageError

ARRAY, OBJECTS = "__nd__", "__list__"
DTYPES = ("|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8")
MAX_RANK = 16
MAX_CONTAINERS = 100_000
"""Maps and lists in one message. An empty one takes one byte on the wire and many in memory."""
MAX_DEPTH = 64


class ProtocolError(UsageError):
    """What arrived is no message of this protocol; ``code`` is one of `messages.CODES`."""

    def __init__(self, text: str, code: str = "garbage") -> None:
        """Say what was expected and what came."""
        super().__init__(text)
        self.code = code


def pack(message: Mapping[str, Any]) -> bytes:
    """Return the bytes of a message.

    Raises:
        UsageError: it holds something that has no form here (a complex array, an object, a number past 64 bits).

    >>> unpack(pack({"x": np.arange(3, dtype=np.int16), "y": [1, None, "a"]}))
    {'x': array([0, 1, 2], dtype=int16), 'y': [1, None, 'a']}
    """
    import msgpack

    try:
        return msgpack.packb(message, default=_plain, use_bin_type=True)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"expected a message of maps, lists, arrays, text and numbers: {error}") from error


def unpack(data: bytes) -> dict[str, Any]:
    """Return the message in ``data``; its arrays are writable and own their memory.

    Raises:
        ProtocolError: ``data`` is no msgpack map with text keys, or something in it is not allowed.
    """
    import msgpack

    left = MAX_CONTAINERS

    def count() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise ProtocolError(f"expected at most {MAX_CONTAINERS} maps and lists in a message, got more")

    def on_map(pairs: dict[str, Any]) -> Any:
        count()
        if ARRAY in pairs:
            return _array(pairs)
        return _objects(pairs) if OBJECTS in pairs else pairs

    def on_list(items: list[Any]) -> list[Any]:
        count()
        return items

    try:
        message = msgpack.unpackb(
            data, object_hook=on_map, list_hook=on_list, ext_hook=_no_ext, raw=False, strict_map_key=True
        )
    except ProtocolError:
        raise
    except Exception as error:
        raise ProtocolError(f"expected a msgpack map, got bytes that are none: {_line(error)}") from error
    if not isinstance(message, dict):
        raise ProtocolError(f"expected a msgpack map, got {type(message).__name__}")
    _check(message, MAX_DEPTH)
    return message


def _plain(value: Any) -> Any:
    """Return the msgpack form of what msgpack does not know."""
    if isinstance(value, np.generic):
        if value.dtype.kind in "biuf":
            return value.item()
        value = np.asarray(value)
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "OU":
            return {OBJECTS: list(value.shape), "items": value.reshape(-1).tolist()}
        little = value.dtype.newbyteorder("<")
        if little.str not in DTYPES:
            raise TypeError(f"arrays of dtype {value.dtype} cannot be sent")
        return {ARRAY: little.str, "shape": list(value.shape), "data": value.astype(little, copy=False).tobytes()}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} cannot be sent")


def _array(pairs: Mapping[str, Any]) -> np.ndarray:
    name, shape, data = pairs[ARRAY], pairs.get("shape"), pairs.get("data")
    if name not in DTYPES:
        raise ProtocolError(f"expected an array of dtype {', '.join(DTYPES)}, got {str(name)[:40]!r}")
    if not isinstance(data, bytes) or set(pairs) != {ARRAY, "shape", "data"}:
        raise ProtocolError(f"expected an array as {ARRAY}, shape and data (bytes), got the keys {sorted(pairs)[:8]}")
    dtype = np.dtype(name)
    dims = _shape(shape)
    if math.prod(dims) * dtype.itemsize != len(data):
        wanted = math.prod(dims) * dtype.itemsize
        raise ProtocolError(f"expected {wanted} bytes for an array {dims} of {name}, got {len(data)}")
    if name == "|b1":
        # Any other byte in a bool array is undefined behaviour further on.
        return (np.frombuffer(data, np.uint8) != 0).reshape(dims)
    return np.frombuffer(data, dtype).reshape(dims).copy()


def _objects(pairs: Mapping[str, Any]) -> np.ndarray:
    dims, items = _shape(pairs[OBJECTS]), pairs.get("items")
    if not isinstance(items, list) or len(items) != math.prod(dims) or set(pairs) != {OBJECTS, "items"}:
        raise ProtocolError(f"expected {math.prod(dims)} items for a list of shape {dims}")
    found = np.empty(len(items), dtype=object)
    for place, item in enumerate(items):
        found[place] = item
    return found.reshape(dims)


def _shape(value: Any) -> tuple[int, ...]:
    good = isinstance(value, list) and len(value) <= MAX_RANK
    if not good or not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**31 for n in value):
        raise ProtocolError(f"expected a shape of at most {MAX_RANK} whole numbers, got {str(value)[:60]}")
    # An empty array may claim any size along its other axes, which numpy cannot index.
    if math.prod(n or 1 for n in value) >= 2**48:
        raise ProtocolError(f"expected a shape below 2**48 entries, got {value}")
    return tuple(value)


def _no_ext(code: int, data: bytes) -> Any:
    raise ProtocolError(f"expected no msgpack extension, got type {code}")


def _check(value: Any, depth: int) -> None:
    """Refuse what msgpack reads but this protocol does not have: timestamps, deep nesting."""
    if depth < 0:
        raise ProtocolError(f"expected at most {MAX_DEPTH} levels of nesting, got more")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ProtocolError(f"expected text keys, got {type(key).__name__}")
            _check(item, depth - 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth - 1)
    elif isinstance(value, np.ndarray):
        if value.dtype == object:
            _check(value.reshape(-1).tolist(), depth - 1)
    elif value is not None and not isinstance(value, bool | int | float | str | bytes):
        raise ProtocolError(f"expected plain values, got {type(value).__name__}")


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:120]
