"""The environment side of the protocol: one client, one vector environment, one thread.

What is hosted is anything with Gymnasium's vector interface; nothing of Gymnasium is imported, so that `host` runs in
Pythons that have an old one or none. Each client's environment is made, stepped and closed in a thread of its own:
OpenGL contexts belong to the thread that made them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.wire.codec import ProtocolError, pack
from embodied_mem.wire.messages import Message, field, message
from embodied_mem.wire.server import ServerSettings, WireServer

T = TypeVar("T")

PATIENCE_S = 2.0
"""Seconds that a client waits for rows."""
ACTION_BYTES = 4096
"""Bytes reserved per row for an action in the default limit on messages."""


class Hosted(Protocol):
    """What a session calls: Gymnasium's vector interface and, where there are any, the extras of `BatchedEnv`."""

    num_envs: int

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Start episodes."""

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Play actions."""

    def close(self) -> None:
        """Release everything."""


Maker = Callable[[int, str, Mapping[str, Any]], Hosted]
"""(number of rows, name of the autoreset mode, keywords of the client) -> environment; runs in the client's thread."""


class EnvServer(WireServer):
    """Serves environments; a context manager that listens inside the block."""

    def __init__(
        self,
        make: Maker,
        hello: Mapping[str, Any],
        *,
        rows: int = 64,
        clients: int = 8,
        client_options: bool = False,
        **settings: Any,
    ) -> None:
        """Prepare; nothing listens before `start`.

        Args:
            make: makes a client's environment.
            hello: what is published: ``env``, ``observation_space``, ``action_space`` (JSON forms, one row), ``about``.
            rows: rows over all clients.
            clients: clients at a time.
            client_options: clients may give keywords of the environment.
            settings: of `ServerSettings`.

        Raises:
            UsageError: a value is out of range.
        """
        if rows < 1:
            raise UsageError(f"expected rows >= 1, got {rows}")
        settings = {"idle_s": 600.0, "max_message_bytes": (1 << 16) + ACTION_BYTES * rows, **settings}
        super().__init__(self._session, ServerSettings(max_connections=clients, **settings))
        self.make, self.client_options = make, client_options
        self.rows, self.free, self.clients, self.connected = rows, rows, clients, 0
        self.hello = message(
            "hello",
            kind="env",
            rows=rows,
            client_options=client_options,
            idle_s=float(self.settings.idle_s),
            max_message_bytes=self.settings.max_message_bytes,
            **hello,
        )

    def _session(self) -> _Client:
        return _Client(self)


class _Client:
    """One connection: first ``make``, then anything."""

    def __init__(self, server: EnvServer) -> None:
        self.server = server
        self.env: Hosted | None = None
        self.rows = 0
        self.counted = False
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="env")

    async def open(self) -> Message:
        if self.server.connected >= self.server.clients:
            raise ProtocolError(f"all {self.server.clients} places for clients are taken; try again later", "full")
        self.server.connected += 1
        self.counted = True
        return self.server.hello

    async def answer(self, kind: str, received: Message) -> Message:
        if kind == "make":
            return await self._make(received)
        answers = {
            "reset": self._reset,
            "step": self._step,
            "privileged": self._privileged,
            "describe": self._row,
            "trace": self._row,
            "render": self._render,
        }
        if kind not in answers:
            raise ProtocolError(f"expected a request of {', '.join(answers)} or make, got {kind[:40]!r}", "request")
        if self.env is None:
            raise ProtocolError(f"expected 'make' before {kind!r}", "request")
        return message(kind, **await self._call(lambda: answers[kind](received)))

    async def close(self) -> None:
        env, self.env = self.env, None
        if env is not None:
            await asyncio.get_running_loop().run_in_executor(self.pool, _quietly, env.close)
        self.pool.shutdown(wait=False)
        self.server.free += self.rows
        self.server.connected -= self.counted
        self.rows, self.counted = 0, False

    async def _make(self, received: Message) -> Message:
        if self.env is not None:
            raise ProtocolError("expected one 'make' per connection, got a second", "request")
        n, mode = field(received, "num_envs", int), field(received, "autoreset_mode", str)
        options = field(received, "options", dict, {})
        if n < 1:
            raise ProtocolError(f"expected num_envs >= 1, got {n}", "request")
        if n > self.server.rows:
            raise ProtocolError(f"this server has {self.server.rows} rows, {n} are wanted; serve more --rows", "full")
        # How it is drawn is no matter of the operator's.
        given = sorted(set(options) - {"render_mode"})
        if given and not self.server.client_options:
            raise ProtocolError(f"this server takes no options from clients, got {given[:8]}", "request")
        # A client that has just left frees its rows a little later.
        until = time.monotonic() + PATIENCE_S
        while n > self.server.free:
            if time.monotonic() > until:
                raise ProtocolError(f"{self.server.free} rows are free, {n} are wanted; serve more --rows", "full")
            await asyncio.sleep(0.02)
        # Taken before the environment is made: others may ask meanwhile.
        self.server.free -= n
        self.rows = n
        try:
            self.env = await self._call(lambda: self.server.make(n, mode, options))
        except ProtocolError:
            self.server.free += n
            self.rows = 0
            raise
        found = getattr(self.env, "metadata", None)
        metadata = {key: value for key, value in dict(found or {}).items() if _is_plain(value)}
        return message("make", num_envs=n, metadata=metadata)

    async def _call(self, function: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self.pool, function)
        except ProtocolError:
            raise
        except Exception as problem:
            text = " ".join(f"{type(problem).__name__}: {problem}".split())[:400]
            raise ProtocolError(text, "request" if isinstance(problem, UsageError) else "failed") from problem

    def _reset(self, received: Message) -> dict[str, Any]:
        seed, options = received.get("seed"), field(received, "options", (dict, type(None)), None)
        assert self.env is not None
        obs, info = self.env.reset(seed=seed, options=options)
        return {"obs": obs, "info": _sendable(info)}

    def _step(self, received: Message) -> dict[str, Any]:
        assert self.env is not None
        actions = received.get("actions")
        if not isinstance(actions, np.ndarray) or actions.shape[:1] != (self.rows,):
            got = getattr(actions, "shape", type(actions).__name__)
            raise ProtocolError(f"expected actions as an array of {self.rows} rows, got {got}", "schema")
        obs, reward, terminated, truncated, info = self.env.step(actions)
        flags = {"reward": np.asarray(reward), "terminated": np.asarray(terminated), "truncated": np.asarray(truncated)}
        return {"obs": obs, **flags, "info": _sendable(info)}

    def _privileged(self, received: Message) -> dict[str, Any]:
        read = getattr(self._inner(), "privileged", None)
        if read is None:
            raise ProtocolError("the environment has no privileged()", "request")
        return {"privileged": read()}

    def _row(self, received: Message) -> dict[str, Any]:
        row = field(received, "row", int)
        if not 0 <= row < self.rows:
            raise ProtocolError(f"expected a row in [0, {self.rows - 1}], got {row}", "request")
        read = getattr(self._inner(), received["type"], None)
        return {"value": {} if read is None else read(row)}

    def _render(self, received: Message) -> dict[str, Any]:
        assert self.env is not None
        frames = getattr(self.env, "render", lambda: None)()
        return {"frames": None if frames is None else [np.asarray(frame) for frame in frames]}

    def _inner(self) -> Any:
        return getattr(self.env, "unwrapped", self.env)


def _sendable(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``info`` without the entries that have no form on the wire (objects of a simulator, say)."""

    def can(value: Any) -> bool:
        try:
            pack({"value": value})
        except UsageError:
            return False
        return True

    return dict(info) if not info or can(info) else {key: value for key, value in info.items() if can(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | bool)


def _quietly(close: Callable[[], None]) -> None:
    try:
        close()
    except Exception:
        # Whatever a simulator says while it dies, its row is free.
        pass
