"""Who may talk to the server: a token where it is reachable from outside, and no other web page in any case.

token     ``Authorization: Bearer T``, or the cookie that ``/?token=T`` sets
host      without a token only names of this machine are served, so that a foreign name that points here
          (DNS rebinding) opens nothing
origin    requests that change something, and WebSockets, come from the page itself or from no page
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from embodied_mem.errors import UsageError

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
COOKIE = "embodied_mem_token"
SHORTEST_TOKEN = 16
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
_DOOR = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>embodied-mem watch</title><link rel="stylesheet" href="/assets/watch.css"><main class="door">
<h1>embodied-mem watch</h1><p>This page needs the token that was printed where the server was started.</p>
<form action="/" method="get"><input name="token" type="password" autocomplete="current-password"
aria-label="Token" placeholder="Token" autofocus><button>Open</button></form></main></html>
"""


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a server bound to ``host``."""
    return host in LOOPBACK or host.startswith("127.")


def choose_token(host: str, token: str | None) -> str | None:
    """Return the token that a server on ``host`` asks for: the one given, a fresh one, or None on loopback.

    Raises:
        UsageError: the token given is too short to be a secret.
    """
    if token is not None:
        if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or set(token) & set(' ";,\\'):
            raise UsageError(
                f"expected a token of at least {SHORTEST_TOKEN} printable ASCII characters without blanks, "
                'quotes, ";", "," or backslashes'
            )
        return token
    return None if is_loopback(host) else secrets.token_urlsafe(24)


class Guard:
    """ASGI middleware; everything but the style sheet of the door goes through it."""

    def __init__(self, app: App, token: str | None, hosts: tuple[str, ...] = LOOPBACK) -> None:
        """Guard an app.

        Args:
            app: what is served.
            token: what to ask for; None for nothing.
            hosts: names under which a server without a token is served.
        """
        self.app, self.token, self.hosts = app, token, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host, given = headers.get("host", ""), parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token")
        if self.token is None and _hostname(host) not in self.hosts:
            await _refuse(scope, send, 403, "this server answers to names of this machine only")
        elif _changes(scope) and not _same_origin(headers.get("origin"), host):
            await _refuse(scope, send, 403, "expected a request from the page itself")
        elif self.token is None or scope["path"] == "/assets/watch.css" or self._known(headers):
            await self.app(scope, receive, _with_headers(send))
        elif scope["type"] == "http" and scope["path"] == "/" and given and _equal(given[-1], self.token):
            await self._welcome(send)
        elif scope["type"] == "http" and scope["path"] == "/":
            await _answer(send, 401, _DOOR.encode(), "text/html; charset=utf-8")
        else:
            await _refuse(scope, send, 401, "expected the token: Authorization: Bearer TOKEN")

    def _known(self, headers: dict[str, str]) -> bool:
        assert self.token is not None
        kind, _, value = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return _equal(value.strip(), self.token)
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and _equal(cookie.value, self.token)

    async def _welcome(self, send: Send) -> None:
        """Keep the token in a cookie that scripts cannot read, and take it out of the address."""
        cookie = f"{COOKIE}={self.token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=604800"
        await _answer(send, 303, b"", "text/plain", {"location": "/", "set-cookie": cookie})


def _changes(scope: Scope) -> bool:
    return scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")


def _same_origin(origin: str | None, host: str) -> bool:
    """Return whether a request comes from our page, or from no page (a script, which needs no leave)."""
    return origin is None or urlsplit(origin).netloc == host


def _hostname(host: str) -> str:
    return (urlsplit(f"//{host}").hostname or "") if host else ""


def _equal(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())


def _with_headers(send: Send) -> Send:
    async def wrapped(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            held = {name.lower() for name, _ in message.get("headers", ())}
            more = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in held]
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await send(message)

    return wrapped


async def _refuse(scope: Scope, send: Send, status: int, why: str) -> None:
    if scope["type"] == "websocket":
        # before it is accepted this is an HTTP 403 to the client
        await send({"type": "websocket.close", "code": 1008, "reason": why})
        return
    await _answer(send, status, f'{{"error": "{why}"}}'.encode(), "application/json")


async def _answer(send: Send, status: int, body: bytes, kind: str, more: dict[str, str] | None = None) -> None:
    headers = {**HEADERS, "content-type": kind, "content-length": str(len(body)), **(more or {})}
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
