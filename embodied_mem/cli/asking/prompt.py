"""The prompt of ``ask`` over a running stream: questions in, answers out, while frames go on being remembered.

    where is the red mug?            asked of the memory as it is now
    where is the red mug? @95        ... as of second 95
    tell me when the door is open    told whenever the answer turns to yes
    /status  /save  /help  /quit

Lines come from standard input, so a file of questions works as well; the end of the input ends the session.
"""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from embodied_mem.cli.asking.written import lines, record, save_frames
from embodied_mem.cli.output import console, stdout
from embodied_mem.errors import UsageError
from embodied_mem.stream.asker import Asker
from embodied_mem.stream.session import Session
from embodied_mem.stream.standing import Alert, StandingQueries, to_be_told

HELP = (
    "a question, a question @SECONDS, or: tell me when SOMETHING IS SO\n"
    "/status what was remembered   /save the memory now   /quit (or Ctrl-D)"
)
_FIRST_FRAME_S = 30.0


def converse(
    session: Session, asker: Asker, folder: Path, *, quiet: bool = False, stdin: TextIO | None = None
) -> list[dict[str, Any]]:
    """Run the stream and the prompt until the input ends or ``/quit``; return a record of every answer.

    Args:
        session: not started yet.
        asker: who answers.
        folder: where evidence frames go.
        quiet: answers go to stderr, since stdout is for one JSON value.
        stdin: lines; None for standard input.

    Raises:
        BaseException: what ended the stream before its time.
    """
    prompt = Prompt(session, asker, folder, console if quiet else stdout)
    session.start()
    prompt.wait_for_frames()
    source = stdin or sys.stdin
    prompt.greet(source.isatty())
    try:
        while True:
            if source.isatty():
                prompt.print("> ", end="")
            line = source.readline()
            if not line or not prompt.take(line.strip()):
                break
    except KeyboardInterrupt:
        prompt.print("")
    prompt.close()
    if session.error is not None:
        raise session.error
    return prompt.answers


class Prompt:
    """One conversation; `take` handles a line, alerts come from a thread of their own."""

    def __init__(self, session: Session, asker: Asker, folder: Path, screen: Console) -> None:
        self.session, self.asker, self.folder, self.screen = session, asker, folder, screen
        self.answers: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._standing: StandingQueries | None = None

    def wait_for_frames(self) -> None:
        """Wait for the first frame, so that the first question finds something; goes on after 30 s without one."""
        waited = threading.Event()
        for _ in range(round(_FIRST_FRAME_S / 0.05)):
            if self.session.memory.version or not self.session.running:
                return
            waited.wait(0.05)
        console.print("no frame yet; questions are answered from what has come", markup=False, highlight=False)

    def greet(self, person: bool) -> None:
        """Say what runs, and to a person what can be typed."""
        name = self.session.source.source_id
        console.print(f"remembering {name}; ask at any time", markup=False, highlight=False)
        if person:
            console.print(HELP, markup=False, highlight=False)

    def take(self, line: str) -> bool:
        """Handle one line; False where it ends the conversation."""
        if not line:
            return True
        if line.startswith("/"):
            return self._command(line)
        try:
            told = to_be_told(line)
            if told is not None:
                self._tell_when(told)
            else:
                self._ask(line)
        except UsageError as error:
            self.print(f"   {error}")
        return True

    def close(self) -> None:
        """End the standing questions."""
        if self._standing is not None:
            self._standing.close()

    def print(self, text: str, end: str = "\n") -> None:
        """Print on the screen of the conversation."""
        self.screen.print(text, markup=False, highlight=False, soft_wrap=True, end=end)

    def _command(self, line: str) -> bool:
        word = line.split()[0]
        if word in ("/quit", "/exit", "/q"):
            return False
        if word == "/save":
            try:
                self.session.save()
                self.print(f"   saved in {self.session.config.checkpoint}")
            except UsageError as error:
                self.print(f"   {error} (give --session DIR)")
        elif word == "/status":
            self._status()
        else:
            self.print(HELP)
        return True

    def _ask(self, line: str) -> None:
        found = re.fullmatch(r"(.*\S)\s*@\s*(\d+(?:\.\d+)?)\s*s?", line)
        question, at_s = (found[1], float(found[2])) if found else (line, None)
        reply = self.session.ask(question, self.asker, at_s=at_s)
        self._show(reply)

    def _tell_when(self, what: str) -> None:
        if self._standing is None:
            self._standing = self.session.tell_when(what, self.asker, self._alert)
        else:
            self._standing.add(what)
        self.print(f"   will tell when: {what}")

    def _alert(self, alert: Alert) -> None:
        self.print(f"\n! {alert.question}: yes, at {alert.at_s:.2f} s")
        self._show(alert.reply)

    def _show(self, reply: Any) -> None:
        with self._lock:
            paths = save_frames(reply, self.folder, len(self.answers) + 1)
            self.answers.append(record(reply, paths))
        for text in lines(reply, paths):
            self.print(text)

    def _status(self) -> None:
        memory, c = self.session.memory, self.session.counters()
        state = "running" if self.session.running else "the stream has ended"
        self.print(
            f"   {state}: {c.written} frames remembered up to {max(memory.until_s, 0):.2f} s, {c.dropped} dropped, "
            f"{c.refused} refused, {c.broken} broken; {len(memory.snapshot().entries)} entries, "
            f"{memory.nbytes() / 1e6:.2f} MB"
        )
        for number, question in (self._standing.questions if self._standing is not None else {}).items():
            trouble = self._standing.trouble(number) if self._standing is not None else None
            self.print(f"   waiting: {question}" + (f" ({trouble})" if trouble else ""))
        for event in list(self.session.source.events)[-3:]:
            self.print(f"   {event.kind} at {event.t_s:.2f} s: {event.message}")
