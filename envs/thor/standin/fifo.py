"""Messages of the pipe protocol: fields of (type u8, length u32 big-endian, body), closed by type 255."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from typing import Any, BinaryIO

METADATA, ACTION, RGB, DEPTH, IDS, THIRD_PARTY_RGB, PATCH, END = 1, 2, 4, 5, 9, 10, 11, 255
HEADER = struct.Struct("!BI")

Fields = Iterable[tuple[int, bytes]]


def pack(fields: Fields) -> bytes:
    """Return one whole message.

    >>> pack([(1, b"ab")])
    b'\\x01\\x00\\x00\\x00\\x02ab\\xff\\x00\\x00\\x00\\x00'
    """
    parts = [part for kind, body in fields for part in (HEADER.pack(kind, len(body)), body)]
    return b"".join([*parts, HEADER.pack(END, 0)])


def read_action(stream: BinaryIO) -> dict[str, Any] | None:
    """Return the next action of the client, None when it has closed its pipe.

    Raises:
        ValueError: the message holds no action.
    """
    action = None
    while True:
        header = stream.read(HEADER.size)
        if len(header) < HEADER.size:
            return None
        kind, length = HEADER.unpack(header)
        if kind == END:
            if action is None:
                raise ValueError("expected a message with an action, got none")
            return action
        body = stream.read(length)
        if len(body) < length:
            return None
        if kind == ACTION:
            action = json.loads(body)
