"""``embodied-mem ask``: put a bounded memory over a recording or a live stream and ask it questions."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import typer

from embodied_mem.cli.output import console, emit_json, progress, stdout
from embodied_mem.errors import UsageError

FPS = 2.0


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command()
    def ask(
        source: str | None = typer.Argument(None, help="Video file, folder of images, URL, camera:N or environment."),
        camera: int | None = typer.Option(None, "--camera", help="A camera of this machine instead, by number."),
        question: list[str] = typer.Option([], "-q", "--question", help="A question; repeatable. None: a prompt."),
        at: list[float] = typer.Option([], "--at", help="Second of each question; default the end."),
        memory: str | None = typer.Option(None, "--memory", help="Stream memory (`list stream-memories`)."),
        answerer: str | None = typer.Option(None, "--answerer", help="Who answers (`list answerers`)."),
        encoder: str | None = typer.Option(None, "--encoder", help="Encoder of the frames (`list encoders`), or grid."),
        option: list[str] = typer.Option([], "--set", help="memory.KEY=V, answerer.KEY=V or encoder.KEY=V."),
        fps: float = typer.Option(FPS, "--fps", help="Frames per second that are remembered; 0 for all."),
        decoder: str = typer.Option("opencv", "--decoder", help="Of video files: opencv, or pyav (extra video)."),
        device: str = typer.Option("auto", "--device", help="Of the encoder: auto, cpu, cuda or cuda:i."),
        session: Path | None = typer.Option(None, "--session", help="Folder of the memory: saved, and continued."),
        speech: Path | None = typer.Option(
            None, "--speech", help="Folder of a speech model: words go into the memory."
        ),
        budget: int = typer.Option(256, "--budget", help="Tokens recalled for a question."),
        frames: int = typer.Option(6, "--frames", help="Evidence frames saved per question."),
        out: Path | None = typer.Option(None, "--out", help="Folder of the evidence; default runs/ask-TIME."),
        as_json: bool = typer.Option(False, "--json", help="Print one JSON value on stdout."),
    ) -> None:
        """Ask questions about a recording at given seconds, or about a running stream at a prompt."""
        from embodied_mem.stream.asking import make_asker, pair, session_config, speech_track
        from embodied_mem.stream.defaults import MEMORY, choose
        from embodied_mem.stream.session import Session
        from embodied_mem.stream.sources import open_source

        name = source_name(source, camera)
        if at and not question:
            raise UsageError("expected a question (-q) for every --at")
        questions = pair(question, at or None) if question else []
        options = component_options(option)
        eyes, voice = choose(encoder, answerer)
        asker = make_asker(voice, options.get("answerer"), budget=budget, shown=frames)
        config = session_config(memory or MEMORY, eyes, options, session, device=device)
        opened = open_source(name, fps=fps or None, decoder=decoder)  # type: ignore[arg-type]
        heard = None if speech is None else speech_track(name, speech, device)
        folder = out or Path("runs") / time.strftime("ask-%Y%m%d-%H%M%S")
        with Session(opened, config, speech=heard) as running:
            if questions:
                answers = _answer(running, asker, questions, folder, as_json)
            else:
                from embodied_mem.cli.asking.prompt import converse

                answers = converse(running, asker, folder, quiet=as_json)
            result = _result(running, asker.answerer, name, answers, folder)
        if answers:
            from embodied_mem.cli.asking.written import save_answers

            save_answers(folder, result)
            console.print(f"evidence in {folder}", markup=False, highlight=False, soft_wrap=True)
        if as_json:
            emit_json(result)


def source_name(source: str | None, camera: int | None) -> str:
    """Return the one source that was named.

    Raises:
        UsageError: none or two were.
    """
    if (source is None) == (camera is None):
        got = "neither" if source is None else "both"
        raise UsageError(f"expected a source (a file, folder, URL or environment) or --camera N, got {got}")
    if camera is not None and camera < 0:
        raise UsageError(f"expected a camera number >= 0, got {camera}")
    return f"camera:{camera}" if source is None else source


def component_options(words: list[str]) -> dict[str, dict[str, Any]]:
    """Return ``{"memory": {"slots": 8}}`` for ``["memory.slots=8"]``.

    Raises:
        UsageError: a word names no component.
    """
    from embodied_mem.config import parse_overrides

    found: dict[str, dict[str, Any]] = {}
    for key, value in parse_overrides(words).items():
        component, dot, name = key.partition(".")
        if not dot or not name or component not in ("memory", "answerer", "encoder"):
            raise UsageError(f"expected --set memory.KEY=VALUE, answerer.KEY=VALUE or encoder.KEY=VALUE, got {key!r}")
        inner = found.setdefault(component, {})
        *path, last = name.split(".")
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return found


def _answer(
    running: Any, asker: Any, questions: list[tuple[str, float]], folder: Path, quiet: bool
) -> list[dict[str, Any]]:
    from embodied_mem.cli.asking.written import lines, record, save_frames
    from embodied_mem.stream.asking import ask_in_time

    last = max(t for _, t in questions)
    with progress() as bar:
        task = bar.add_task("remembering", total=None if last == float("inf") else round(last), rate="")

        def seen(t_s: float, frames: int) -> None:
            bar.update(task, completed=round(t_s), rate=f"s of the stream, {frames} frames")

        replies = ask_in_time(running, asker, questions, seen)
    answers = []
    for number, reply in enumerate(replies, start=1):
        paths = save_frames(reply, folder, number)
        answers.append(record(reply, paths))
        if not quiet:
            for line in lines(reply, paths):
                stdout.print(line, markup=False, highlight=False, soft_wrap=True)
    return answers


def _result(running: Any, answerer: Any, name: str, answers: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from embodied_mem import registry
    from embodied_mem.cli.asking.written import second

    named = [key for key in registry.names("answerer") if registry.get("answerer", key) is type(answerer)]
    return {
        "command": "ask",
        "source": running.source.source_id,
        "memory": running.config.memory,
        "encoder": running.config.encoder,
        "answerer": named[0] if named else type(answerer).__name__,
        "answers": answers,
        "until_s": second(running.memory.until_s),
        "frames": asdict(running.counters()),
        "memory_bytes": running.memory.nbytes(),
        "timings_ms": running.timings_ms(),
        "session": running.config.checkpoint,
        "out": str(folder) if answers else None,
    }
