"""A WebSocket server with limits: who may connect, how much each may send, how long each may be silent.

What it bounds, per connection: the size of a message, the messages waiting to be read (then the sender is slowed by
TCP), one request at a time, the seconds of silence, the seconds a client may take to read an answer. Over all: the
number of connections. Pages of a web browser are refused (they announce an ``Origin``): a page the user visits must not
reach a server on the user's own machine.

The event loop runs in a thread of its own; sessions run on that loop and send their heavy work to other threads.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

from embodied_mem.errors import UsageError
from embodied_mem.wire.codec import ProtocolError, pack, unpack
from embodied_mem.wire.messages import FATAL, TOKEN_VARIABLE, Message, error, kind_of

logger = logging.getLogger(__name__)

REFUSED = 8
"""Connections beyond those that fit, which get an error message instead of a closed port."""


@dataclass(frozen=True)
class ServerSettings:
    """Where a server listens and what it puts up with."""

    host: str = "127.0.0.1"
    """Address to listen on; any but loopback needs a token."""
    port: int = 8765
    """Port; 0 = any free one."""
    token: str | None = None
    """Secret that clients send as ``Authorization: Bearer``; None = none is asked for."""
    idle_s: float = 300.0
    """Seconds of silence after which a client is dropped and its row is free."""
    send_s: float = 10.0
    """Seconds a client may take to read an answer."""
    max_message_bytes: int = 1 << 20
    """Largest message that is read."""
    max_connections: int = 8
    """Clients served at a time."""
    max_queue: int = 4
    """Frames read ahead per client; the sender of more is slowed."""

    def __post_init__(self) -> None:
        """Raise UsageError where a value is out of range, or an open address has no token."""
        if not 0 <= self.port < 65536:
            raise UsageError(f"expected a port in [0, 65535], got {self.port}")
        for name in ("idle_s", "send_s", "max_message_bytes", "max_connections", "max_queue"):
            if not getattr(self, name) > 0:
                raise UsageError(f"expected {name} > 0, got {getattr(self, name)}")
        if self.token is not None and not all(33 <= ord(letter) <= 126 for letter in self.token):
            raise UsageError("expected a token of printable ASCII without spaces: it travels in an HTTP header")
        if not is_loopback(self.host) and not self.token:
            raise UsageError(
                f"{self.host} can be reached from other machines: set a token in {TOKEN_VARIABLE}, here and at the "
                "clients (or listen on 127.0.0.1)"
            )


class Session(Protocol):
    """One connection's side of the conversation; a new one is made per connection."""

    async def open(self) -> Message:
        """Return the hello, or raise ProtocolError to refuse."""

    async def answer(self, kind: str, received: Message) -> Message:
        """Return the answer to a request, or raise ProtocolError."""

    async def close(self) -> None:
        """Release what the session holds; called once, whatever happened."""


class WireServer:
    """Runs sessions; a context manager that listens inside the block."""

    def __init__(self, make_session: Callable[[], Session], settings: ServerSettings) -> None:
        """Prepare; nothing listens before `start`.

        Raises:
            UsageError: the extra ``serve`` is not installed.
        """
        require_extra()
        self.settings = settings
        self.make_session = make_session
        self.port = settings.port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping: asyncio.Event | None = None
        self._ready = threading.Event()
        self._problem: BaseException | None = None
        self._connected = 0

    @property
    def address(self) -> str:
        """What clients connect to."""
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"ws://{host}:{self.port}"

    def start(self) -> None:
        """Listen; returns when clients can connect.

        Raises:
            UsageError: the address cannot be listened on.
        """
        self._ready.clear()
        self._problem = None
        self._thread = threading.Thread(target=self._run, name="wire-server", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._problem is not None:
            self._thread.join()
            problem, self._thread = self._problem, None
            if isinstance(problem, OSError):
                where = f"{self.settings.host}:{self.settings.port}"
                raise UsageError(f"cannot listen on {where}: {problem.strerror or problem}") from problem
            raise problem

    def stop(self) -> None:
        """Stop listening, close every connection (code 1001), wait for the sessions to end. Twice is once."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        assert self._loop is not None and self._stopping is not None
        self._loop.call_soon_threadsafe(self._stopping.set)
        thread.join()

    def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGINT or SIGTERM; ``started`` is called once clients can connect. Main thread only."""
        asked = threading.Event()
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, lambda *_: asked.set()) for number in numbers]
        try:
            self.start()
            started()
            asked.wait()
        finally:
            # From here on a second signal ends the process, whatever a session waits for.
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
            self.stop()

    def __enter__(self) -> WireServer:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as problem:
            self._problem = problem
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        from websockets.asyncio.server import serve

        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        async with serve(
            self._converse,
            self.settings.host,
            self.settings.port,
            compression=None,
            origins=[None],
            process_request=self._admit,
            max_size=self.settings.max_message_bytes,
            max_queue=self.settings.max_queue,
            close_timeout=2.0,
        ) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            self._ready.set()
            await self._stopping.wait()

    def _admit(self, connection: Any, request: Any) -> Any:
        """Answer the opening request with an HTTP error, or let it pass with None."""
        if self.settings.token is not None:
            given = request.headers.get_all("Authorization")
            wanted = f"Bearer {self.settings.token}".encode()
            if len(given) != 1 or not hmac.compare_digest(given[0].encode(), wanted):
                return connection.respond(401, f"expected 'Authorization: Bearer TOKEN' ({TOKEN_VARIABLE})\n")
        if self._connected >= self.settings.max_connections + REFUSED:
            return connection.respond(503, "too many connections\n")
        return None

    async def _converse(self, socket: Any) -> None:
        from websockets.exceptions import ConnectionClosed

        self._connected += 1
        session: Session | None = None
        try:
            session = self.make_session()
            try:
                await self._send(socket, await session.open())
                while True:
                    await self._send(socket, await self._turn(socket, session))
            except ProtocolError as problem:
                await self._send(socket, error(problem.code, str(problem)))
                await socket.close(1013 if problem.code == "full" else 1008, problem.code)
        except ConnectionClosed:
            pass
        except Exception:
            logger.exception("a connection failed")
            await socket.close(1011)
        finally:
            self._connected -= 1
            if session is not None:
                await session.close()

    async def _turn(self, socket: Any, session: Session) -> Message:
        """Return the answer to the next request; raises ProtocolError where the connection has to end."""
        number = None
        try:
            received = unpack(await self._receive(socket))
            number = received.get("id")
            answer = await session.answer(kind_of(received), received)
        except ProtocolError as problem:
            if problem.code in FATAL:
                raise
            answer = error(problem.code, str(problem))
        # The client's own number of the request, for clients that send several without waiting.
        return {**answer, "id": number} if isinstance(number, int) else answer

    async def _receive(self, socket: Any) -> bytes:
        try:
            async with asyncio.timeout(self.settings.idle_s):
                data = await socket.recv()
        except TimeoutError as problem:
            raise ProtocolError(f"nothing came for {self.settings.idle_s:g} s", "timeout") from problem
        if not isinstance(data, bytes):
            raise ProtocolError("expected a binary message (msgpack), got text")
        return data

    async def _send(self, socket: Any, message: Message) -> None:
        try:
            data = pack(message)
        except UsageError as problem:
            data = pack(error("failed", f"the answer has no form on the wire: {problem}"))
        try:
            async with asyncio.timeout(self.settings.send_s):
                await socket.send(data)
        except TimeoutError:
            # It does not read: a closing handshake would wait for it once more.
            socket.transport.abort()
            await socket.wait_closed()


def is_loopback(host: str) -> bool:
    """Return True where only this machine can connect."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def token_from_environment() -> str | None:
    """Return the token that the environment names, or None."""
    return os.environ.get(TOKEN_VARIABLE) or None


def require_extra() -> None:
    """Raise UsageError where the packages of the extra ``serve`` are missing."""
    try:
        import msgpack  # noqa: F401
        import websockets  # noqa: F401
    except ModuleNotFoundError as problem:
        raise UsageError(f"{problem.name} is missing: pip install 'embodied-mem[serve]'") from problem
