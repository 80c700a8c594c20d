"""One viewer's WebSocket: pictures and states out, questions in, at the speed of the viewer.

out, JSON   ``hello`` (name, history), ``status`` and ``timeline`` twice a second, ``piece`` (an answer that is coming),
            ``answer``, ``alert``, ``standing``, ``error``
out, bytes  float64 little-endian seconds, then a JPEG; the next is sent after the viewer said ``shown``
in, JSON    ``{"type": "ask", "id", "question", "at_s"?}``, ``{"type": "forget", "number"}``, ``{"type": "shown"}``
in, bytes   float64 little-endian seconds (negative for: now), then a JPEG; sessions of a browser's camera alone
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from embodied_mem.errors import UsageError
from embodied_mem.stream.sources import PushSource
from embodied_mem.stream.standing import to_be_told
from embodied_mem.stream.web.rooms import Json, Limits, Room

if TYPE_CHECKING:
    from fastapi import WebSocket

FRAME_S = 0.08
STATUS_S = 0.5
PENDING = 4
"""Questions of one viewer that may wait for their answers."""
_LOG = logging.getLogger(__name__)


class Viewer:
    """One connection to one room."""

    def __init__(self, socket: WebSocket, room: Room, limits: Limits, workers: ThreadPoolExecutor) -> None:
        self.socket, self.room, self.limits, self.workers = socket, room, limits, workers
        self._loop = asyncio.get_running_loop()
        self._sending = asyncio.Lock()
        self._shown = asyncio.Event()
        self._asking: set[asyncio.Task[None]] = set()
        self._telling: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Talk until the session is closed.

        Raises:
            WebSocketDisconnect: the viewer has left.
        """
        await self.socket.accept()
        room = self.room
        await self.send({"type": "hello", **room.facts(), "history": list(room.history)})
        room.listeners.add(self._alerted)
        self._shown.set()
        tasks = [asyncio.create_task(work()) for work in (self._listen, self._pictures, self._states)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            room.listeners.discard(self._alerted)
            for task in (*tasks, *self._asking):
                task.cancel()
                task.add_done_callback(_ended)

    async def send(self, message: Json) -> None:
        """Send one JSON message."""
        async with self._sending:
            await self.socket.send_text(json.dumps(message, allow_nan=False))

    async def _pictures(self) -> None:
        last: float | None = None
        while True:
            # a viewer behind a slow line gets fewer pictures, never late ones
            await self._shown.wait()
            found = await self._loop.run_in_executor(None, self.room.picture)
            if found is not None and found[0] != last:
                last = found[0]
                self._shown.clear()
                async with self._sending:
                    await self.socket.send_bytes(struct.pack("<d", found[0]) + found[1])
            await asyncio.sleep(FRAME_S)

    async def _states(self) -> None:
        drawn = -1
        while not self.room.closed:
            await self.send(await self._loop.run_in_executor(None, self.room.status))
            timeline = await self._loop.run_in_executor(None, self.room.timeline)
            if timeline["version"] != drawn:
                drawn = timeline["version"]
                await self.send(timeline)
            await asyncio.sleep(STATUS_S)

    async def _listen(self) -> None:
        from starlette.websockets import WebSocketDisconnect

        while True:
            message = await self.socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1000))
            try:
                if message.get("bytes") is not None:
                    self._push(message["bytes"])
                else:
                    await self._take(_parsed(message.get("text") or ""))
            except UsageError as error:
                await self.send({"type": "error", "id": None, "message": str(error)})

    def _push(self, data: bytes) -> None:
        source = self.room.session.source
        if not isinstance(source, PushSource):
            raise UsageError("expected pictures for the camera of a browser only; this session has its own source")
        push_picture(source, data, self.limits)

    async def _take(self, message: Json) -> None:
        kind = message.get("type")
        if kind == "shown":
            self._shown.set()
        elif kind == "forget":
            self.room.forget(int(_number(message.get("number"))))
        elif kind == "ask":
            if len(self._asking) >= PENDING:
                raise UsageError(f"expected at most {PENDING} questions at a time; wait for an answer")
            task = asyncio.create_task(self._ask(message))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        else:
            raise UsageError(f"expected a message of type ask, forget or shown, got {str(kind)[:40]!r}")

    async def _ask(self, message: Json) -> None:
        name = message.get("id")
        try:
            question, at_s = asked(message)
            what = to_be_told(question)
            if what is not None:
                number = self.room.tell_when(what)
                await self.send({"type": "standing", "id": name, "number": number, "question": what})
                return

            def heard(text: str) -> None:
                self._send_soon({"type": "piece", "id": name, "text": text})

            said = await self._loop.run_in_executor(self.workers, self.room.ask, question, at_s, heard)
            await self.send({**said, "id": name})
        except UsageError as error:
            await self.send({"type": "error", "id": name, "message": str(error)})
        except Exception as error:
            # the connection outlives an answerer that breaks; the log has the rest
            _LOG.exception("the answerer failed")
            await self.send({"type": "error", "id": name, "message": f"the answerer failed: {type(error).__name__}"})

    def _alerted(self, alert: Json) -> None:
        self._send_soon(alert)

    def _send_soon(self, message: Json) -> None:
        """Send from another thread; a viewer who has left misses it."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._start, message)

    def _start(self, message: Json) -> None:
        task = asyncio.create_task(self.send(message))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)
        task.add_done_callback(_ended)


def _ended(task: asyncio.Task[None]) -> None:
    """Take note of how a task ended, so that nobody is told of a connection that is gone."""
    if not task.cancelled():
        task.exception()


def asked(message: Json) -> tuple[str, float | None]:
    """Return question and second of a message.

    Raises:
        UsageError: one is missing or of another type.
    """
    question, at_s = message.get("question"), message.get("at_s")
    if not isinstance(question, str):
        raise UsageError("expected a question, a text")
    return question.strip(), None if at_s is None else _number(at_s)


def push_picture(source: PushSource, data: bytes, limits: Limits) -> None:
    """Give a session one picture: float64 little-endian seconds (negative for: now), then the file.

    Raises:
        UsageError: it is too short or too long.
    """
    if len(data) <= 8 or len(data) > 8 + limits.picture_bytes:
        raise UsageError(f"expected a picture of 1 to {limits.picture_bytes} bytes after 8 bytes of time")
    (t_s,) = struct.unpack_from("<d", data)
    source.push(data[8:], None if t_s < 0 else t_s)


def _parsed(text: str) -> Json:
    try:
        value: Any = json.loads(text)
    except ValueError as error:
        raise UsageError("expected JSON") from error
    if not isinstance(value, dict):
        raise UsageError("expected a JSON object")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"expected a number, got {str(value)[:40]!r}")
    return float(value)
