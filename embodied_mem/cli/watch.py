"""``embodied-mem watch``: a web page over running streams: live video, what is remembered, questions and answers."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

import typer

from embodied_mem.cli.ask import FPS, component_options
from embodied_mem.cli.output import console, emit_json
from embodied_mem.errors import UsageError

TOKEN_ENV = "EMBODIED_MEM_TOKEN"


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command()
    def watch(
        sources: list[str] | None = typer.Argument(None, help="Files, folders, URLs, camera:N; each its own session."),
        camera: list[int] = typer.Option([], "--camera", help="A camera of this machine, by number; repeatable."),
        host: str = typer.Option("127.0.0.1", "--host", help="Address to bind; others than this machine need a token."),
        port: int = typer.Option(8765, "--port", min=0, max=65535, help="Port; 0 for any that is free."),
        token: str | None = typer.Option(None, "--token", help=f"Secret to ask for; also ${TOKEN_ENV}."),
        memory: str | None = typer.Option(None, "--memory", help="Stream memory (`list stream-memories`)."),
        answerer: str | None = typer.Option(None, "--answerer", help="Who answers (`list answerers`)."),
        encoder: str | None = typer.Option(None, "--encoder", help="Encoder of the frames (`list encoders`), or grid."),
        option: list[str] = typer.Option([], "--set", help="memory.KEY=V, answerer.KEY=V or encoder.KEY=V."),
        fps: float = typer.Option(FPS, "--fps", help="Frames per second that are remembered; 0 for all."),
        speed: float = typer.Option(1.0, "--speed", help="Speed of recordings; 0 for as fast as it goes."),
        device: str = typer.Option("auto", "--device", help="Of the encoder: auto, cpu, cuda or cuda:i."),
        session: Path | None = typer.Option(None, "--session", help="Folder of the memories: saved, and continued."),
        uploads: Path | None = typer.Option(None, "--uploads", help="Folder of uploads; default a temporary one."),
        max_upload: int = typer.Option(2000, "--max-upload", min=1, help="Largest upload, MB."),
        max_sessions: int = typer.Option(8, "--max-sessions", min=1, help="Sessions at a time."),
        as_json: bool = typer.Option(False, "--json", help="Print address and token as one JSON value, then serve."),
    ) -> None:
        """Serve a web page: live video, what the memory keeps, and a box for questions."""
        from embodied_mem.stream.asking import make_asker, session_config
        from embodied_mem.stream.defaults import MEMORY, choose
        from embodied_mem.stream.sources import open_source
        from embodied_mem.stream.web.rooms import SHOWN_FPS, Limits, Rooms
        from embodied_mem.stream.web.server import serve

        names = [*(sources or []), *(f"camera:{number}" for number in camera)]
        if not speed >= 0:
            raise UsageError(f"expected a speed >= 0, got {speed}")
        if len(names) > max_sessions:
            raise UsageError(f"expected at most {max_sessions} sources, got {len(names)}; raise --max-sessions")
        options = component_options(option)
        eyes, voice = choose(encoder, answerer)
        asker = make_asker(voice, options.get("answerer"))
        config = session_config(memory or MEMORY, eyes, options, session, fps=fps or None, device=device)

        def ready(address: str, secret: str | None) -> None:
            if as_json:
                emit_json(
                    {
                        "command": "watch",
                        "url": address,
                        "token": secret,
                        "sessions": [room.facts() for room in rooms.all()],
                    }
                )
            else:
                shown = address if secret is None else f"{address}?token={secret}"
                console.print(f"open {shown}   (Ctrl-C ends)", markup=False, highlight=False, soft_wrap=True)

        with ExitStack() as stack:
            folder = uploads or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="embodied-mem-")))
            rooms = Rooms(asker, config, folder, Limits(max_sessions, max_upload * 1_000_000))
            rooms.pace = speed
            stack.callback(rooms.close_all)
            for name in names:
                source = open_source(name, fps=max(fps, SHOWN_FPS) if fps else None)
                source.pace = 0.0 if source.live else speed
                rooms.open(source, "source", address=name)
            serve(rooms, host=host, port=port, token=token or os.environ.get(TOKEN_ENV) or None, ready=ready)
