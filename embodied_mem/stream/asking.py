"""Questions about a recording, each at its own second: the memory has seen what came before it, and nothing else.

    ask("tour.mp4", ["where is the red mug?", "and now?"], at=[95, 140])

The stream is written up to the second of a question, the question is answered from the memory as it is then, and
writing goes on. A session continued from a checkpoint that lies beyond a question answers it from what its memory still
holds of the time before.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from embodied_mem.errors import UsageError
from embodied_mem.stream.answerers.base import Answerer, make_answerer
from embodied_mem.stream.asker import BUDGET, SHOWN, Asker, Reply
from embodied_mem.stream.defaults import MEMORY, choose
from embodied_mem.stream.frames import FrameSource
from embodied_mem.stream.session import Session, SessionConfig
from embodied_mem.stream.sources import open_source
from embodied_mem.stream.speech import LocalSpeech, SpeechTrack

OnProgress = Callable[[float, int], None]
"""Takes the seconds of the stream and the frames written so far."""
_STEP_S = 0.2


def ask(
    source: str | Path | FrameSource,
    question: str | Sequence[str],
    at: float | Sequence[float] | None = None,
    *,
    memory: str = MEMORY,
    answerer: str | Answerer | None = None,
    encoder: str | None = None,
    fps: float | None = 2.0,
    session: str | Path | None = None,
    budget: int | None = BUDGET,
    shown: int = SHOWN,
    speech: str | Path | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Reply]:
    """Return one reply per question about a recording, in the order of the questions.

    Args:
        source: a name that `open_source` knows, or a source, which is closed.
        question: one question or several.
        at: second of the stream of each question, or one for all; None for the end.
        memory: stream memory, by name.
        answerer: by name, or an answerer; None for the default.
        encoder: of the frames, by name; None for the default.
        fps: frames per second that are remembered at most; None for all. A source that is given keeps its own.
        session: folder of the checkpoint: written at the end, and continued where it exists.
        budget: tokens recalled for a question at most.
        shown: lines and key frames of evidence in a reply at most.
        speech: folder of a speech model: what is said in a media file goes into the memory as text.
        options: options by component: ``{"memory": {...}, "answerer": {...}, "encoder": {...}}``.

    Raises:
        UsageError: a name or value is wrong, the source cannot be read, or a live source is asked at its end.
        AnswererError: the answerer cannot answer.
    """
    questions = pair([question] if isinstance(question, str) else question, at)
    eyes, voice = choose(encoder, answerer if isinstance(answerer, str) else None)
    asker = make_asker(
        answerer if isinstance(answerer, Answerer) else voice,
        (options or {}).get("answerer"),
        budget=budget,
        shown=shown,
    )
    config = session_config(memory, eyes, options, session)
    opened = source if isinstance(source, FrameSource) else open_source(source, fps=fps)
    heard = None if speech is None else speech_track(source, speech)
    with Session(opened, config, speech=heard) as running:
        return ask_in_time(running, asker, questions)


def pair(questions: Sequence[str], at: float | Sequence[float] | None) -> list[tuple[str, float]]:
    """Return (question, second) of every question; infinity stands for the end.

    Raises:
        UsageError: there is no question, the counts differ, or a second is negative.
    """
    if not questions:
        raise UsageError("expected at least one question")
    times = [math.inf] if at is None else [float(at)] if isinstance(at, int | float) else [float(t) for t in at]
    times = times * len(questions) if len(times) == 1 else times
    if len(times) != len(questions):
        raise UsageError(f"expected one time for all questions or one for each, got {len(times)} for {len(questions)}")
    if any(not t >= 0 for t in times):
        raise UsageError(f"expected seconds >= 0, got {min(times)}")
    return list(zip(questions, times))


def ask_in_time(
    session: Session, asker: Asker, questions: Sequence[tuple[str, float]], progress: OnProgress | None = None
) -> list[Reply]:
    """Write the stream of a session up to the second of each question, ask it there, and return the replies in order.

    What comes after the last question is not read.

    Raises:
        UsageError: a live source is asked at its end, which never comes.
        AnswererError: the answerer cannot answer.
    """
    if session.source.live and any(math.isinf(t) for _, t in questions):
        raise UsageError(f"{session.source.source_id} has no end: give the second of every question")
    replies: dict[int, Reply] = {}
    for place in sorted(range(len(questions)), key=lambda i: questions[i][1]):
        question, at_s = questions[place]
        _run_until(session, at_s, progress)
        if not session.memory.version and session.reports:
            raise UsageError(f"no frame could be remembered: {session.reports[-1]}")
        earlier = at_s if at_s < session.memory.until_s else None
        replies[place] = session.ask(question, asker, at_s=earlier)
    return [replies[place] for place in range(len(questions))]


def _run_until(session: Session, at_s: float, progress: OnProgress | None) -> None:
    """Write frames up to ``at_s``, a stretch at a time so that progress can be told."""
    told = time.monotonic()
    while _one_more(session, at_s):
        if progress is not None and time.monotonic() - told >= _STEP_S:
            told = time.monotonic()
            progress(session.memory.until_s, session.memory.version)


def _one_more(session: Session, at_s: float) -> bool:
    before = session.counters().produced
    session.run(1, at_s)
    return session.counters().produced > before


def make_asker(answerer: str | Answerer, options: Mapping[str, Any] | None = None, **more: Any) -> Asker:
    """Return who is asked: an answerer, or one by name with its options; ``more`` goes to `Asker`.

    Raises:
        UsageError: the name or an option is wrong.
    """
    if not isinstance(answerer, Answerer):
        answerer = make_answerer(answerer, **(options or {}))
    return Asker(answerer, **more)


def speech_track(source: object, model: str | Path, device: str = "cpu") -> SpeechTrack:
    """Return what is said in a media file, by the speech model in the folder ``model``.

    Raises:
        UsageError: the source is no media file with sound, or the folder holds no model.
    """
    path = Path(str(source).removeprefix("file://"))
    if isinstance(source, FrameSource) or not path.is_file():
        raise UsageError(f"expected the name of a media file where speech is asked for, got {source}")
    return SpeechTrack(path, LocalSpeech(model, device=device))


def session_config(
    memory: str,
    encoder: str,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    session: str | Path | None = None,
    **more: Any,
) -> SessionConfig:
    """Return the config of a session by names and options per component.

    Raises:
        UsageError: a component or value is wrong.
    """
    given = {name: dict(values) for name, values in (options or {}).items()}
    unknown = sorted(set(given) - {"memory", "encoder", "answerer"})
    if unknown:
        raise UsageError(f"expected options of memory, encoder or answerer, got {unknown[0]!r}")
    return SessionConfig(
        memory=memory,
        memory_config=given.get("memory", {}),
        encoder=encoder,
        encoder_options=given.get("encoder", {}),
        checkpoint=None if session is None else str(session),
        **more,
    )
