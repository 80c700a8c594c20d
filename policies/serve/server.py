"""An agent behind a WebSocket: `serve` and the session of one client.

Requests of a client come one at a time. Those of all clients that wait are taken together when the forward before them
ends, so the batch grows with the load by itself and nobody waits for a batch to fill.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gymnasium
import numpy as np

from embodied_mem._version import __version__
from embodied_mem.agent import Agent
from embodied_mem.policies.serve.batch import Request, RowBatcher
from embodied_mem.spaces import space_to_json
from embodied_mem.wire.codec import ProtocolError
from embodied_mem.wire.messages import Message, field, message
from embodied_mem.wire.server import ServerSettings, WireServer

INLINE_S = 2e-3
"""A forward that took less than this is done on the event loop: handing it to a thread and back would take longer."""
SLACK = 1 << 16
"""Bytes of a message beyond its arrays."""


class PolicyServer(WireServer):
    """Serves one agent; a context manager that listens inside the block."""

    def __init__(
        self,
        agent: Agent,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
        *,
        rows: int = 8,
        exact: bool = True,
        about: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        """Prepare; nothing listens before `start`.

        Args:
            agent: who acts.
            observation_space: of one row; published.
            action_space: of one row; published.
            rows: R, clients served at a time.
            exact: see `batch`.
            about: JSON-able facts about the agent (env, env_config, memory, ...); published.
            settings: of `ServerSettings`; messages are as large as an observation needs and no larger.

        Raises:
            UsageError: the agent cannot be served, or a setting is out of range.
        """
        self.batcher = RowBatcher(agent, observation_space, action_space, rows, exact=exact)
        settings = {"max_message_bytes": 2 * self.batcher.schema.nbytes + SLACK, **settings}
        super().__init__(self._session, ServerSettings(max_connections=rows, **settings))
        self.free = list(range(rows))[::-1]
        self.hello = message(
            "hello",
            kind="policy",
            server=f"embodied_mem {__version__}",
            observation_space=space_to_json(observation_space),
            action_space=space_to_json(action_space),
            rows=rows,
            exact=exact,
            idle_s=float(self.settings.idle_s),
            max_message_bytes=self.settings.max_message_bytes,
            about=dict(about or {}),
        )
        # One thread: the agent sees one call at a time, and the loop goes on reading while a long one runs.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="policy")
        self._waiting: list[tuple[Request, asyncio.Future[np.ndarray]]] = []
        self._task: asyncio.Task[None] | None = None
        self._last_s = INLINE_S

    def stop(self) -> None:
        """Stop serving, see `WireServer.stop`."""
        super().stop()
        self._pool.shutdown()

    async def act(self, request: Request) -> np.ndarray:
        """Return the action for a request, computed together with whatever else waits."""
        future: asyncio.Future[np.ndarray] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        """Forward what waits until nothing does."""
        try:
            while self._waiting:
                # One turn of the loop: messages that have arrived already join the batch.
                await asyncio.sleep(0)
                taken, self._waiting = self._waiting, []
                try:
                    answers = await self._forward([item for item, _ in taken])
                except Exception as problem:
                    answers = [problem] * len(taken)
                for (_, future), answer in zip(taken, answers, strict=True):
                    if future.done():
                        continue
                    if isinstance(answer, Exception):
                        future.set_exception(answer)
                    else:
                        future.set_result(answer)
        finally:
            self._task = None

    async def _forward(self, requests: list[Request]) -> list[np.ndarray | Exception]:
        start = time.perf_counter()
        if self._last_s < INLINE_S:
            answers = self.batcher.act(requests)
        else:
            answers = await asyncio.get_running_loop().run_in_executor(self._pool, self.batcher.act, requests)
        self._last_s = time.perf_counter() - start
        return answers

    def _session(self) -> _Client:
        return _Client(self)


class _Client:
    """One connection: its row and whether the next observation opens an episode."""

    def __init__(self, server: PolicyServer) -> None:
        self.server = server
        self.row: int | None = None
        self.opens = True
        self.seed: int | None = None

    async def open(self) -> Message:
        if not self.server.free:
            rows = self.server.batcher.rows
            raise ProtocolError(f"all {rows} rows are taken; try again later, or serve with more --rows", "full")
        self.row = self.server.free.pop()
        return self.server.hello

    async def answer(self, kind: str, received: Message) -> Message:
        if kind == "reset":
            self.seed = _seed(received)
            self.opens = True
            return message("ready")
        if kind != "act":
            raise ProtocolError(f"expected a request 'act' or 'reset', got {kind[:40]!r}", "request")
        opens = field(received, "reset", bool, False) or self.opens
        arrays = self.server.batcher.schema.read(received.get("obs"))
        assert self.row is not None
        try:
            action = await self.server.act(Request(self.row, arrays, opens, self.seed))
        except Exception as problem:
            text = " ".join(f"{type(problem).__name__}: {problem}".split())[:300]
            raise ProtocolError(f"the policy raised {text}", "failed") from problem
        self.opens, self.seed = False, None
        return message("action", action=action)

    async def close(self) -> None:
        if self.row is not None:
            self.server.free.append(self.row)
            self.row = None


def _seed(received: Message) -> int | None:
    seed = field(received, "seed", (int, type(None)), None)
    if seed is not None and not 0 <= seed < 2**63:
        raise ProtocolError(f"expected a seed in [0, 2**63), got {seed}", "request")
    return seed
