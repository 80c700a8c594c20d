"""What every message looks like: a map with ``v`` (protocol version) and ``type``.

The server speaks first: ``hello``, or ``error`` and the end. Then each request gets exactly one answer, in order: the
answer that its type names, or ``error``. An ``error`` holds ``code`` and ``text``; after those in `FATAL` the server
closes the connection, after the others the client may go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from embodied_mem.wire.codec import ProtocolError

VERSION = 1
CODES = {
    "version": "the message is of another protocol version",
    "garbage": "no msgpack map, or something in it is not allowed",
    "request": "a well-formed message that makes no sense here: unknown type, missing field, wrong order",
    "schema": "an observation or action does not fit the published space",
    "full": "every row is taken",
    "timeout": "nothing came for too long",
    "failed": "the policy or environment raised",
}
FATAL = frozenset({"version", "garbage", "full", "timeout"})
TOKEN_VARIABLE = "EMBODIED_MEM_TOKEN"

Message = dict[str, Any]


def message(kind: str, /, **fields: Any) -> Message:
    """Return a message of this version."""
    return {"v": VERSION, "type": kind, **fields}


def error(code: str, text: str) -> Message:
    """Return an error message; ``code`` is one of `CODES`."""
    assert code in CODES, code
    return message("error", code=code, text=text)


def kind_of(received: Mapping[str, Any]) -> str:
    """Return the type of a message.

    Raises:
        ProtocolError: there is none, or the version is another one.
    """
    if received.get("v") != VERSION or isinstance(received.get("v"), bool):
        found = str(received.get("v"))[:20]
        raise ProtocolError(f"expected protocol version {VERSION} in 'v', got {found}", "version")
    kind = received.get("type")
    if not isinstance(kind, str):
        raise ProtocolError(f"expected a 'type' as text, got {str(kind)[:20]}", "request")
    return kind


def field(received: Mapping[str, Any], name: str, wanted: type | tuple[type, ...], default: Any = ...) -> Any:
    """Return a field of a message after checking its type; a default makes it optional.

    Raises:
        ProtocolError: it is missing or of another type.
    """
    if name not in received and default is not ...:
        return default
    value = received.get(name)
    types = wanted if isinstance(wanted, tuple) else (wanted,)
    # True is an int in Python, and nowhere else.
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        names = " or ".join(item.__name__ for item in types)
        raise ProtocolError(f"expected {name!r} as {names}, got {type(value).__name__}", "request")
    return value
