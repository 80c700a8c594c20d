"""One blocking connection to a server of this protocol."""

from __future__ import annotations

import time
import weakref
from typing import Any
from urllib.parse import urlsplit

from embodied_mem.errors import UsageError
from embodied_mem.wire.codec import ProtocolError, pack, unpack
from embodied_mem.wire.messages import Message, field, kind_of, message
from embodied_mem.wire.server import require_extra, token_from_environment

MAX_BYTES = 1 << 30
"""Largest answer that is read."""


class RemoteError(UsageError):
    """The server refused, failed or went away; ``code`` is its error code, or None where the connection broke."""

    def __init__(self, text: str, code: str | None = None) -> None:
        """Say which server and what happened."""
        super().__init__(text)
        self.code = code


class Link:
    """A connection whose hello has been read. Not for use from several threads at once.

    Attributes:
        hello: what the server said about itself.
    """

    def __init__(
        self,
        address: str,
        kind: str,
        *,
        timeout_s: float = 60.0,
        patience_s: float = 2.0,
        token: str | None = None,
    ) -> None:
        """Connect.

        Args:
            address: ``ws://host:port`` or ``wss://host``.
            kind: what has to be served there: ``policy`` or ``env``.
            timeout_s: longest wait for an answer.
            patience_s: how long to try again while every row is taken: a client that left frees its row a little later.
            token: secret of the server; None = what the environment names (`messages.TOKEN_VARIABLE`).

        Raises:
            RemoteError: nobody listens, the server refuses, or it serves something else.
            UsageError: the address is none, or the extra ``serve`` is missing.
        """
        require_extra()
        if urlsplit(address).scheme not in ("ws", "wss") or not urlsplit(address).hostname:
            raise UsageError(f"expected an address like ws://127.0.0.1:8765, got {address!r}")
        self.address = address
        self.timeout_s = timeout_s
        until = time.monotonic() + patience_s
        while True:
            try:
                self._open(token)
                break
            except RemoteError as problem:
                if problem.code != "full" or time.monotonic() > until:
                    raise
                time.sleep(0.05)
        found = field(self.hello, "kind", str)
        if found != kind:
            self.close()
            raise RemoteError(f"expected a {kind} server at {address}, got one that serves a {found}")

    def ask(self, request: str, answer: str, /, **fields: Any) -> Message:
        """Send a request and return its answer; see `send` and `receive` for errors."""
        self.send(request, **fields)
        return self.receive(answer)

    def send(self, request: str, /, **fields: Any) -> None:
        """Send a request without waiting.

        Raises:
            RemoteError: the connection broke.
        """
        from websockets.exceptions import ConnectionClosed

        try:
            self._socket.send(pack(message(request, **fields)))
        except (ConnectionClosed, OSError) as problem:
            # An error message may lie unread in front of the end, and says more.
            try:
                self.receive(request)
            except RemoteError as said:
                if said.code is not None:
                    raise
            raise RemoteError(f"{self.address} went away: {problem}") from problem

    def receive(self, answer: str) -> Message:
        """Return the next answer, which has to be of type ``answer``.

        Raises:
            RemoteError: the server answers with an error, with something else, or not at all.
        """
        from websockets.exceptions import ConnectionClosed

        try:
            data = self._socket.recv(timeout=self.timeout_s)
        except TimeoutError as problem:
            raise RemoteError(f"{self.address} did not answer within {self.timeout_s:g} s") from problem
        except (ConnectionClosed, OSError) as problem:
            raise RemoteError(f"{self.address} went away: {problem}") from problem
        if not isinstance(data, bytes):
            raise RemoteError(f"expected binary messages from {self.address}, got text: {data[:80]!r}")
        try:
            received = unpack(data)
            kind = kind_of(received)
        except ProtocolError as problem:
            raise RemoteError(f"{self.address}: {problem}", problem.code) from problem
        if kind == "error":
            code, text = str(received.get("code")), str(received.get("text"))
            raise RemoteError(f"{self.address} refused ({code}): {text}", code)
        if kind != answer:
            raise RemoteError(f"expected {answer!r} from {self.address}, got {kind!r}")
        return received

    def close(self) -> None:
        """Say goodbye. Twice is once."""
        self._closer()

    def _open(self, token: str | None) -> None:
        from websockets.exceptions import InvalidHandshake, InvalidStatus
        from websockets.sync.client import connect

        token = token_from_environment() if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            self._socket = connect(
                self.address,
                additional_headers=headers,
                compression=None,
                max_size=MAX_BYTES,
                proxy=None,
                open_timeout=self.timeout_s,
                close_timeout=2.0,
            )
        except InvalidStatus as problem:
            said = (problem.response.body or b"").decode(errors="replace").strip()
            raise RemoteError(f"{self.address} refused (HTTP {problem.response.status_code}): {said}") from problem
        except (OSError, InvalidHandshake, TimeoutError) as problem:
            raise RemoteError(f"cannot connect to {self.address}: {problem}") from problem
        self._closer = weakref.finalize(self, self._socket.close)
        try:
            self.hello = self.receive("hello")
        except BaseException:
            self._closer()
            raise
