"""The routes of the server, as a FastAPI app.

    GET    /                                       the page
    GET    /api/sessions                           names and states
    POST   /api/sessions                           a session for the camera of this browser
    POST   /api/uploads?name=tour.mp4              a session for the video in the body
    DELETE /api/sessions/ID
    POST   /api/sessions/ID/ask                    {"question", "at_s"?} -> the answer
    POST   /api/sessions/ID/frames?t_s=1.5         one picture (JPEG, PNG, WebP) for a browser's session
    GET    /api/sessions/ID/answers/N/K.jpg        an evidence frame
    WS     /api/sessions/ID/live                   see `embodied_mem.stream.web.live`

Sources are named where the server is started; over the network come only videos and pictures themselves, never a path
or an address to open.
"""

from __future__ import annotations

import asyncio
import importlib.resources
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embodied_mem.errors import UsageError
from embodied_mem.stream.answerers.base import AnswererError
from embodied_mem.stream.sources import PushSource, open_source
from embodied_mem.stream.web.guard import LOOPBACK, Guard
from embodied_mem.stream.web.live import Viewer, asked
from embodied_mem.stream.web.rooms import SHOWN_FPS, Json, Room, Rooms, RoomsFull
from embodied_mem.stream.web.uploads import TooLarge, megabytes, place_for, receive, safe_name

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, WebSocket
    from fastapi.responses import Response

ASSETS = {
    "watch.css": "text/css; charset=utf-8",
    "watch.js": "text/javascript; charset=utf-8",
    "draw.js": "text/javascript; charset=utf-8",
}
_QUESTION_BYTES = 16_384
_ANSWERERS = 4


def build_app(rooms: Rooms, *, token: str | None = None, hosts: tuple[str, ...] = LOOPBACK) -> FastAPI:
    """Return the app of a server.

    Args:
        rooms: the sessions; closed when the server ends.
        token: what every request has to bring; None for nothing (see `Guard`).
        hosts: names under which a server without a token is served.

    Raises:
        UsageError: the extra ``web`` is not installed.
    """
    try:
        from fastapi import FastAPI
        from starlette.routing import Route, WebSocketRoute
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed; pip install 'embodied-mem[web]'") from error
    pages = Pages(rooms)
    one = "/api/sessions/{number}"

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(pages.close)

    routes = [
        Route("/", pages.index),
        Route("/assets/{name}", pages.asset),
        Route("/api/sessions", pages.sessions),
        Route("/api/sessions", pages.browser, methods=["POST"]),
        Route("/api/uploads", pages.upload, methods=["POST"]),
        Route(one, pages.close_one, methods=["DELETE"]),
        Route(one + "/ask", pages.ask, methods=["POST"]),
        Route(one + "/frames", pages.frame, methods=["POST"]),
        Route(one + "/answers/{answer:int}/{place:int}.jpg", pages.evidence),
        WebSocketRoute(one + "/live", pages.live),
    ]
    app = FastAPI(title="embodied-mem watch", openapi_url=None, routes=routes, lifespan=lifespan)  # type: ignore[arg-type]
    for kind, status in ((TooLarge, 413), (RoomsFull, 409), (AnswererError, 502), (UsageError, 422)):
        app.add_exception_handler(kind, _told(status))
    app.add_middleware(Guard, token=token, hosts=hosts)
    return app


class Pages:
    """What every route does."""

    def __init__(self, rooms: Rooms) -> None:
        self.rooms = rooms
        self.workers = ThreadPoolExecutor(_ANSWERERS, thread_name_prefix="answer")

    def close(self) -> None:
        """End every session."""
        self.rooms.close_all()
        self.workers.shutdown(cancel_futures=True)

    async def index(self, request: Request) -> Response:
        """Return the page."""
        return _file("index.html", "text/html; charset=utf-8")

    async def asset(self, request: Request) -> Response:
        """Return style or script; no other name is looked for."""
        name = request.path_params["name"]
        return _file(name, ASSETS[name]) if name in ASSETS else _json({"error": "no such file"}, 404)

    async def sessions(self, request: Request) -> Response:
        """Return every session."""
        limits = self.rooms.limits
        return _json(
            {
                "sessions": [room.facts() for room in self.rooms.all()],
                "limits": {"sessions": limits.sessions, "upload_bytes": limits.upload_bytes},
            }
        )

    async def browser(self, request: Request) -> Response:
        """Open a session that the camera of a browser feeds."""
        self.rooms.check_room()
        source = PushSource("browser camera", fps=SHOWN_FPS)
        room = await asyncio.to_thread(self.rooms.open, source, "browser")
        return _json(room.facts(), 201)

    async def upload(self, request: Request) -> Response:
        """Take a video in the body and open a session on it."""
        name, most = safe_name(request.query_params.get("name", "")), self.rooms.limits.upload_bytes
        promised = request.headers.get("content-length", "")
        if promised.isdecimal() and int(promised) > most:
            raise TooLarge(f"expected a file of at most {megabytes(most)}, got {megabytes(int(promised))}")
        path = place_for(self.rooms.uploads, name)
        with self.rooms.reserve():
            await receive(request.stream(), path, most)
        try:
            room = await asyncio.to_thread(self._open_upload, path, name)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return _json(room.facts(), 201)

    def _open_upload(self, path: Path, name: str) -> Room:
        try:
            source = open_source(path, fps=SHOWN_FPS)
        except UsageError as error:
            # the browser knows the file by the name it gave
            raise UsageError(str(error).replace(str(path), name)) from error
        source.source_id, source.pace = name, self.rooms.pace
        return self.rooms.open(source, "upload", file=path)

    async def close_one(self, request: Request) -> Response:
        """End a session."""
        closed = await asyncio.to_thread(self.rooms.close, request.path_params["number"])
        return _json({"closed": closed}, 200 if closed else 404)

    async def ask(self, request: Request) -> Response:
        """Answer one question."""
        room = self.rooms.get(request.path_params["number"])
        if room is None:
            return _no_session()
        body = await _body(request, _QUESTION_BYTES)
        try:
            message = json.loads(body)
        except ValueError as error:
            raise UsageError('expected JSON: {"question": "...", "at_s": 95}') from error
        if not isinstance(message, dict):
            raise UsageError("expected a JSON object")
        question, at_s = asked(message)
        loop = asyncio.get_running_loop()
        return _json(await loop.run_in_executor(self.workers, room.ask, question, at_s))

    async def frame(self, request: Request) -> Response:
        """Take one picture for a session that is fed."""
        room = self.rooms.get(request.path_params["number"])
        if room is None:
            return _no_session()
        source = room.session.source
        if not isinstance(source, PushSource):
            raise UsageError("expected pictures for the camera of a browser only; this session has its own source")
        data = await _body(request, self.rooms.limits.picture_bytes)
        given = request.query_params.get("t_s")
        try:
            t_s = None if given is None else float(given)
        except ValueError as error:
            raise UsageError(f"expected t_s in seconds, got {given!r}") from error
        if not data:
            raise UsageError("expected a picture, got 0 bytes")
        return _json({"taken": source.push(data, t_s)}, 202)

    async def evidence(self, request: Request) -> Response:
        """Return an evidence frame."""
        from fastapi.responses import Response

        room = self.rooms.get(request.path_params["number"])
        data = room and room.evidence(request.path_params["answer"], request.path_params["place"])
        if not data:
            return _json({"error": "no such frame, or no longer"}, 404)
        return Response(data, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})

    async def live(self, socket: WebSocket) -> None:
        """Show a session to one viewer."""
        from starlette.websockets import WebSocketDisconnect

        room = self.rooms.get(socket.path_params["number"])
        if room is None:
            await socket.close(1008, "no such session")
            return
        try:
            await Viewer(socket, room, self.rooms.limits, self.workers).serve()
            await socket.close(1000, "the session was closed")
        except WebSocketDisconnect:
            return


def _told(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handler(request: Request, error: Exception) -> Response:
        return _json({"error": str(error)}, status)

    return handler


def _no_session() -> Response:
    return _json({"error": "no such session"}, 404)


def _json(value: Json, status: int = 200) -> Response:
    from fastapi.responses import JSONResponse

    return JSONResponse(value, status)


def _file(name: str, kind: str) -> Response:
    from fastapi.responses import Response

    text = importlib.resources.files("embodied_mem.stream.web").joinpath("assets", name).read_text(encoding="utf-8")
    return Response(text, media_type=kind)


async def _body(request: Request, most: int) -> bytes:
    """Return the body, read no further than ``most`` bytes.

    Raises:
        TooLarge: it is longer.
    """
    parts: list[Any] = []
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > most:
            raise TooLarge(f"expected at most {megabytes(most)}, got more")
        parts.append(chunk)
    return b"".join(parts)
