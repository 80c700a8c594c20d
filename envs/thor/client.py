"""The `ai2thor` client with deadlines: the real `Controller` over a transport that notices a dead or silent player.

The client's own pipe code waits for ever for a player that dies before it connects, and reads the end of a pipe at full
speed until its time-out. Here every wait has a deadline and looks at the process: the two pipes are opened and used
without blocking. All else (messages, events, scene dialogue) is the client's.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from typing import Any

from ai2thor.controller import Controller
from ai2thor.fifo_server import FieldType, FifoServer

SLICE = 0.05
"""Seconds between two looks at the process."""


class PlayerDied(Exception):
    """The player process has ended, or closed its pipe."""


class WatchedServer(FifoServer):
    """The client's pipe server, with every wait bounded by a deadline and by the life of the process."""

    start_timeout = 300.0
    server_pipe: Any
    client_pipe: Any

    def _alive(self) -> None:
        if self.unity_proc is not None and self.unity_proc.poll() is not None:
            raise PlayerDied(f"the player has ended with exit status {self.unity_proc.returncode}")

    def _wait(self, pipe: int, deadline: float, *, write: bool = False) -> None:
        """Return when ``pipe`` is ready; raise `PlayerDied` or TimeoutError."""
        while True:
            ready = select.select([] if write else [pipe], [pipe] if write else [], [], SLICE)
            if ready[0] or ready[1]:
                return
            self._alive()
            if time.monotonic() > deadline:
                raise TimeoutError("the player does not answer")

    def _read_with_timeout(self, server_pipe: Any, message_size: int, timeout: float | None) -> bytes:
        deadline = time.monotonic() + (self.start_timeout if timeout is None else timeout)
        parts, missing = [], message_size
        while missing > 0:
            self._wait(server_pipe.fileno(), deadline)
            part = os.read(server_pipe.fileno(), missing)
            if not part:
                # The pipe closes a moment before the process can be reaped.
                self._reap()
                raise PlayerDied("the player has closed its pipe")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _reap(self) -> None:
        if self.unity_proc is not None:
            try:
                self.unity_proc.wait(1.0)
            except subprocess.TimeoutExpired:
                return
            self._alive()

    def _recv_message(self, timeout: float | None) -> Any:
        if self.server_pipe is None:
            # Without a writer the pipe is not readable, so the first message and the opening are one wait.
            pipe = os.open(self.server_pipe_path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                self._wait(pipe, time.monotonic() + (self.start_timeout if timeout is None else timeout))
            except BaseException:
                os.close(pipe)
                raise
            self.server_pipe = os.fdopen(pipe, "rb", buffering=0)
        return super()._recv_message(timeout)

    def _send_message(self, message_type: FieldType, body: bytes) -> None:
        deadline = time.monotonic() + (self.start_timeout if self.timeout is None else self.timeout)
        while self.client_pipe is None:
            try:
                pipe = os.open(self.client_pipe_path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                self._alive()
                if time.monotonic() > deadline:
                    raise TimeoutError("the player does not open its end of the pipe") from error
                time.sleep(SLICE)
                continue
            self.client_pipe = os.fdopen(pipe, "wb", buffering=0)
        self._last_action_message = body
        rest = memoryview(self._create_header(message_type, body) + body + self.eom_header)
        while rest:
            self._wait(self.client_pipe.fileno(), deadline, write=True)
            try:
                rest = rest[os.write(self.client_pipe.fileno(), rest) :]
            except BlockingIOError:
                continue
            except BrokenPipeError as error:
                self._reap()
                raise PlayerDied("the player has closed its pipe") from error


class WatchedController(Controller):
    """The client's controller over `WatchedServer`; a constructor that fails leaves no process behind."""

    server: Any

    def __init__(self, **options: Any) -> None:
        """Start the player and its first scene; options are those of `ai2thor.controller.Controller`."""
        self._start_limit = float(options.get("server_start_timeout", 300.0))
        step_limit = options.get("server_timeout", 100.0)
        try:
            # The first scene may take as long as the process itself; afterwards the usual limit holds.
            super().__init__(**{**options, "server_timeout": self._start_limit})
            self.server_timeout = self.server.timeout = step_limit
        except BaseException:
            self.kill()
            raise

    def _build_server(self, host: str, port: int, width: int, height: int) -> None:
        if self.server is None:
            self.server = WatchedServer(width, height, self.server_timeout, self.depth_format, self.add_depth_noise)
            self.server.start_timeout = self._start_limit

    @property
    def process(self) -> subprocess.Popen | None:
        """The player's process, None before it was started."""
        server = self.__dict__.get("server")
        return None if server is None else server.unity_proc

    def kill(self) -> None:
        """End the player at once, reap it and remove the pipes; calling it again does nothing."""
        server, process = self.__dict__.get("server"), self.process
        if server is None:
            return
        for pipe in (server.client_pipe, server.server_pipe):
            if pipe is not None:
                pipe.close()
        if process is not None:
            if process.poll() is None:
                process.kill()
            process.wait(30.0)
        server.tmp_dir.cleanup()
        build = self.__dict__.get("_build")
        if build is not None:
            build.unlock()
