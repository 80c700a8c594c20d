"""Sessions that people look at: each with its memory's timeline, its answers and its standing questions."""

from __future__ import annotations

import hashlib
import itertools
import math
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from embodied_mem.errors import UsageError
from embodied_mem.stream.answerers.base import OnText
from embodied_mem.stream.asker import Asker, Reply
from embodied_mem.stream.frames import FrameSource
from embodied_mem.stream.pictures import jpeg
from embodied_mem.stream.session import Session, SessionConfig
from embodied_mem.stream.standing import Alert, StandingQueries
from embodied_mem.stream.web.timeline import Timeline

Json = dict[str, Any]
SHOWN_FPS = 15.0
"""Frames per second that are read for showing; the config says how many of them are remembered."""
LIVE_SIDE, THUMB_SIDE = 960, 480
"""Longer sides of live pictures and of evidence, pixels."""
LONGEST_QUESTION = 2000
STANDING = 8
"""Standing questions of one session at most."""
_HISTORY = 50


class RoomsFull(UsageError):
    """There are as many sessions as the server allows."""


@dataclass(frozen=True)
class Limits:
    """What a server allows."""

    sessions: int = 8
    """Sessions at a time."""
    upload_bytes: int = 2_000_000_000
    """Bytes of one uploaded video."""
    picture_bytes: int = 4_000_000
    """Bytes of one picture that a browser sends."""

    def __post_init__(self) -> None:
        if min(self.sessions, self.upload_bytes, self.picture_bytes) < 1:
            raise UsageError(f"expected limits of at least 1, got {self}")


class Room:
    """One session on show; every method may be called from any thread."""

    def __init__(self, number: str, name: str, kind: str, session: Session, asker: Asker) -> None:
        self.number, self.name, self.kind, self.session, self.asker = number, name, kind, session, asker
        self.history: deque[Json] = deque(maxlen=_HISTORY)
        """Answers and alerts, oldest first."""
        self.listeners: set[Callable[[Json], None]] = set()
        """Who is told of alerts; called in any thread."""
        self.closed = False
        self._answers = itertools.count(1)
        self._pictures: dict[int, list[bytes]] = {}
        self._timeline = Timeline()
        self._lock = threading.Lock()
        self._shown: tuple[int, bytes] | None = None
        self._drawn: tuple[int, Json] | None = None
        self._standing: StandingQueries | None = None

    def facts(self) -> Json:
        """Return name and state, for the list of sessions."""
        return {"id": self.number, "name": self.name, "kind": self.kind, "state": self.state}

    @property
    def state(self) -> str:
        """``waiting`` for the first frame, ``live`` or ``playing``, ``lost`` (tried again), ``ended``, ``failed``."""
        if self.session.error is not None:
            return "failed"
        if not self.session.running:
            return "ended"
        if self.session.latest is None:
            return "waiting"
        events = [event.kind for event in list(self.session.source.events) if event.kind in ("lost", "reconnected")]
        if events and events[-1] == "lost":
            return "lost"
        return "live" if self.session.source.live else "playing"

    def status(self) -> Json:
        """Return counters, bytes and state, JSON-able."""
        session, memory = self.session, self.session.memory
        frame = session.latest
        events = [{"kind": e.kind, "t_s": round(e.t_s, 3), "message": e.message} for e in list(session.source.events)]
        return {
            "type": "status",
            "state": self.state,
            "error": None if session.error is None else str(session.error),
            "until_s": memory.until_s if math.isfinite(memory.until_s) else None,
            "frame_s": None if frame is None else round(frame.t_s, 3),
            "size": None if frame is None else [frame.rgb.shape[1], frame.rgb.shape[0]],
            "memory": session.config.memory,
            "encoder": session.config.encoder,
            "bytes": memory.nbytes(),
            "counters": asdict(session.counters()),
            "events": events[-5:],
            "refused": session.reports[-1:] or None,
            "standing": self.standing(),
        }

    def timeline(self) -> Json:
        """Return what the memory holds, see `Timeline.look`; computed once per frame however many look."""
        with self._lock:
            snapshot = self.session.snapshot()
            if self._drawn is None or self._drawn[0] != snapshot.version:
                self._drawn = snapshot.version, {"type": "timeline", **self._timeline.look(snapshot)}
            return self._drawn[1]

    def picture(self) -> tuple[float, bytes] | None:
        """Return time and JPEG of the newest frame, None before the first; encoded once however many look."""
        frame = self.session.latest
        if frame is None:
            return None
        with self._lock:
            if self._shown is None or self._shown[0] != frame.index:
                self._shown = frame.index, jpeg(frame.rgb, LIVE_SIDE, 80)
            return frame.t_s, self._shown[1]

    def ask(self, question: str, at_s: float | None = None, on_text: OnText | None = None) -> Json:
        """Answer a question, keep it in the history, and return it, JSON-able.

        Raises:
            AnswererError: the answerer cannot answer.
            UsageError: the question is empty or too long.
        """
        _check(question)
        reply = self.session.ask(question, self.asker, at_s=at_s, on_text=on_text)
        return self._keep("answer", reply)

    def tell_when(self, question: str) -> int:
        """Put a standing question and return its number.

        Raises:
            UsageError: it is empty or too long, or there are too many.
        """
        _check(question)
        with self._lock:
            if len(self.standing()) >= STANDING:
                raise UsageError(f"expected at most {STANDING} standing questions in one session; remove one")
            if self._standing is None:
                self._standing = self.session.tell_when(question, self.asker, self._alert)
                return next(iter(self._standing.questions))
            return self._standing.add(question)

    def forget(self, number: int) -> bool:
        """Remove a standing question; False if there is none of this number."""
        return self._standing is not None and self._standing.remove(number)

    def standing(self) -> list[Json]:
        """Return the standing questions."""
        if self._standing is None:
            return []
        found = self._standing.questions
        return [{"number": n, "question": text, "trouble": self._standing.trouble(n)} for n, text in found.items()]

    def evidence(self, answer: int, place: int) -> bytes | None:
        """Return the JPEG of an evidence frame; None where there is none, or no longer."""
        pictures = self._pictures.get(answer, [])
        return pictures[place] if 0 <= place < len(pictures) else None

    def close(self) -> None:
        """End the session; a checkpoint folder is written, and viewers are sent away."""
        self.closed = True
        self.session.close()

    def _alert(self, alert: Alert) -> None:
        said = self._keep("alert", replace(alert.reply, question=alert.question))
        for listener in list(self.listeners):
            listener(said)

    def _keep(self, kind: str, reply: Reply) -> Json:
        pictures = [jpeg(frame.rgb, THUMB_SIDE) for frame in reply.frames]
        with self._lock:
            number = next(self._answers)
            self._pictures[number] = pictures
            for old in sorted(self._pictures)[:-_HISTORY]:
                del self._pictures[old]
            said = {
                "type": kind,
                "number": number,
                "question": reply.question,
                "at_s": reply.at_s if math.isfinite(reply.at_s) else None,
                "answer": reply.text,
                "confidence": reply.confidence,
                "evidence": [{"t0": s.t0, "t1": s.t1, "text": s.text} for s in reply.spans],
                "frames": [
                    {"t_s": frame.t_s, "url": f"/api/sessions/{self.number}/answers/{number}/{place}.jpg"}
                    for place, frame in enumerate(reply.frames)
                ],
                "total_ms": round(reply.answer.total_ms, 1),
            }
            self.history.append(said)
        return said


class Rooms:
    """All sessions of one server."""

    def __init__(self, asker: Asker, config: SessionConfig, uploads: Path, limits: Limits | None = None) -> None:
        """Begin without sessions.

        Args:
            asker: who answers, for all of them; called from several threads.
            config: of every session; its ``checkpoint`` is the folder in which each gets one of its own.
            uploads: folder of uploaded videos.
            limits: what is allowed.
        """
        self.asker, self.config, self.uploads, self.limits = asker, config, uploads, limits or Limits()
        self.pace = 1.0
        """Speed at which uploads are played; 0 for as fast as it goes."""
        self._rooms: dict[str, Room] = {}
        self._files: dict[str, Path] = {}
        self._reserved = 0
        self._lock = threading.Lock()

    def open(self, source: FrameSource, kind: str, *, address: str | None = None, file: Path | None = None) -> Room:
        """Start a session on a source and return its room.

        Args:
            source: where the frames come from; closed on failure.
            kind: ``source``, ``upload`` or ``browser``.
            address: what names the source again after a restart, so that its checkpoint is found; None for nothing.
            file: an upload, deleted when the session is closed.

        Raises:
            RoomsFull: there are too many.
            UsageError: the checkpoint in the folder is of another memory.
        """
        try:
            config = self.config
            if config.checkpoint is not None:
                kept = None if address is None else _folder(Path(config.checkpoint), source.source_id, address)
                config = replace(config, checkpoint=kept)
            with self._lock:
                self.check_room()
                number = secrets.token_hex(4)
                room = Room(number, source.source_id, kind, Session(source, config), self.asker)
                self._rooms[number] = room
                if file is not None:
                    self._files[number] = file
        except BaseException:
            source.close()
            raise
        room.session.start()
        return room

    def check_room(self) -> None:
        """Refuse a further session where there are as many as allowed.

        Raises:
            RoomsFull: there are.
        """
        if len(self._rooms) + self._reserved >= self.limits.sessions:
            raise RoomsFull(f"expected at most {self.limits.sessions} sessions at a time; close one")

    @contextmanager
    def reserve(self) -> Iterator[None]:
        """Hold the place of one session while its video comes in, so that uploads cannot outnumber the sessions.

        Raises:
            RoomsFull: there is none.
        """
        with self._lock:
            self.check_room()
            self._reserved += 1
        try:
            yield
        finally:
            with self._lock:
                self._reserved -= 1

    def get(self, number: str) -> Room | None:
        """Return a room; None if there is none of this number."""
        return self._rooms.get(number)

    def all(self) -> list[Room]:
        """Return every room, the oldest first."""
        return list(self._rooms.values())

    def close(self, number: str) -> bool:
        """End a session and delete its upload; False if there is none of this number."""
        with self._lock:
            room, file = self._rooms.pop(number, None), self._files.pop(number, None)
        if room is None:
            return False
        room.close()
        if file is not None:
            file.unlink(missing_ok=True)
        return True

    def close_all(self) -> None:
        """End every session."""
        for room in self.all():
            self.close(room.number)


def _check(question: str) -> None:
    if not question.strip():
        raise UsageError("expected a question, got an empty text")
    if len(question) > LONGEST_QUESTION:
        raise UsageError(f"expected a question of at most {LONGEST_QUESTION} characters, got {len(question)}")


def _folder(top: Path, name: str, address: str) -> str:
    """Return the folder of a source: readable, without logins, and not that of another source of the same name."""
    kept = "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip("-.")[:60] or "source"
    return str(top / f"{kept}-{hashlib.sha256(address.encode()).hexdigest()[:8]}")
