"""The server process: a socket, a token where it is needed, an end on Ctrl-C."""

from __future__ import annotations

import socket
from collections.abc import Callable

from embodied_mem.errors import UsageError
from embodied_mem.stream.web.app import build_app
from embodied_mem.stream.web.guard import LOOPBACK, choose_token, is_loopback
from embodied_mem.stream.web.rooms import Rooms

_GRACE_S = 3


def serve(
    rooms: Rooms,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    token: str | None = None,
    ready: Callable[[str, str | None], None] | None = None,
) -> None:
    """Serve until the process is interrupted, then end every session.

    Args:
        rooms: the sessions.
        host: address to bind; anything but this machine's own asks for a token.
        port: 0 for any that is free.
        token: a secret of 16 characters or more; None for a fresh one where one is needed.
        ready: gets the address of the page, and the token, once the port is open.

    Raises:
        UsageError: the extra ``web`` is not installed, the token is too short, or the port is taken.
    """
    secret = choose_token(host, token)
    hosts = (*LOOPBACK, host) if is_loopback(host) else LOOPBACK
    app = build_app(rooms, token=secret, hosts=hosts)
    try:
        import uvicorn
        import websockets  # noqa: F401
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed; pip install 'embodied-mem[web]'") from error
    listening = _listen(host, port)
    # a wildcard is no address that a browser can open
    name = socket.gethostname() if host in ("0.0.0.0", "::", "") else f"[{host}]" if ":" in host else host
    address = f"http://{name}:{listening.getsockname()[1]}/"
    config = uvicorn.Config(
        app,
        log_level="warning",
        ws_max_size=rooms.limits.picture_bytes + 1024,
        timeout_graceful_shutdown=_GRACE_S,
        server_header=False,
    )
    if ready is not None:
        ready(address, secret)
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        listening.close()
        rooms.close_all()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise UsageError(f"cannot listen on {host} port {port}: {error}; give another --port or --host") from error
